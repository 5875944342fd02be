"""Suspend, start, discard and delete of simulated VMs: the states and their rules. With memories: tests/e2e/test_suspend.py."""


def test_a_simulated_one(fresh):
    api = fresh.client()
    api.post("/vms", {"name": "s", "config": {"engine": "sim"}, "start": True})
    api.wait_state("s", "running")
    vm = api.post("/vms/s/suspend")
    assert vm["status"]["state"] == "suspended" and vm["status"]["last_end"]["why"] == "suspended"
    fresh.kill()
    fresh.start()
    api = fresh.client()
    vm = api.vm("s")
    assert vm["status"]["state"] == "suspended" and vm["status"]["last_end"]["why"] == "suspended"
    assert vm["status"]["last_end"]["when"]
    assert [v["name"] for v in api.items("/vms?state=suspended")] == ["s"]
    problem = api.problem(409, "POST", "/vms/s/poweroff")
    assert problem["hint"] == "what it can do now: start, discard", problem
    assert api.post("/vms/s/start")["status"]["state"] == "running"
    assert api.problem(409, "POST", "/vms/s/discard")
    api.post("/vms/s/suspend")
    assert api.post("/vms/s/discard")["status"]["state"] == "off"
    api.post("/vms/s/start")
    api.post("/vms/s/suspend")
    api.ok("DELETE", "/vms/s")
    assert api.items("/vms") == []


def test_in_maintenance_it_is_not_started(fresh):
    api = fresh.client()
    api.post("/vms", {"name": "s", "config": {"engine": "sim"}, "start": True})
    api.wait_state("s", "running")
    api.post("/vms/s/suspend")
    api.post("/host/maintenance", {})
    assert "maintenance" in api.problem(409, "POST", "/vms/s/start")["detail"]
    assert api.vm("s")["status"]["state"] == "suspended"
