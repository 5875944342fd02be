"""A real guest that runs on while its disks, NICs and discs are changed."""
import os
import re
import uuid

import pytest
import tiny
from croft import wait_for

MIB = 1 << 20


@pytest.fixture(scope="module")
def guest(demo):
    """The demo guest once more, with an empty CD drive."""
    api, name = demo.client(), "hot"
    vm = api.wait_state("demo", "running")
    config = {k: v for k, v in vm["config"].items() if k in ("firmware", "kernel", "memory_bytes")}
    api.post("/vms/demo/poweroff")
    api.post("/vms", {"name": name, "start": True, "config": {**config, "display": "none", "cdroms": {"cd0": {}}, "nics": {"lan": {}}}})
    console = api.console(name)
    console.until(b"demo:~# ")
    console.close()
    return demo


@pytest.fixture
def sh(guest):
    """Runs a line in the guest; gives the words that it printed."""
    def run(line):
        mark, console = uuid.uuid4().hex[:8], guest.client().console("hot")
        try:
            said = console.command(f'echo "="{mark}; {line}; echo "~"{mark}')       # behind what is in the history
        finally:
            console.close()
        return said.decode(errors="replace").replace("\r", "").split(f"={mark}\n", 1)[1].split(f"~{mark}")[0].split()
    return run


@pytest.fixture
def api(guest):
    return guest.client()


def nothing_waits(vm):
    assert not vm["pending"] and not vm["pending_reasons"], (vm["pending"], vm["pending_reasons"])


def change(api, **config):
    vm = api.ok("PATCH", "/vms/hot", {"config": config})
    nothing_waits(vm)
    return vm


def opened(vm):
    folder = f"/proc/{vm['status']['pid']}/fd"
    return " ".join(os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder))


@pytest.mark.parametrize("bus, disk", [("virtio", "vda"), ("scsi", "sda")])
def test_a_disk_comes_is_written_grows_and_goes(guest, api, sh, bus, disk):
    nothing_waits(api.post("/vms/hot/disks", {"name": "data", "size_bytes": 8 * MIB, "bus": bus}))
    wait_for("the guest sees it", lambda: disk in sh("ls /sys/block"))
    assert sh(f"cat /sys/block/{disk}/size") == [str(8 * MIB // 512)]
    assert "data" in sh(f"cat /sys/block/{disk}/serial /sys/block/{disk}/device/vpd_pg80 2>/dev/null | tr -c a-z ' '")
    sh(f"echo WRITTEN | dd of=/dev/{disk} bs=512 conv=sync; sync")
    nothing_waits(api.post("/vms/hot/disks/data/grow", {"size_bytes": 16 * MIB}))
    rescan = f"echo 1 > /sys/block/{disk}/device/rescan; " if bus == "scsi" else ""
    wait_for("the guest sees the size", lambda: sh(f"{rescan}cat /sys/block/{disk}/size") == [str(16 * MIB // 512)])
    assert sh(f"head -c 7 /dev/{disk}") == ["WRITTEN"]
    nothing_waits(api.ok("DELETE", "/vms/hot/disks/data"))
    wait_for("the guest sees it no more", lambda: disk not in sh("ls /sys/block"))
    assert not os.path.exists(f"{guest.home}/datastores/local/hot/data.qcow2")
    assert "data.qcow2" not in opened(api.get("/vms/hot"))


def test_killed_while_the_guest_lets_go(guest, api, sh):
    nothing_waits(api.post("/vms/hot/disks", {"name": "data", "size_bytes": 8 * MIB}))
    wait_for("the guest sees it", lambda: "vda" in sh("ls /sys/block"))
    task = api.request("DELETE", "/vms/hot/disks/data").json
    wait_for("the guest is asked", lambda: api.get(f"/tasks/{task['id']}")["step"].startswith("wait"))
    guest.kill()
    guest.start()
    api = guest.client()
    assert api.get(f"/tasks/{task['id']}", Prefer="wait=60")["state"] == "done"
    vm = api.get("/vms/hot")
    nothing_waits(vm)
    assert not vm["config"]["disks"] and "vda" not in sh("ls /sys/block")


def test_a_nic_comes_and_goes(api, sh):
    vm = change(api, nics={"more": {}})
    wait_for("the guest sees it", lambda: vm["config"]["nics"]["more"]["mac"] in sh("cat /sys/class/net/*/address"))
    change(api, nics={"more": None})
    assert vm["config"]["nics"]["more"]["mac"] not in sh("cat /sys/class/net/*/address")


def test_a_cable_is_pulled(api, sh):
    eth, = [n for n in sh("ls /sys/class/net") if n != "lo"]
    sh(f"ip link set {eth} up")
    wait_for("it is there", lambda: sh(f"cat /sys/class/net/{eth}/carrier") == ["1"])
    change(api, nics={"lan": {"connected": False}})
    wait_for("it is pulled", lambda: sh(f"cat /sys/class/net/{eth}/carrier") == ["0"])
    change(api, nics={"lan": {"connected": True}})
    wait_for("it is there again", lambda: sh(f"cat /sys/class/net/{eth}/carrier") == ["1"])


def test_a_disc_is_changed(guest, api, sh):
    for name in ("one", "two"):
        with open(f"{guest.home}/datastores/local/{name}.iso", "wb") as f:
            f.write(name.encode().ljust(MIB))
    for name in ("one", "two"):
        change(api, cdroms={"cd0": {"iso": f"[local] {name}.iso"}})
        wait_for("the guest reads it", lambda n=name: sh("head -c 3 /dev/sr0") == [n])
    change(api, cdroms={"cd0": {"iso": None}})
    wait_for("the drive is empty", lambda: "two" not in sh("head -c 3 /dev/sr0 2>/dev/null"))


def test_a_limit_holds(api, sh):
    nothing_waits(api.post("/vms/hot/disks", {"name": "slow", "size_bytes": 32 * MIB, "limits": {"read_bytes_per_s": 65536}}))
    nothing_waits(api.post("/vms/hot/disks", {"name": "fast", "size_bytes": 32 * MIB}))
    wait_for("the guest sees both", lambda: {"vda", "vdb"} <= set(sh("ls /sys/block")))

    def read():
        """Bytes of both that were read in the same time, which is as long as the whole of one takes."""
        sh("echo 3 > /proc/sys/vm/drop_caches")
        before = {n: int(sh(f"cat /sys/block/{n}/stat")[2]) for n in ("vda", "vdb")}
        sh("cat /dev/vda >/dev/null & cat /dev/vdb >/dev/null & wait -n; kill %1 %2 2>/dev/null")
        after = {n: int(sh(f"cat /sys/block/{n}/stat")[2]) for n in ("vda", "vdb")}
        serial = {n: sh(f"cat /sys/block/{n}/serial")[0] for n in ("vda", "vdb")}
        return {serial[n]: (after[n] - before[n]) * 512 for n in ("vda", "vdb")}
    bytes_read = read()
    assert bytes_read["slow"] * 4 < bytes_read["fast"], bytes_read
    for name in ("slow", "fast"):
        nothing_waits(api.ok("DELETE", f"/vms/hot/disks/{name}"))


def test_a_guest_that_does_not_let_go_costs_that_change_alone(guest, api):
    """After a reset its ports are powered, and this guest knows nothing of ports."""
    name = "deaf" + uuid.uuid4().hex[:4]
    tiny.upload(api)
    api.post("/vms", {"name": name, "start": True, "config": tiny.config(cdroms={"cd0": {}})})
    api.wait_state(name, "running")
    nothing_waits(api.post(f"/vms/{name}/disks", {"name": "data", "size_bytes": MIB}))
    api.post(f"/vms/{name}/reset")
    answer = api.request("DELETE", f"/vms/{name}/disks/data", None, {"Prefer": "wait=60"})
    assert answer.status == 409 and re.search("did not let go.*within 30 s", answer.json["detail"]), answer
    assert "unmount" in answer.json["hint"]
    vm = api.get(f"/vms/{name}")
    assert "data" in vm["config"]["disks"]
    nothing_waits(api.ok("PATCH", f"/vms/{name}", {"config": {"cdroms": {"cd0": {"iso": "[local] tiny.bin"}}}}))
    api.post(f"/vms/{name}/poweroff")
    assert not api.ok("DELETE", f"/vms/{name}/disks/data")["config"]["disks"]
    api.ok("DELETE", f"/vms/{name}")
