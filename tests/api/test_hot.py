"""What of a running VM can be changed without a power cycle, with a guest that need not help. What QEMU has open is what it
has in /proc: nothing else tells the truth as well."""
import contextlib
import json
import os
import socket
import sqlite3
import subprocess
import uuid

import pytest
import tiny
from croft import wait_for

MIB = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def images(croft):
    tiny.upload(croft.client())
    tiny.put_discs(croft)


@pytest.fixture
def name():
    return "h" + uuid.uuid4().hex[:8]


@pytest.fixture
def running(api, name):
    """Makes a VM that runs; it ends with the test."""
    def make(**config):
        api.post("/vms", {"name": name, "config": tiny.config(**config), "start": True})
        return wait_for("it runs", lambda: api.get(f"/vms/{name}")["status"]["state"] == "running" and api.get(f"/vms/{name}"))
    yield make
    if api.request("GET", f"/vms/{name}").status == 200:
        if api.get(f"/vms/{name}")["status"]["state"] != "off":
            api.post(f"/vms/{name}/poweroff")
        api.ok("DELETE", f"/vms/{name}")


def opened(vm):
    """Names of the datastore's files that the VM's QEMU has open."""
    folder, found = f"/proc/{vm['status']['pid']}/fd", []
    for fd in os.listdir(folder):
        try:
            found.append(os.path.basename(os.readlink(f"{folder}/{fd}")).removesuffix(" (deleted)"))
        except FileNotFoundError:
            pass
    return found


def change(api, name, **config):
    return api.ok("PATCH", f"/vms/{name}", {"config": config})


def nothing_waits(vm):
    assert not vm["pending"] and not vm["pending_reasons"], (vm["pending"], vm["pending_reasons"])


def test_a_disc_is_changed(api, name, running):
    running(cdroms={"cd0": {}})
    for iso in ("a.iso", "b.iso", None, None, "b.iso"):
        vm = change(api, name, cdroms={"cd0": {"iso": iso and f"[local] {iso}"}})
        nothing_waits(vm)
        assert [n for n in opened(vm) if n.endswith(".iso")] == ([iso] * 2 if iso else [])       # in the set, and in use


def test_the_disc_of_the_start_goes_with_all_its_descriptors(api, name, running):
    vm = running(cdroms={"cd0": {"iso": "[local] a.iso"}, "cd1": {}})
    assert "a.iso" in opened(vm)
    vm = change(api, name, cdroms={"cd0": {"iso": None}, "cd1": {"iso": "[local] b.iso"}})
    nothing_waits(vm)
    assert "a.iso" not in opened(vm) and "b.iso" in opened(vm)


def test_a_drive_comes_and_goes(croft, api, name, running):
    running()
    vm = change(api, name, cdroms={"cd0": {"iso": "[local] a.iso"}, "cd1": {}})
    nothing_waits(vm)
    assert opened(vm).count("a.iso") == 2
    with Monitor(croft, vm) as monitor:
        assert [(d["qdev"], d.get("inserted", {}).get("node-name")) for d in monitor("query-block") if "cd-" in d["qdev"]] == [
            ("cd-cd0", "cd1"), ("cd-cd1", None)]
    running_again(api, name)
    nothing_waits(change(api, name, cdroms={"cd1": {"iso": "[local] b.iso"}}))
    nothing_waits(change(api, name, cdroms={"cd0": None, "cd1": None}))


def test_what_cannot_be_done_stays_pending_with_its_reason(api, name, running):
    running(cdroms={"cd0": {"iso": "[local] a.iso"}})
    vm = change(api, name, cdroms={"cd0": {"iso": "[local] nosuch.iso"}})
    assert vm["pending"] == ["/config/cdroms/cd0/iso"]
    assert "nosuch.iso" in vm["pending_reasons"]["/config/cdroms/cd0/iso"]
    assert "a.iso" in opened(vm)
    nothing_waits(change(api, name, cdroms={"cd0": {"iso": "[local] a.iso"}}))
    vm = change(api, name, cpus=2)
    assert vm["pending"] == ["/config/cpus"] and not vm["pending_reasons"]


def test_killed_between_the_change_and_its_commit_it_is_done_again(croft, api, name, running):
    running(cdroms={"cd0": {}})
    change(api, name, cdroms={"cd0": {"iso": "[local] a.iso"}})
    croft.kill()
    with contextlib.closing(sqlite3.connect(f"{croft.home}/croft.db")) as db, db:
        row = json.loads(db.execute("SELECT started_config FROM vms WHERE name = ?", (name,)).fetchone()[0])
        assert row["cdroms"]["cd0"]["iso"] == "[local] a.iso"
        row["cdroms"]["cd0"]["iso"] = "[local] b.iso"
        db.execute("UPDATE vms SET started_config = ? WHERE name = ?", (json.dumps(row), name))
    croft.start()
    vm = wait_for("nothing waits", lambda: (vm := api.get(f"/vms/{name}"))["status"]["state"] == "running" and not vm["pending"] and vm)
    assert opened(vm).count("a.iso") == 2
    with contextlib.closing(sqlite3.connect(f"{croft.home}/croft.db")) as db:
        row = json.loads(db.execute("SELECT started_config FROM vms WHERE name = ?", (name,)).fetchone()[0])
    assert row["cdroms"]["cd0"]["iso"] == "[local] a.iso"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


class Monitor:
    """QEMU's own word: croftd, which has its monitor, is dead while this is asked."""

    def __init__(self, croft, vm):
        self.croft, self.path = croft, f"{croft.home}/run/vm/{vm['id']}/qmp"

    def __enter__(self):
        self.croft.kill()
        self.s = socket.socket(socket.AF_UNIX)
        self.s.settimeout(10)
        self.s.connect(self.path)
        self.f = self.s.makefile("r")
        self.f.readline()
        self("qmp_capabilities")
        return self

    def __call__(self, command, **arguments):
        self.s.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        for answer in map(json.loads, self.f):
            if "return" in answer or "error" in answer:
                return answer.get("return", answer)

    def __exit__(self, *_):
        self.f.close()
        self.s.close()
        self.croft.start()


def running_again(api, name):
    return wait_for("it is found again", lambda: (vm := api.get(f"/vms/{name}"))["status"]["state"] == "running" and vm)


def forward(port, guest=80):
    return {"host_port": port, "guest_port": guest}


def test_ports_of_a_nic_are_changed(api, name, running):
    a, b, c = free_port(), free_port(), free_port()
    running(nics={"lan": {"forwards": [forward(a), forward(b)]}})
    assert listens(a) and listens(b)
    nothing_waits(change(api, name, nics={"lan": {"forwards": [forward(b), forward(c)]}}))
    assert not listens(a) and listens(b) and listens(c)
    with socket.create_server(("127.0.0.1", a)):
        vm = change(api, name, nics={"lan": {"forwards": [forward(a)]}})
        assert vm["pending"] == ["/config/nics/lan/forwards"] and "listening" in vm["pending_reasons"]["/config/nics/lan/forwards"]
        assert listens(b) and listens(c)        # as they were: all or nothing
    nothing_waits(change(api, name, nics={"lan": {"forwards": [forward(a)]}}))
    assert listens(a) and not listens(b) and not listens(c)


def test_a_nic_comes_and_goes(croft, api, name, running):
    a = free_port()
    running(nics={"lan": {}})
    vm = change(api, name, nics={"more": {"forwards": [forward(a)], "connected": False}, "last": {"model": "e1000e"}})
    nothing_waits(vm)
    assert listens(a)
    with Monitor(croft, vm) as monitor:
        for i, nic in enumerate(("more", "last")):
            bus = monitor("qom-get", path=f"/machine/peripheral/nic-{nic}", property="parent_bus")
            assert bus == f"/machine/peripheral/hp{i}/hp{i}"
            assert monitor("qom-get", path=f"/machine/peripheral/nic-{nic}", property="addr") == 0
    running_again(api, name)
    vm = change(api, name, nics={"more": None})
    nothing_waits(vm)
    assert not listens(a)
    nothing_waits(change(api, name, nics={"more": {"forwards": [forward(a)]}}))
    assert listens(a)
    vm = change(api, name, nics={"lan": None})
    assert vm["pending"] == ["/config/nics/lan"] and "next start" in vm["pending_reasons"]["/config/nics/lan"]


def test_what_a_command_line_cannot_say_is_told_at_the_start_and_after_it(croft, api, name, running):
    vm = running(nics={"lan": {"connected": False}}, disks={
        bus: {"size_bytes": MIB, "bus": bus, "limits": {"read_bytes_per_s": 1000 * i, "write_iops": i}}
        for i, bus in ((1, "virtio"), (2, "nvme"), (3, "scsi"))})
    vm = change(api, name, description="is answered when what went before has been done")
    nothing_waits(vm)

    def limits(monitor):
        return {(i := d["inserted"])["node-name"].rstrip("0123456789") + d["qdev"]: (i["bps_rd"], i["iops_wr"], i["bps"], i["iops_rd"])
                for d in monitor("query-block") if d.get("inserted")}
    with Monitor(croft, vm) as monitor:
        assert sorted(limits(monitor).values()) == [(1000, 1, 0, 0), (2000, 2, 0, 0), (3000, 3, 0, 0)]
    running_again(api, name)
    vm = change(api, name, disks={"scsi": {"limits": {"read_bytes_per_s": 0, "write_iops": 0}}, "nvme": {"limits": {"read_iops": 7}}})
    nothing_waits(vm)
    with Monitor(croft, vm) as monitor:
        assert sorted(limits(monitor).values()) == [(0, 0, 0, 0), (1000, 1, 0, 0), (2000, 2, 0, 7)]


def wrote(croft, vm, disk):
    """What stands at the beginning of the image of the disk, written there by another QEMU, would be refused: it is locked."""
    path = vm["config"]["disks"][disk]["path"].replace("[local] ", f"{croft.home}/datastores/local/")
    return subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write 0 512", path], capture_output=True).returncode == 0


@pytest.mark.parametrize("bus", ["virtio", "nvme", "scsi"])
def test_a_disk_comes_grows_and_goes(croft, api, name, running, bus):
    running()
    vm = api.post(f"/vms/{name}/disks", {"name": "data", "size_bytes": MIB, "bus": bus, "limits": {"read_iops": 5}})
    nothing_waits(vm)
    assert vm["config"]["disks"]["data"]["path"] == f"[local] {name}/data.qcow2"
    assert opened(vm).count("data.qcow2") == 2 and not wrote(croft, vm, "data")
    if bus == "nvme":       # QEMU can't
        assert "NVMe" in api.problem(409, "POST", f"/vms/{name}/disks/data/grow", {"size_bytes": 4 * MIB}, Prefer="wait=60")["detail"]
        assert api.get(f"/vms/{name}")["config"]["disks"]["data"]["size_bytes"] == MIB
    else:
        vm = api.post(f"/vms/{name}/disks/data/grow", {"size_bytes": 4 * MIB})
        nothing_waits(vm)
    with Monitor(croft, vm) as monitor:
        found = next(d["inserted"] for d in monitor("query-block") if "disk-data" in d["qdev"])
        assert found["image"]["virtual-size"] == (MIB if bus == "nvme" else 4 * MIB) and found["iops_rd"] == 5
    running_again(api, name)
    assert "smaller" in api.problem(422, "POST", f"/vms/{name}/disks/data/grow", {"size_bytes": MIB // 2})["detail"]
    vm = api.ok("DELETE", f"/vms/{name}/disks/data")
    nothing_waits(vm)
    assert not vm["config"]["disks"] and "data.qcow2" not in opened(vm)
    assert not os.path.exists(f"{croft.home}/datastores/local/{name}/data.qcow2")


def test_scsi_disks_share_one_controller(api, name, running):
    running(nics={f"n{i}": {} for i in range(8)})
    for i in range(3):
        nothing_waits(api.post(f"/vms/{name}/disks", {"name": f"s{i}", "size_bytes": MIB, "bus": "scsi"}))
    for i in range(7):
        nothing_waits(api.post(f"/vms/{name}/disks", {"name": f"v{i}", "size_bytes": MIB}))
    assert api.post(f"/vms/{name}/disks", {"name": "last", "size_bytes": MIB})["pending"] == ["/config/disks/last"]


def test_a_disk_of_the_start_stays_until_it_is_off(croft, api, name, running):
    running(disks={"system": {"size_bytes": MIB}})
    refused = api.request("DELETE", f"/vms/{name}/disks/system", None, {"Prefer": "wait=60"})
    assert refused.status == 409 and "next start" in refused.json["detail"] and "shut" in refused.json["hint"], refused
    vm = api.get(f"/vms/{name}")
    nothing_waits(vm)
    assert "system" in vm["config"]["disks"] and "system.qcow2" in opened(vm)
    nothing_waits(api.post(f"/vms/{name}/disks/system/grow", {"size_bytes": 2 * MIB}))
    api.post(f"/vms/{name}/poweroff")
    api.post(f"/vms/{name}/disks/system/grow", {"size_bytes": 3 * MIB})
    out = subprocess.run(["qemu-img", "info", "--output=json", f"{croft.home}/datastores/local/{name}/system.qcow2"],
                         stdout=subprocess.PIPE, check=True).stdout
    assert json.loads(out)["virtual-size"] == 3 * MIB
    assert not api.ok("DELETE", f"/vms/{name}/disks/system")["config"]["disks"]


def test_there_are_eight_places_and_what_finds_none_waits(api, name, running):
    running(nics={"lan": {}})
    vm = change(api, name, nics={f"n{i}": {} for i in range(7)})
    nothing_waits(vm)
    nothing_waits(api.post(f"/vms/{name}/disks", {"name": "d0", "size_bytes": MIB}))
    vm = api.post(f"/vms/{name}/disks", {"name": "d1", "size_bytes": MIB})
    assert vm["pending"] == ["/config/disks/d1"] and "taken" in vm["pending_reasons"]["/config/disks/d1"]
    assert "d1.qcow2" not in opened(vm)
    nothing_waits(change(api, name, nics={"n3": None}))
    assert "d1.qcow2" in opened(api.get(f"/vms/{name}"))


def test_the_mirror_follows_the_row(croft, api, name):
    def mirror():
        with open(f"{croft.home}/datastores/local/{name}/vm.croft.json", encoding="utf-8") as f:
            return json.load(f)
    api.post("/vms", {"name": name, "config": tiny.config()})
    first = mirror()
    vm = change(api, name, cpus=2)
    wait_for("the mirror follows", lambda: mirror()["revision"] == vm["revision"] == first["revision"] + 1)
    assert mirror()["config"]["cpus"] == 2
    croft.kill()
    with open(f"{croft.home}/datastores/local/{name}/vm.croft.json", "w", encoding="utf-8") as f:
        f.write(json.dumps(first))
    croft.start()
    wait_for("the next croftd mends it", lambda: mirror() == {**first, "revision": vm["revision"], "config": vm["config"]})
    api.get(f"/vms/{name}")
    api.ok("DELETE", f"/vms/{name}")


def test_a_simulated_vm_is_as_it_is_wanted(api, name, running):
    running(engine="sim", cdroms={"cd0": {}})
    nothing_waits(change(api, name, cdroms={"cd0": {"iso": "[local] b.iso"}}))
