"""croftd is killed at every point of a suspend and of the start that follows it, with a guest whose memory counts: a shell
that remembers what it was told, and a number that only grows. No memory is lost, and none runs twice."""
import contextlib
import http.client
import itertools
import os

import pytest
from croft import GUEST, O, croftd, wait_for
from test_steps import FAULTS, House

numbers = itertools.count(1)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with croftd("--demo", GUEST, "--libexec", O) as c:
        api = c.client()
        api.wait_state("demo", "running")
        console = api.console("demo")
        console.until(b"demo:~# ")
        console.close()
        yield House(c, tmp_path_factory.mktemp("faults"))


def shell(api, command):
    console = api.console("demo")
    console.type("\n")
    console.until(b"demo:~# ")
    said = console.command(command)
    console.close()
    return said


def die_at(house, point, verb):
    house.start(CROFT_DIE_AT=point)
    house.api.wait_state("demo", "running" if verb == "suspend" else "suspended")
    with contextlib.suppress(OSError, http.client.HTTPException):
        house.api.request("POST", f"/vms/demo/{verb}")
    wait_for(f"croftd dies at {point}", lambda: house.c.process.poll() is not None, 20)
    house.start()
    api = house.api
    wait_for("all tasks have ended", lambda: not api.get("/host")["agent"]["tasks_open"])
    return wait_for("it is attached", lambda: (vm := api.vm("demo"))["status"]["state"] != "attaching" and vm)


def points(house, verb):
    house.start(CROFT_FAULT_LOG=house.log)
    house.api.wait_state("demo", "running" if verb == "suspend" else "suspended")
    house.api.post(f"/vms/demo/{verb}")
    return [p for p in house.points()[0] if p.startswith("vm.suspend" if verb == "suspend" else "vm.wake")]


def memory_file(house, vm):
    return f"{house.store}/{vm['folder'].removeprefix('[local] ')}/memory.croft"


def test_each_point_of_a_suspend_and_a_start(house):
    ways = {"suspend": points(house, "suspend")}
    ways["start"] = points(house, "start")
    assert len(ways["suspend"]) >= 7 and len(ways["start"]) >= 5, ways
    told = 0
    for verb, point in [(verb, p) for verb in ways for p in ways[verb]]:
        shell(house.api, f"told={(told := next(numbers))}")
        if verb == "start":
            house.api.post("/vms/demo/suspend")
        vm = die_at(house, point, verb)
        state = vm["status"]["state"]
        assert state in ("running", "suspended"), (point, vm)
        assert len(house.c.qemu()) == (state == "running"), (point, vm)
        assert os.path.exists(memory_file(house, vm)) == bool(vm["status"]["saved"]) == (state == "suspended"), (point, vm)
        if state == "suspended":
            assert vm["status"]["last_end"]["why"] == "suspended", (point, vm["status"]["last_end"])
            house.api.post("/vms/demo/start")
        assert f"told-{told}-".encode() in shell(house.api, "echo told-$told-"), point


def test_a_task_that_fails_leaves_it_running(house):
    """Each step of a suspend fails once: the guest runs on, and nothing of it stays on disk."""
    for step in range(3):
        house.start(CROFT_FAIL_AT=f"vm.suspend:{step}:begin")
        api = house.api
        api.wait_state("demo", "running")
        shell(api, f"told={step}")
        answer = api.request("POST", "/vms/demo/suspend", None, {"Prefer": "wait=30"})
        assert answer.status == 503, answer
        vm = api.wait_state("demo", "running", 5)
        assert vm["status"]["saved"] is None and not os.path.exists(memory_file(house, vm))
        assert f"told-{step}-".encode() in shell(api, "echo told-$told-")
    house.start()
