"""Maintenance: no VM is started, those that run are brought to an end, and started again afterwards. And the host's end."""
import re
import signal

import pytest
import tiny
from croft import croftd, wait_for
from test_autostart import another_boot


def sim(api, name, **config):
    api.post("/vms", {"name": name, "start": True, "config": {"engine": "sim", **config}})


def guest(api, name, image="tiny.bin", order=100, **shutdown):
    api.post("/vms", {"name": name, "config": tiny.config(kernel={"image": f"[local] {image}"}, startup={"order": order}, shutdown=shutdown)})
    api.post(f"/vms/{name}/start")


def states(api):
    return {v["name"]: v["status"]["state"] for v in api.items("/vms")}


def task(api, kind="host.maintenance"):
    return next(t for t in api.items("/tasks") if t["kind"] == kind)


@pytest.fixture
def c():
    with croftd() as c:
        api = c.client()
        tiny.upload(api)
        tiny.upload(api, "deaf.bin", tiny.DEAF)
        yield c
        api = c.client()
        for vm in api.items("/vms"):        # who is deaf would have its end waited for
            if "deaf" in vm["config"]["kernel"].get("image", "") and vm["status"]["state"] != "off":
                api.post(f"/vms/{vm['name']}/poweroff")


def test_nothing_is_started_while_it_is_on(c):
    api = c.client()
    sim(api, "web")
    sim(api, "db")
    api.post("/vms", {"name": "off", "config": {"engine": "sim"}})
    told = api.post("/host/maintenance", {"action": "poweroff"})
    assert told["on"] and told["by"] == "root" and told["action"] == "poweroff" and not told["running"], told
    assert api.get("/host")["agent"]["maintenance"] == told
    for verb, path, body in ("POST", "/vms/off/start", None), ("POST", "/host/autostart", None), \
            ("POST", "/vms", {"name": "new", "start": True, "config": {"engine": "sim"}}):
        problem = api.problem(409, verb, path, body)
        assert problem["type"] == "/problems/wrong-state", problem
        assert "in maintenance, set by root at " in problem["detail"] and "vmctl maintenance off" in problem["hint"], problem
    api.post("/vms", {"name": "new", "config": {"engine": "sim"}})
    told = api.ok("DELETE", "/host/maintenance")
    assert not told["on"] and told["by"] is None and told["running"] == 2, told
    assert states(api) == {"web": "running", "db": "running", "off": "off", "new": "off"}
    assert "not in maintenance" in api.problem(409, "DELETE", "/host/maintenance")["detail"]


def test_a_reboot_is_refused_before_it_shuts_down(c):
    api = c.client()
    guest(api, "vm", "deaf.bin", timeout_s=3600)
    api.request("POST", "/host/maintenance")
    assert "in maintenance" in api.problem(409, "POST", "/vms/vm/reboot")["detail"]
    api.ok("DELETE", f"/tasks/{task(api)['id']}")
    assert states(api)["vm"] != "off"
    api.post("/vms/vm/poweroff")


def test_orders_descend_and_progress_is_told(c):
    api = c.client()
    guest(api, "front", order=30)
    guest(api, "mid", "deaf.bin", order=20, timeout_s=1)
    guest(api, "db", order=10)
    seen = api.events(query="?kinds=task.changed,vm.changed")
    api.post("/host/maintenance")
    notes, off = [], []
    for _, kind, event in seen:
        data = event["data"]
        if kind == "task.changed" and data["note"]:
            notes.append(data["note"])
        if kind == "vm.changed" and data["status"]["state"] == "off" and data["name"] not in off:
            off.append(data["name"])
        if len(off) == 3:
            break
    assert off == ["front", "mid", "db"]
    assert notes[0].startswith("3 of 3 VMs left: db, front, mid") and "1 of 3 VMs left: db" in notes, notes
    assert api.vm("mid")["status"]["last_end"]["why"] == "poweroff"
    assert api.vm("front")["status"]["last_end"]["why"] == "guest-shutdown"
    api.ok("DELETE", "/host/maintenance")
    assert set(states(api).values()) == {"running"}
    assert [t["target_name"] for t in api.items("/tasks") if t["kind"] == "vm.start"][:3] == ["front", "mid", "db"], "newest first"


def test_waiting_ends_nobody(c):
    api = c.client()
    guest(api, "vm")
    answer = api.request("POST", "/host/maintenance", {"action": "wait"})
    assert answer.status == 202
    problem = api.problem(409, "DELETE", "/host/maintenance")
    assert problem["task"] == answer.json["id"] and "host.maintenance" in problem["detail"]
    assert states(api) == {"vm": "running"}
    api.post("/vms/vm/shutdown")
    assert api.get(f"/tasks/{answer.json['id']}", Prefer="wait=30")["state"] == "done"
    api.ok("DELETE", "/host/maintenance")
    assert states(api) == {"vm": "off"}, "it was its owner who shut it down"


def test_cancelled_it_stays_on_and_its_end_starts_what_was_drained(c):
    api = c.client()
    guest(api, "front", order=20)
    guest(api, "deaf", "deaf.bin", order=10, timeout_s=3600)
    api.request("POST", "/host/maintenance")
    api.wait_state("deaf", "stopping")
    cancelled = api.ok("DELETE", f"/tasks/{task(api)['id']}")
    assert cancelled["state"] == "cancelled" and "stays in maintenance" in cancelled["error"]["detail"]
    assert api.get("/host/maintenance")["on"] and states(api) == {"front": "off", "deaf": "stopping"}
    told = api.post("/host/maintenance", {"timeout_s": 1})          # once more, with less patience
    assert not told["running"] and states(api) == {"front": "off", "deaf": "off"}
    api.ok("DELETE", "/host/maintenance")
    assert states(api) == {"front": "running", "deaf": "running"}


def test_only_who_manages_the_host(c):
    api = c.client()
    guest(api, "deaf", "deaf.bin", timeout_s=3600)
    token = api.post("/tokens", {"name": "op", "role": "operator", "user": "admin"})["secret"]
    operator = c.client(tls=True, token=token)
    assert operator.problem(403, "POST", "/host/maintenance")["permission"] == "host.manage"
    api.request("POST", "/host/maintenance")
    assert "host.manage" in operator.problem(403, "DELETE", f"/tasks/{task(api)['id']}")["hint"]
    assert operator.get("/host/maintenance")["by"] == "root"
    api.ok("DELETE", f"/tasks/{task(api)['id']}")


def test_killed_while_it_drains(c):
    api = c.client()
    guest(api, "front", order=20)
    guest(api, "deaf", "deaf.bin", order=10, timeout_s=2)
    api.request("POST", "/host/maintenance")
    api.wait_state("deaf", "stopping")
    since = api.get("/host/maintenance")["since"]
    c.kill()
    c.start()
    api = c.client()
    assert api.get(f"/tasks/{task(api)['id']}", Prefer="wait=30")["state"] == "done"
    told = api.get("/host/maintenance")
    assert told["on"] and told["since"] == since and states(api) == {"front": "off", "deaf": "off"}
    api.request("DELETE", "/host/maintenance")
    c.kill()
    c.start()
    api = c.client()
    if api.get("/host/maintenance")["on"]:      # it was killed before that was committed
        api.ok("DELETE", "/host/maintenance")
    assert api.get(f"/tasks/{task(api, 'host.restore')['id']}", Prefer="wait=30")["state"] == "done"
    assert states(api) == {"front": "running", "deaf": "running"}


def test_it_outlives_the_host(c):
    from test_autostart import another_boot
    api = c.client()
    sim(api, "drained")
    api.post("/vms", {"name": "auto", "config": {"engine": "sim", "autostart": True}})
    api.post("/vms", {"name": "off", "config": {"engine": "sim"}})
    api.post("/host/maintenance")
    api = another_boot(c)
    assert set(states(api).values()) == {"off"} and api.get("/host/maintenance")["on"]
    assert "is in maintenance: what starts with it is started when that ends" in c.log
    api.ok("DELETE", "/host/maintenance")
    assert states(api) == {"drained": "running", "auto": "running", "off": "off"}
    c.end()
    c.start()
    assert set(states(c.client()).values()) == {"off"}, "this boot's start has been"


# ---- croftd --stop


def said(text, *words):
    """The lines about VMs, in order."""
    return [line for line in text.splitlines() if re.match(r"\w+: ", line) and (not words or any(w in line for w in words))]


def test_who_was_woken_by_hand_is_not_woken_again(c):
    """The host's end has suspended both; one was taken up since then, and suspended by a user."""
    api = c.client()
    for name in "taken", "left":
        guest(api, name, action="suspend")
    c.stop()
    c.start()
    api = c.client()
    assert states(api) == {"taken": "suspended", "left": "suspended"}
    api.post("/vms/taken/start")
    api.post("/vms/taken/suspend")
    api = another_boot(c)
    api.wait_state("left", "running")
    wait_for("all is started", lambda: task(api, "host.autostart")["state"] == "done")
    assert states(api) == {"taken": "suspended", "left": "running"}


def test_the_host_ends_in_orders(c):
    api = c.client()
    guest(api, "front", order=30)
    guest(api, "plug", order=20, action="poweroff")
    guest(api, "mid", "deaf.bin", order=20, timeout_s=1)
    guest(api, "db", order=10)
    api.post("/vms/db/pause")
    lines = said(c.stop())
    assert lines[:2] == ["front: asked to shut down", "front: off"]
    assert sorted(lines[2:7]) == ["mid: asked to shut down", "mid: off", "mid: powered off, since the guest has not ended", "plug: off",
                                  "plug: powered off"]
    assert lines[7:] == ["db: asked to shut down", "db: off"]
    c.start()
    assert set(states(c.client()).values()) == {"off"}


def test_all_of_it_is_bounded(c):
    """The times of the VMs are shortened in proportion, so that each order has its turn."""
    api = c.client()
    guest(api, "front", "deaf.bin", order=20, timeout_s=3600)
    guest(api, "db", order=10, timeout_s=3600)
    lines = said(c.stop("--patience", "2"))
    assert lines == ["front: asked to shut down", "front: powered off, since the guest has not ended", "front: off",
                     "db: asked to shut down", "db: off"]
    c.start()


def test_a_drain_that_was_killed_goes_on(c):
    api = c.client()
    guest(api, "front", order=20)
    guest(api, "deaf", "deaf.bin", order=10, timeout_s=60)
    first = c.popen_stop("--patience", "300")
    for line in first.stdout:
        if line == "deaf: asked to shut down\n":
            break
    first.send_signal(signal.SIGKILL)
    first.wait()
    c.process.wait(10)
    assert len(c.qemu()) == 1
    lines = said(c.stop("--patience", "1"))
    assert lines[-2:] == ["deaf: powered off, since the guest has not ended", "deaf: off"] and not [x for x in lines if "front" in x]
    wait_for("nothing runs", lambda: not c.processes())
    c.start()
