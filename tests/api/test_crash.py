"""What follows when a VM has crashed: on_crash. With the tiny guest, and with QEMUs that are killed."""
import contextlib
import os
import signal
import sqlite3

import pytest
import tiny
from croft import wait_for


@pytest.fixture
def home(fresh):
    tiny.upload(fresh.client())
    return fresh


def run(api, name, **config):
    api.post("/vms", {"name": name, "config": tiny.config(**config)})
    return api.post(f"/vms/{name}/start")


def crash(api, name):
    """Kills its QEMU. Returns it as it is then, off."""
    pid = api.vm(name)["status"]["pid"]
    os.kill(pid, signal.SIGKILL)
    return wait_for("it has ended", lambda: (vm := api.vm(name))["status"]["pid"] != pid and vm)


def again(api, name):
    return api.wait_state(name, "running", 20)["status"]


def starts(api):
    return [t for t in api.items("/tasks") if t["kind"] == "vm.start"]


def test_restart_with_back_off(home):
    api = home.client()
    run(api, "a", on_crash="restart")
    for n in (1, 2):
        vm = crash(api, "a")
        assert vm["status"]["state"] == "off" and vm["status"]["last_end"]["why"] == "killed"
        assert "it is started again at" in vm["status"]["note"] and f"crash {n} in a row" in vm["status"]["note"], vm
        again(api, "a")
    assert [t["user"] for t in starts(api)] == ["croft", "croft", "root"]
    assert api.vm("a")["status"]["note"] is None


def test_off_stays_off_and_a_wish_ends_the_waiting(home):
    api = home.client()
    run(api, "a", on_crash="off")
    vm = crash(api, "a")
    assert vm["status"]["state"] == "off" and vm["status"]["note"] is None
    api.ok("PATCH", "/vms/a", {"config": {"on_crash": "restart"}})
    api.post("/vms/a/start")
    crash(api, "a")
    again(api, "a")
    assert crash(api, "a")["status"]["note"]                    # two seconds
    now = api.post("/vms/a/poweroff")
    assert now["status"]["state"] == "off" and now["status"]["note"] is None
    home.kill()
    home.start()
    api = home.client()
    assert api.vm("a")["status"]["state"] == "off" and api.vm("a")["status"]["note"] is None
    api.problem(409, "POST", "/vms/a/poweroff")
    assert len(starts(api)) == 3


def test_while_croftd_is_away(home):
    """What crashed meanwhile, and what waited when croftd died, is started; what was powered off is not."""
    api = home.client()
    vms = {name: run(api, name, on_crash="restart") for name in "abc"}
    api.post("/vms/c/poweroff")
    crash(api, "b")
    again(api, "b")
    assert crash(api, "b")["status"]["note"]
    home.kill()
    os.kill(vms["a"]["status"]["pid"], signal.SIGKILL)
    wait_for("it is gone", lambda: vms["a"]["status"]["pid"] not in home.qemu())
    home.start()
    api = home.client()
    again(api, "a")
    again(api, "b")
    assert api.vm("c")["status"]["state"] == "off"


def test_not_in_maintenance(home):
    api = home.client()
    run(api, "a", on_crash="restart")
    crash(api, "a")
    again(api, "a")
    assert crash(api, "a")["status"]["note"]
    api.post("/host/maintenance", {"action": "poweroff"})
    wait_for("it waits no more", lambda: api.vm("a")["status"]["note"] is None)
    assert api.vm("a")["status"]["state"] == "off"


def test_a_wish_that_croftd_has_slept_through_stays(home):
    """It was powered off; croftd died before that was in its row. No croftd takes that end for a crash, not the one after the
    next either."""
    api = home.client()
    vm = run(api, "a", on_crash="restart")
    home.kill()
    with contextlib.closing(sqlite3.connect(f"{home.home}/croft.db")) as db, db:
        db.execute("INSERT INTO tasks (kind, target_kind, target, target_name, user, args, data, state, step, created)"
                   " VALUES ('vm.poweroff', 'vm', ?, 'a', 'root', '{}', '{}', 'running', 0, 1)", (vm["id"],))
    os.kill(vm["status"]["pid"], signal.SIGKILL)
    wait_for("QEMU is gone", lambda: not home.qemu())
    for _ in range(2):
        home.start()
        api = home.client()
        api.wait_state("a", "off")
        wait_for("nothing is open", lambda: not api.get("/host")["agent"]["tasks_open"])
        assert api.vm("a")["status"]["note"] is None
        home.kill()
    home.start()
    assert home.client().vm("a")["status"]["note"] is None and len(starts(home.client())) == 1


def test_one_that_waits_comes_back_after_maintenance(home):
    api = home.client()
    run(api, "a", on_crash="restart")
    crash(api, "a")
    again(api, "a")
    assert crash(api, "a")["status"]["note"]                    # two seconds
    api.post("/host/maintenance", {})
    wait_for("it waits no more", lambda: api.vm("a")["status"]["note"] is None)
    assert api.vm("a")["status"]["state"] == "off"
    api.ok("DELETE", "/host/maintenance", None, Prefer="wait=30")
    again(api, "a")
