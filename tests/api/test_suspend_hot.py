"""Suspend and start of VMs that are not any more what their command line made: real machines, whose guest needs no help.
What QEMU loads must be built just as what it saved was."""
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
def name(api):
    name = "s" + uuid.uuid4().hex[:8]
    yield name
    if api.request("GET", f"/vms/{name}").status == 404:
        return
    state = api.get(f"/vms/{name}")["status"]["state"]
    if state not in ("off", "suspended"):
        api.post(f"/vms/{name}/poweroff")
    api.ok("DELETE", f"/vms/{name}")


def start(api, name, **config):
    api.post("/vms", {"name": name, "config": tiny.config(**config), "start": True})
    return api.wait_state(name, "running")


def change(api, name, **config):
    vm = api.ok("PATCH", f"/vms/{name}", {"config": config})
    assert not vm["pending_reasons"], vm["pending_reasons"]
    return vm


def round_trip(api, name):
    assert api.post(f"/vms/{name}/suspend")["status"]["state"] == "suspended"
    vm = api.post(f"/vms/{name}/start")
    assert vm["status"]["state"] == "running", vm
    console = api.console(name)
    console.type("x")
    console.until(b"x")             # the guest goes on
    console.close()
    return vm


def test_what_was_plugged_in_is_where_it_was(api, name):
    start(api, name, memory_max_bytes=256 * MIB)
    change(api, name, memory_bytes=128 * MIB)
    for disk, bus in (("one", "virtio"), ("two", "virtio"), ("three", "scsi")):
        api.post(f"/vms/{name}/disks", {"name": disk, "size_bytes": MIB, "bus": bus})
    change(api, name, nics={"lan": {}}, cdroms={"cd0": {"iso": "[local] a.iso"}})
    vm = round_trip(api, name)
    assert not vm["pending"] and vm["status"]["memory"]["boot_bytes"] == 64 * MIB
    change(api, name, nics={"lan": None}, cdroms={"cd0": {"iso": "[local] b.iso"}})
    vm = api.ok("DELETE", f"/vms/{name}/disks/one")
    assert not vm["pending"], "it is on a port, which lets it go"
    round_trip(api, name)
    api.post(f"/vms/{name}/poweroff")
    vm = api.post(f"/vms/{name}/start")             # all have places of their own
    round_trip(api, name)


def test_what_was_taken_out_does_not_come_back(api, name):
    start(api, name, cdroms={"cd0": {"iso": "[local] a.iso"}}, memory_max_bytes=128 * MIB, usb={"k": {"vendor": "0951", "product": "1666"}})
    change(api, name, cdroms={"cd0": None}, usb={"k": None}, memory_bytes=32 * MIB)
    round_trip(api, name)


def test_the_disks_of_a_saved_memory_stay_as_they_are(croft, api, name):
    start(api, name, disks={"data": {"size_bytes": MIB}, "more": {"size_bytes": MIB, "bus": "scsi"}})
    vm = api.post(f"/vms/{name}/suspend")
    path = f"{croft.home}/datastores/local/{name}/data.qcow2"
    for method, where, body in (("DELETE", "", None), ("POST", "/grow", {"size_bytes": 2 * MIB})):
        problem = api.problem(409, method, f"/vms/{name}/disks/data{where}", body)
        assert "suspended" in problem["detail"] and f"vmctl discard {name}" in problem["hint"], problem
    api.problem(409, "DELETE", f"/datastores/local/files/{name}/data.qcow2")
    assert os.path.exists(path) and api.vm(name)["revision"] == vm["revision"]
    vm = api.post(f"/vms/{name}/disks", {"name": "later", "size_bytes": MIB})
    assert vm["status"]["state"] == "suspended" and vm["pending"] == ["/config/disks/later"]
    api.post(f"/vms/{name}/start")
    wait_for("it has the new one, too", lambda: not api.vm(name)["pending"])


def test_disks_that_somebody_else_has_written_to(croft, api, name):
    start(api, name, disks={"data": {"size_bytes": MIB}})
    api.post(f"/vms/{name}/suspend")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write 0 4k", f"{croft.home}/datastores/local/{name}/data.qcow2"], check=True,
                   stdout=subprocess.DEVNULL)
    problem = api.problem(409, "POST", f"/vms/{name}/start", None, Prefer="wait=20")
    assert "data" in problem["detail"] and f"vmctl discard {name}" in problem["hint"], problem
    assert api.vm(name)["status"]["state"] == "suspended"
    assert api.post(f"/vms/{name}/discard")["status"]["state"] == "off"
    assert api.post(f"/vms/{name}/start")["status"]["state"] == "running"


def test_nvme_is_told_before_anything_is_stopped(api, name):
    start(api, name)
    api.post(f"/vms/{name}/disks", {"name": "fast", "size_bytes": MIB, "bus": "nvme"})
    problem = api.problem(409, "POST", f"/vms/{name}/suspend", None, Prefer="wait=20")
    assert "its disk fast, which is on the bus nvme" in problem["detail"] and problem["hint"], problem
    assert api.vm(name)["status"]["state"] == "running"


def test_a_vm_of_another_croft(croft, api, name):
    """It was started with a machine that this one would not build: that is said before its memory is taken out of it."""
    start(api, name)
    croft.kill()
    with contextlib.closing(sqlite3.connect(f"{croft.home}/croft.db")) as db, db:
        row = json.loads(db.execute("SELECT config FROM vms WHERE name = ?", (name,)).fetchone()[0])
        assert row["guest_agent"]
        row["guest_agent"] = False
        db.execute("UPDATE vms SET config = ?1, started_config = ?1 WHERE name = ?2", (json.dumps(row), name))
    croft.start()
    api.wait_state(name, "running")
    problem = api.problem(409, "POST", f"/vms/{name}/suspend", None, Prefer="wait=20")
    assert "its machine has the device" in problem["detail"] and problem["hint"], problem
    assert api.vm(name)["status"]["state"] == "running"


def test_the_hosts_end_resumes_nothing_that_is_saved(fresh):
    """Its memory was loaded and was not erased from its row yet, when croftd --stop came: it is ended, and still suspended."""
    api = fresh.client()
    tiny.upload(api)
    start(api, "x")
    api.post("/vms/x/suspend")
    with contextlib.closing(sqlite3.connect(f"{fresh.home}/croft.db")) as db:
        memory = db.execute("SELECT memory FROM vms").fetchone()[0]
    api.post("/vms/x/start")
    api.post("/vms/x/pause")
    fresh.kill()
    with contextlib.closing(sqlite3.connect(f"{fresh.home}/croft.db")) as db, db:
        db.execute("UPDATE vms SET memory = ?", (memory,))
    said = fresh.stop()
    assert "x: suspended, as it was" in said and "asked to shut down" not in said, said
    assert not fresh.qemu()
    fresh.start()
    assert fresh.client().vm("x")["status"]["state"] == "suspended"


def test_a_new_vm_goes_to_the_first_datastore(fresh, tmp_path):
    for name in ("a", "zz", "b", "c"):
        fresh.end()
        with contextlib.closing(sqlite3.connect(f"{fresh.home}/croft.db")) as db, db:
            os.mkdir(f"{tmp_path}/{name}")
            id = str(uuid.uuid4())
            with open(f"{tmp_path}/{name}/.croft-datastore.json", "w") as f:
                json.dump({"format": 1, "id": id}, f)
            db.execute("INSERT INTO datastores (id, name, revision, path, created) SELECT ?, ?, 1, ?, max(created) + 1 FROM datastores",
                       (id, name, f"{tmp_path}/{name}"))
        fresh.start()
        vm = fresh.client().post("/vms", {"name": f"on-{name}", "config": {**tiny.config(), "firmware": "uefi", "kernel": None}})
        assert vm["folder"].startswith("[local] "), vm["folder"]


def test_its_ports_stay_its_own(api, name):
    """What it was started with it wants back when it goes on, whatever its config says by then."""
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    forwards = [{"host_port": port, "guest_port": 80}]
    start(api, name, nics={"lan": {"forwards": forwards}})
    api.post(f"/vms/{name}/suspend")
    vm = api.ok("PATCH", f"/vms/{name}", {"config": {"nics": {"lan": {"forwards": []}}}})
    assert vm["pending"] == ["/config/nics/lan/forwards"]
    other = {"name": name + "-o", "config": tiny.config(nics={"lan": {"forwards": forwards}})}
    problem = api.problem(409, "POST", "/vms", other)
    assert str(port) in problem["detail"] and name in problem["detail"] and problem["hint"], problem

    # What is no VM of this Croft may take it all the same: then the VM stays suspended, and says why.
    with socket.create_server(("127.0.0.1", port)):
        problem = api.problem(409, "POST", f"/vms/{name}/start", None, Prefer="wait=60")
        assert str(port) in problem["detail"] + problem["hint"], problem
        vm = api.get(f"/vms/{name}")
        assert vm["status"]["state"] == "suspended" and vm["status"]["saved"], vm["status"]
    api.post(f"/vms/{name}/start")
    wait_for("its config is what it has", lambda: not api.get(f"/vms/{name}")["pending"])
    api.post("/vms", other)
    api.ok("DELETE", f"/vms/{name}-o")
