"""What of a running VM can be changed without a power cycle, with a guest that need not help. What QEMU has open is what it
has in /proc: nothing else tells the truth as well."""
import contextlib
import json
import os
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


def test_a_simulated_vm_is_as_it_is_wanted(api, name, running):
    running(engine="sim", cdroms={"cd0": {}})
    nothing_waits(change(api, name, cdroms={"cd0": {"iso": "[local] b.iso"}}))
