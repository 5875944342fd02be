"""What of a running VM can be changed without a power cycle, with a guest that need not help. What QEMU has open is what it
has in /proc: nothing else tells the truth as well."""
import contextlib
import json
import os
import socket
import sqlite3
import uuid

import pytest
import tiny
from croft import wait_for

MIB = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def images(croft):
    tiny.upload(croft.client())
    for name in ("a.iso", "b.iso"):
        with open(f"{croft.home}/datastores/local/{name}", "wb") as f:
            f.write(os.urandom(MIB))


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
            found.append(os.path.basename(os.readlink(f"{folder}/{fd}")))
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


def test_a_simulated_vm_is_as_it_is_wanted(api, name, running):
    running(engine="sim", cdroms={"cd0": {}})
    nothing_waits(change(api, name, cdroms={"cd0": {"iso": "[local] b.iso"}}))
