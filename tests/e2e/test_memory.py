"""The memory of the demo guest while it runs: it has the drivers, and goes along. What it frees is the host's again."""
import re

import pytest
from croft import GUEST, wait_for

MIB = 1 << 20
CONFIG = {"firmware": "kernel", "display": "none", "kernel": {"image": "[local] vmlinuz", "initrd": "[local] initrd.gz",
                                                           "command_line": "console=ttyAMA0"}}


@pytest.fixture(scope="module")
def shell(croft):
    api = croft.client()
    for name in ("vmlinuz", "initrd.gz"):
        with open(f"{GUEST}/{name}", "rb") as f:
            assert api.request("PUT", f"/datastores/local/files/{name}", f.read()).status == 201
    api.post("/vms", {"name": "m", "config": {**CONFIG, "memory_bytes": 384 * MIB, "memory_max_bytes": 768 * MIB}, "start": True})
    shell = api.console("m")
    shell.until(b":~# ")
    wait_for("its drivers are there", lambda: b"virtio_mem" in shell.command("lsmod"), 60)
    yield shell
    shell.close()


def total(shell):
    """MiB that the guest's kernel has."""
    return int(re.search(rb"MemTotal: +(\d+) kB", shell.command("cat /proc/meminfo"))[1]) / 1024


def free(shell):
    return int(re.search(rb"MemFree: +(\d+) kB", shell.command("cat /proc/meminfo"))[1]) / 1024


def change(api, size):
    vm = api.ok("PATCH", "/vms/m", {"config": {"memory_bytes": size * MIB}})
    assert not vm["pending"] and vm["status"]["memory"]["wanted_bytes"] == size * MIB
    return wait_for(f"it has {size} MiB", lambda: api.vm("m")["status"]["memory"]["current_bytes"] == size * MIB, 60)


def test_it_grows_and_shrinks(api, shell):
    base, unused = total(shell), free(shell)
    change(api, 640)
    assert abs(total(shell) - base - 256) < 8
    change(api, 639)            # no multiple of virtio-mem's blocks
    change(api, 200)            # less than it was started with: the balloon
    assert unused - free(shell) > 150 and abs(total(shell) - base) < 8
    change(api, 384)
    assert unused - free(shell) < 50


def test_a_croftd_that_comes_later_goes_on(croft, api, shell):
    change(api, 512)
    croft.kill()
    croft.start()
    wait_for("it is there", lambda: api.vm("m")["status"]["state"] == "running")
    assert api.vm("m")["status"]["memory"]["current_bytes"] == 512 * MIB
    change(api, 500)
    change(api, 384)


def pss(api):
    with open(f"/proc/{api.vm('m')['status']['pid']}/smaps_rollup", encoding="ascii") as f:
        return int(re.search(r"^Pss: +(\d+) kB", f.read(), re.M)[1]) / 1024


def test_what_the_guest_frees_is_the_hosts_again(croft, api):
    console = api.console("m")
    console.type("\n")
    console.until(b":~# ")
    before = pss(api)
    console.command("mkdir -p /t; mount -t tmpfs -o size=300m t /t; dd if=/dev/zero of=/t/x bs=1M count=200", 60)
    full = pss(api)
    assert full - before > 150
    console.command("rm /t/x")
    wait_for("the host has it back", lambda: pss(api) - before < 60, 30)
    print(f"PSS {before:.0f}, {full:.0f}, {pss(api):.0f} MiB")
    console.close()


def test_what_was_plugged_in_is_there_after_a_suspend(api, shell):
    change(api, 640)
    api.post("/vms/m/disks", {"name": "late", "size_bytes": 16 * MIB})
    console = api.console("m")
    console.type("\n")
    console.until(b":~# ")
    wait_for("the guest has the disk", lambda: b"vda" in console.command("cat /proc/partitions"), 30)
    console.command("echo KEPT | dd of=/dev/vda bs=512 count=1 conv=sync,fsync; mkdir -p /u; mount -t tmpfs -o size=400m t /u;"
                    " dd if=/dev/urandom of=/u/x bs=1M count=250; md5sum /u/x >/sum", 120)     # into what was plugged in, too
    had = total(console)
    console.close()
    api.post("/vms/m/suspend", None, Prefer="wait=60")
    vm = api.post("/vms/m/start", None, Prefer="wait=60")
    assert vm["status"]["state"] == "running" and not vm["pending"]
    wait_for("it has its memory", lambda: api.vm("m")["status"]["memory"]["current_bytes"] == 640 * MIB, 60)
    console = api.console("m")
    console.type("\n")
    console.until(b":~# ")
    assert total(console) == had and b"OK" in console.command("md5sum -c /sum", 120)
    assert b"KEPT" in console.command("dd if=/dev/vda bs=512 count=1 iflag=direct 2>/dev/null")
    console.command("rm /u/x")
    change(api, 384)
    console.close()
