"""A real guest that runs on while its disks, NICs and discs are changed."""
import re
import uuid

import pytest
from croft import wait_for

MIB = 1 << 20


@pytest.fixture
def guest(demo):
    """The demo guest once more, with an empty CD drive, and its console."""
    api, name = demo.client(), "h" + uuid.uuid4().hex[:8]
    config = {k: v for k, v in api.get("/vms/demo")["config"].items() if k in ("firmware", "kernel", "memory_bytes", "display")}
    api.post("/vms", {"name": name, "start": True, "config": {**config, "cdroms": {"cd0": {}}, "nics": {"lan": {}}}})
    console = api.console(name)
    console.until(b"demo:~# ")
    yield api, name, console
    console.close()
    if api.get(f"/vms/{name}")["status"]["state"] != "off":
        api.post(f"/vms/{name}/poweroff")
    api.ok("DELETE", f"/vms/{name}")


def nothing_waits(vm):
    assert not vm["pending"] and not vm["pending_reasons"], (vm["pending"], vm["pending_reasons"])


def test_a_disk_comes_is_written_grows_and_goes(guest):
    api, name, console = guest
    print(console.command("ls /sys/block /lib/modules; cat /proc/modules; lspci; dmesg | grep -i pcie"))
    nothing_waits(api.post(f"/vms/{name}/disks", {"name": "data", "size_bytes": 8 * MIB}))
    print(console.command("sleep 1; ls /sys/block; dmesg | tail -20"))
    assert 0
