"""VMs start with the host: once in each boot, one order after the other, each order when the one before it is up."""
import contextlib
import json
import sqlite3

import pytest
import tiny
from croft import croftd, wait_for


def another_boot(c, end=True):
    """The next croftd finds that the host has been restarted meanwhile."""
    c.end() if end else c.kill()
    with contextlib.closing(sqlite3.connect(f"{c.home}/croft.db")) as db, db:
        assert db.execute("UPDATE settings SET value = 'another' WHERE key = 'boot_id'").rowcount == 1
        db.execute("UPDATE tasks SET args = json_set(args, '$.boot', 'another') WHERE kind = 'host.autostart'")
    c.start()
    return c.client()


def sim(api, name, autostart=True, **startup):
    api.post("/vms", {"name": name, "config": {"engine": "sim", "autostart": autostart, "startup": startup}})


def task(api, kind="host.autostart"):
    return next((t for t in api.items("/tasks") if t["kind"] == kind), None)


def ended(api, kind="host.autostart"):
    return api.get(f"/tasks/{task(api, kind)['id']}", Prefer="wait=30")


def events(api):
    found, after = [], 0
    while page := api.get(f"/events?after={after}&limit=1000&wait=0")["items"]:
        found, after = found + page, page[-1]["seq"]
    return found


def story(api):
    """What happened: (kind, name, state), in order; without what came twice."""
    seen = []
    for e in events(api):
        if not e["kind"].startswith(("task.", "vm.")) or not e["data"]:
            continue
        data = e["data"]
        entry = (data["kind"], data["target_name"], data["state"]) if "target_name" in data else \
            ("vm", data["name"], data["status"]["state"])
        if entry not in seen:
            seen.append(entry)
    return seen


def test_vms_start_with_the_host():
    with croftd() as c:
        api = c.client()
        for name, autostart in ("web", True), ("db", True), ("lab", False):
            sim(api, name, autostart)
        c.end()
        c.start()
        assert {v["status"]["state"] for v in c.client().items("/vms")} == {"off"}, "croftd was restarted, not the host"
        api = another_boot(c)
        api.wait_state("web", "running")
        api.wait_state("db", "running")
        assert api.vm("lab")["status"]["state"] == "off"
        assert "2 VMs are to be started with it" in c.log
        started = [t for t in api.items("/tasks") if t["kind"] == "vm.start"]
        assert {t["target_name"] for t in started} == {"web", "db"} and {t["user"] for t in started} == {"croft"}
        assert ended(api)["state"] == "done" and task(api)["target"] == "host"
        api.post("/vms/web/poweroff")
        c.end()
        c.start()
        assert c.client().vm("web")["status"]["state"] == "off", "once in a boot"


def test_one_order_after_the_other():
    with croftd() as c:
        api = c.client()
        sim(api, "front", order=30)
        sim(api, "db1", order=10)
        sim(api, "db2", order=10, gate="time", patience_s=1)
        sim(api, "mid", order=20, delay_s=1)
        api = another_boot(c)
        assert ended(api)["state"] == "done"
        told = story(api)
        at = {name: (told.index(("vm.start", name, "running")), told.index(("vm", name, "running")))
              for name in ("db1", "db2", "mid", "front")}
        assert max(at["db1"][1], at["db2"][1]) < at["mid"][0] < at["mid"][1] < at["front"][0], told
        notes = [e["data"]["note"] for e in events(api) if e["kind"] == "task.changed" and e["data"]["note"]]
        assert "order 10: db2" in notes and "order 20: mid" in notes, notes


def test_patience_is_over_and_the_next_order_begins():
    with croftd() as c:
        api = c.client()
        sim(api, "quiet", order=1, gate="agent", patience_s=1)
        sim(api, "next", order=2)
        api = another_boot(c)
        assert ended(api)["state"] == "done"
        assert api.vm("next")["status"]["state"] == "running"
        assert "quiet is not up after 1 s (its guest agent does not answer); it is not waited for any longer" in c.log


def test_one_that_does_not_start_holds_nobody_up():
    with croftd() as c:
        api = c.client()
        api.post("/vms", {"name": "broken", "config": tiny.config(autostart=True, startup={"order": 1}, kernel={"image": "[local] none.bin"})})
        sim(api, "next", order=2)
        api = another_boot(c)
        t = ended(api)
        assert t["state"] == "failed" and "1 of 2 VMs could not be started: broken" in t["error"]["detail"], t
        assert api.vm("next")["status"]["state"] == "running"


def test_it_can_be_cancelled_and_done_again():
    with croftd() as c:
        api = c.client()
        sim(api, "quiet", order=1, gate="agent", patience_s=3600)
        sim(api, "next", order=2)
        api = another_boot(c)
        api.wait_state("quiet", "running")
        problem = api.problem(409, "POST", "/host/autostart")
        assert problem["task"] == task(api)["id"] and "host.autostart" in problem["detail"]
        assert api.ok("DELETE", f"/tasks/{task(api)['id']}")["state"] == "cancelled"
        assert api.vm("next")["status"]["state"] == "off" and api.vm("quiet")["status"]["state"] == "running"
        api.ok("PATCH", "/vms/quiet", {"config": {"startup": {"gate": "none"}}})
        api.post("/host/autostart")
        assert api.vm("next")["status"]["state"] == "running"


def test_a_gate_that_is_taken_away_is_open():
    with croftd() as c:
        api = c.client()
        sim(api, "quiet", order=1, gate="agent", patience_s=3600)
        sim(api, "next", order=2)
        api = another_boot(c)
        api.wait_state("quiet", "running")
        api.ok("PATCH", "/vms/quiet", {"config": {"startup": {"gate": "none"}}})
        assert ended(api)["state"] == "done" and api.vm("next")["status"]["state"] == "running"


def test_killed_in_the_middle():
    """The next croftd goes on where it was; what was powered off meanwhile stays off."""
    with croftd() as c:
        api = c.client()
        tiny.upload(api)
        for name, startup in ("held", {"order": 1, "gate": "agent", "patience_s": 3600}), ("gone", {"order": 1}), ("next", {"order": 2}):
            api.post("/vms", {"name": name, "config": tiny.config(autostart=True, startup=startup)})
        api = another_boot(c)
        api.wait_state("held", "running")
        api.wait_state("gone", "running")
        api.post("/vms/gone/poweroff")
        before = c.qemu()
        c.kill()
        c.start()
        api = c.client()
        api.wait_state("held", "running")
        wait_for("it goes on", lambda: api.get(f"/tasks/{task(api)['id']}")["note"] == "order 1: held")
        api.ok("PATCH", "/vms/held", {"config": {"startup": {"gate": "none"}}})
        assert ended(api)["state"] == "done"
        assert api.vm("next")["status"]["state"] == "running" and api.vm("gone")["status"]["state"] == "off"
        assert set(before) < set(c.qemu()) and len(c.qemu()) == 2
        starts = [t["target_name"] for t in api.items("/tasks") if t["kind"] == "vm.start"]
        assert sorted(starts) == ["gone", "held", "next"] and len([t for t in api.items("/tasks") if t["kind"] == "host.autostart"]) == 1


def test_a_delay_goes_on_when_croftd_is_killed():
    """It does not begin anew. (Here most of it goes by in the task's row.)"""
    with croftd() as c:
        api = c.client()
        sim(api, "late", delay_s=60)
        api = another_boot(c)

        def turns():
            with contextlib.closing(sqlite3.connect(f"{c.home}/croft.db")) as db:
                rows = db.execute("SELECT data FROM tasks WHERE kind = 'host.autostart'").fetchall()
                return rows and json.loads(rows[0][0]).get("turns")
        came, vm = wait_for("its turn has come", turns), api.vm("late")["id"]
        c.kill()
        c.start()
        api = c.client()
        wait_for("it is waited for", lambda: api.get(f"/tasks/{task(api)['id']}")["note"])
        assert turns() == came and api.vm("late")["status"]["state"] == "off"
        c.kill()
        with contextlib.closing(sqlite3.connect(f"{c.home}/croft.db")) as db, db:
            db.execute("UPDATE tasks SET data = replace(data, ?, ?) WHERE kind = 'host.autostart'",
                       (str(came[vm]), str(came[vm] - 60 * 10**6)))
        c.start()
        c.client().wait_state("late", "running")


def test_killed_and_the_host_restarted():
    """The autostart of the boot before is over; this boot has its own."""
    with croftd() as c:
        api = c.client()
        sim(api, "quiet", order=1, gate="agent", patience_s=3600)
        api = another_boot(c)
        api.wait_state("quiet", "running")
        first = task(api)["id"]
        another_boot(c, end=False)
        api = c.client()
        api.wait_state("quiet", "running")
        old = api.get(f"/tasks/{first}", Prefer="wait=10")
        assert old["state"] == "failed" and "the host was restarted" in old["error"]["detail"], old
        assert task(api)["id"] > first
        api.ok("DELETE", f"/tasks/{task(api)['id']}")


@pytest.mark.parametrize("startup, nics, says", [
    ({"gate": "port"}, {}, "needs the number"),
    ({"gate": "port", "port": 80}, {"n": {"forwards": [{"host_port": 18080, "guest_port": 81}]}}, "no forward leads there"),
    ({"gate": "port", "port": 80}, {"n": {"forwards": [{"host_port": 18080, "guest_port": 80, "protocol": "udp"}]}}, "no forward leads there"),
])
def test_a_port_gate_needs_a_forward(api, startup, nics, says):
    problem = api.problem(422, "POST", "/vms", {"name": "p", "config": {"engine": "sim", "startup": startup, "nics": nics}})
    assert says in problem["detail"] and problem["errors"][0]["pointer"] == "/config/startup/port", problem
