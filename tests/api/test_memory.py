"""A VM's memory while it runs: what QEMU is told, with a guest that has no drivers for it (tests/e2e/test_memory.py has one
that does), and what has to wait for the next start."""
import uuid

import pytest
import tiny
from croft import wait_for

MIB = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def kernel(croft):
    tiny.upload(croft.client())


@pytest.fixture
def name(api):
    name = "m" + uuid.uuid4().hex[:8]
    yield name
    if api.get(f"/vms/{name}")["status"]["state"] != "off":
        api.post(f"/vms/{name}/poweroff")
    api.ok("DELETE", f"/vms/{name}")


def start(api, name, **config):
    api.post("/vms", {"name": name, "config": tiny.config(**config)})
    assert api.get(f"/vms/{name}")["status"]["memory"] == {
        "boot_bytes": 0, "current_bytes": 0, "wanted_bytes": 64 * MIB, "as_of": None}
    api.post(f"/vms/{name}/start")
    vm = api.wait_state(name, "running")
    memory = vm["status"]["memory"]
    assert memory.pop("as_of") and memory == {key: 64 * MIB for key in ("boot_bytes", "current_bytes", "wanted_bytes")}
    assert not vm["pending"]


def change(api, name, **config):
    return api.ok("PATCH", f"/vms/{name}", {"config": config})


def test_it_grows_as_far_as_it_was_started_for(croft, api, name):
    start(api, name, memory_max_bytes=256 * MIB)
    for size in (129, 256, 32, 64):
        vm = change(api, name, memory_bytes=size * MIB)
        assert not vm["pending"] and not vm["pending_reasons"], vm
        memory = vm["status"]["memory"]
        assert memory["wanted_bytes"] == size * MIB and memory["boot_bytes"] == memory["current_bytes"] == 64 * MIB
    vm = change(api, name, memory_bytes=512 * MIB, memory_max_bytes=1024 * MIB)
    assert vm["pending"] == ["/config/memory_bytes", "/config/memory_max_bytes"]
    assert vm["pending_reasons"] == {"/config/memory_bytes": "it was started so that it can grow to 256 MiB; "
                                     "the next start gives it all of that"}
    api.post(f"/vms/{name}/poweroff")
    api.post(f"/vms/{name}/start")
    vm = api.wait_state(name, "running")
    assert not vm["pending"] and vm["status"]["memory"]["boot_bytes"] == 512 * MIB


def test_without_room_to_grow_it_can_only_shrink(api, name):
    start(api, name)
    assert not change(api, name, memory_bytes=40 * MIB)["pending"]
    assert not change(api, name, memory_bytes=64 * MIB)["pending"]
    vm = change(api, name, memory_bytes=65 * MIB)
    assert vm["pending"] == ["/config/memory_bytes"]
    assert "without memory_max_bytes" in vm["pending_reasons"]["/config/memory_bytes"]
    assert not change(api, name, memory_bytes=64 * MIB)["pending"]


def test_a_croftd_that_comes_later_knows_what_it_was_started_with(croft, api, name):
    start(api, name, memory_max_bytes=256 * MIB)
    change(api, name, memory_bytes=128 * MIB)
    croft.kill()
    croft.start()
    vm = wait_for("it runs", lambda: (vm := api.get(f"/vms/{name}"))["status"]["state"] == "running" and vm)
    memory = vm["status"]["memory"]
    assert (memory["boot_bytes"], memory["wanted_bytes"]) == (64 * MIB, 128 * MIB) and not vm["pending"]
    vm = change(api, name, memory_bytes=300 * MIB, memory_max_bytes=300 * MIB)
    assert "can grow to 256 MiB" in vm["pending_reasons"]["/config/memory_bytes"]


def test_more_than_can_ever_be_is_refused(api, name):
    start(api, name)
    for size in (16 << 40, 32 * MIB):
        problem = api.problem(422, "PATCH", f"/vms/{name}", {"config": {"memory_max_bytes": size}})
        assert problem["errors"][0]["pointer"] == "/config/memory_max_bytes", problem
