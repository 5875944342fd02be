"""Disks of VMs: made, copied from images, refused when they are not what they should be; what fails leaves nothing."""
import json
import os
import shutil
import struct
import subprocess
import tempfile
import uuid

import pytest
import tiny
from croft import Croft, wait_for

MIB = 1 << 20


@pytest.fixture
def name():
    return "d" + uuid.uuid4().hex[:8]


@pytest.fixture
def store(croft):
    return f"{croft.home}/datastores/local"


@pytest.fixture(scope="module", autouse=True)
def images(croft):
    """Sources of several kinds on the datastore, good ones and bad ones."""
    store = f"{croft.home}/datastores/local"
    tiny.upload(croft.client())
    with open(f"{store}/good.img", "wb") as f:
        f.write(b"MARK" + os.urandom(3 * MIB))
        f.truncate(8 * MIB)
    with open(f"{store}/odd.img", "wb") as f:
        f.write(b"x" * 1000)

    def qemu_img(*arguments):
        subprocess.run(["qemu-img", *arguments], cwd=store, check=True, stdout=subprocess.DEVNULL)
    qemu_img("convert", "-O", "qcow2", "good.img", "good.qcow2")
    qemu_img("convert", "-c", "-O", "qcow2", "good.img", "compressed.qcow2")
    qemu_img("create", "-q", "-f", "qcow2", "-b", "good.qcow2", "-F", "qcow2", "backed.qcow2")
    qemu_img("create", "-q", "-f", "qcow2", "-u", "-b", "/etc/shadow", "-F", "raw", "thief.qcow2", "1M")
    qemu_img("create", "-q", "-f", "qcow2", "-o", "data_file=data.raw,data_file_raw=on", "datafile.qcow2", "8M")
    qemu_img("create", "-q", "-f", "vmdk", "vmdk.qcow2", "1M")
    with open(f"{store}/garbage.qcow2", "wb") as f:
        f.write(os.urandom(100_000))
    with open(f"{store}/empty.qcow2", "wb"):
        pass
    with open(f"{store}/good.qcow2", "rb") as f:
        head = bytearray(f.read())
    with open(f"{store}/truncated.qcow2", "wb") as f:
        f.write(head[:70000])
    struct.pack_into(">Q", head, 24, 1 << 62)       # its virtual size
    with open(f"{store}/huge.qcow2", "wb") as f:
        f.write(head)


def info(path):
    out = subprocess.run(["qemu-img", "info", "--output=json", path], stdout=subprocess.PIPE, check=True).stdout
    return json.loads(out)


def begins(path, fmt="qcow2"):
    with tempfile.NamedTemporaryFile() as f:
        subprocess.run(["qemu-img", "dd", "-f", fmt, "-O", "raw", "bs=4", "count=1", f"if={path}", f"of={f.name}"], check=True)
        return f.read(4)


def vm(name, disks, **more):
    return {"name": name, "config": tiny.config(disks=disks, **more)}


def nothing_is_left(croft, api, name):
    store = f"{croft.home}/datastores/local"
    assert api.request("GET", f"/vms/{name}").status == 404
    assert not os.path.exists(f"{store}/{name}")
    assert [n for n in os.listdir(store) if n.startswith(".croft-")] == [".croft-datastore.json"]
    assert not api.get("/host")["agent"]["tasks_open"]


def test_an_empty_disk(api, name, store):
    made = api.post("/vms", vm(name, {"system": {"size_bytes": 64 * MIB}, "data": {"size_bytes": 1 << 40}}))
    assert made["folder"] == f"[local] {name}"
    for disk, size in (("system", 64 * MIB), ("data", 1 << 40)):
        assert made["config"]["disks"][disk]["path"] == f"[local] {name}/{disk}.qcow2"
        found = info(f"{store}/{name}/{disk}.qcow2")
        assert found["format"] == "qcow2" and found["virtual-size"] == size and found["actual-size"] < MIB
        assert "backing-filename" not in found
    with open(f"{store}/{name}/vm.croft.json", encoding="utf-8") as f:
        descriptor = json.load(f)
    assert descriptor["id"] == made["id"] and descriptor["config"]["disks"] == made["config"]["disks"]


@pytest.mark.parametrize("source", ["good.img", "good.qcow2", "compressed.qcow2"])
@pytest.mark.parametrize("size", [0, 32 * MIB])
def test_copies(api, name, store, source, size):
    made = api.post("/vms", vm(name, {"system": {"source": f"[local] {source}", "size_bytes": size}}))
    found = info(f"{store}/{name}/system.qcow2")
    assert found["format"] == "qcow2" and found["virtual-size"] == (size or 8 * MIB) and "backing-filename" not in found
    assert begins(f"{store}/{name}/system.qcow2") == b"MARK"
    assert "source" not in made["config"]["disks"]["system"]
    assert made["config"]["disks"]["system"]["size_bytes"] == (size or 8 * MIB), "as large as its source"
    subprocess.run(["qemu-img", "check", "-q", f"{store}/{name}/system.qcow2"], check=True)
    # A copy is a copy: the source may go.
    before = os.stat(f"{store}/{source}")
    assert before.st_ino != os.stat(f"{store}/{name}/system.qcow2").st_ino


@pytest.mark.parametrize("source, status", [
    ("[local] none.qcow2", 404), ("[local] garbage.qcow2", 422), ("[local] empty.qcow2", 422), ("[local] backed.qcow2", 422),
    ("[local] thief.qcow2", 422), ("[local] datafile.qcow2", 422), ("[local] vmdk.qcow2", 422), ("[local] truncated.qcow2", None),
    ("[local] huge.qcow2", None), ("[local] tiny.bin", 422)])
def test_sources_that_are_none(croft, api, name, source, status):
    answer = api.request("POST", "/vms", vm(name, {"first": {"size_bytes": MIB}, "system": {"source": source}}), {"Prefer": "wait=60"})
    assert answer.status == status or (status is None and answer.status >= 400), answer
    assert answer.json["detail"] and "shadow" not in answer.json["detail"].replace("/etc/shadow", ""), answer
    nothing_is_left(croft, api, name)


@pytest.mark.parametrize("disk, pointer", [
    ({}, "/config/disks/system"), ({"size_bytes": 1000}, "/config/disks/system/size_bytes"),
    ({"size_bytes": 1 << 60}, "/config/disks/system/size_bytes"), ({"source": "[none] x.qcow2"}, "/config/disks/system/source"),
    ({"source": "x.qcow2"}, "/config/disks/system/source"), ({"source": "[local] ../x.qcow2"}, "/config/disks/system/source"),
    ({"source": "[local] /etc/passwd"}, "/config/disks/system/source"), ({"source": "[local] .croft-datastore.json"}, "/config/disks/system/source"),
    ({"size_bytes": MIB, "path": "[local] good.qcow2"}, "/config/disks/system/path"),
    ({"size_bytes": MIB, "format": "raw"}, "/config/disks/system/format")])
def test_disks_that_cannot_be(croft, api, name, disk, pointer):
    answer = api.request("POST", "/vms", vm(name, {"system": disk}), {"Prefer": "wait=60"})
    assert answer.status in (404, 422) and answer.json["errors"][0]["pointer"] == pointer, answer
    assert answer.json.get("hint") or "must be" in answer.json["detail"], answer
    nothing_is_left(croft, api, name)


def test_a_copy_does_not_shrink(croft, api, name):
    problem = api.problem(422, "POST", "/vms", vm(name, {"system": {"source": "[local] good.qcow2", "size_bytes": MIB}}), Prefer="wait=60")
    assert "8" in problem["detail"] and problem["hint"], problem
    nothing_is_left(croft, api, name)


@pytest.mark.parametrize("disk", ["../x", "a/b", ".x", "", "x" * 64, "a b", "ä"])
def test_names_of_disks(api, name, disk):
    problem = api.problem(422, "POST", "/vms", vm(name, {disk: {"size_bytes": MIB}}))
    assert problem["errors"][0]["pointer"].startswith("/config/disks"), problem


def test_too_many_disks(api, name):
    problem = api.problem(422, "POST", "/vms", vm(name, {f"d{i}": {"size_bytes": MIB} for i in range(17)}))
    assert problem["errors"][0]["pointer"] == "/config/disks" and "16" in problem["detail"]


def test_sixteen_disks_of_all_kinds(api, name, store):
    disks = {f"d{i}": {"size_bytes": MIB, "bus": ("virtio", "nvme", "scsi")[i % 3]} for i in range(16)}
    api.post("/vms", vm(name, disks))
    assert len([n for n in os.listdir(f"{store}/{name}") if n.endswith(".qcow2")]) == 16
    api.post(f"/vms/{name}/start")
    api.console(name).until(b"R")
    api.post(f"/vms/{name}/poweroff")
    api.ok("DELETE", f"/vms/{name}")
    assert not os.path.exists(f"{store}/{name}")


def test_delete_takes_the_files_along(croft, api, name, store):
    api.post("/vms", vm(name, {"system": {"source": "[local] good.qcow2"}}))
    api.ok("DELETE", f"/vms/{name}")
    nothing_is_left(croft, api, name)
    assert os.path.exists(f"{store}/good.qcow2")
    # The name and the folder are free again.
    api.post("/vms", vm(name, {"system": {"size_bytes": MIB}}))
    api.ok("DELETE", f"/vms/{name}")


def test_delete_when_files_are_gone_already(croft, api, name, store):
    api.post("/vms", vm(name, {"system": {"size_bytes": MIB}}))
    shutil.rmtree(f"{store}/{name}")
    api.ok("DELETE", f"/vms/{name}")
    nothing_is_left(croft, api, name)


def test_a_strange_file_in_the_folder_is_not_deleted(api, name, store):
    """Somebody put it there by hand. The VM goes; what isn't Croft's stays, and is told."""
    api.post("/vms", vm(name, {"system": {"size_bytes": MIB}}))
    with open(f"{store}/{name}/notes.txt", "w", encoding="ascii") as f:
        f.write("mine")
    answer = api.request("DELETE", f"/vms/{name}", None, {"Prefer": "wait=30"})
    assert os.path.exists(f"{store}/{name}/notes.txt")
    if answer.status != 204:
        assert answer.status == 409 and name in answer.json["detail"] and answer.json["hint"], answer
        os.unlink(f"{store}/{name}/notes.txt")
        api.ok("DELETE", f"/vms/{name}")


def test_a_folder_of_that_name_is_not_taken_over(croft, api, name, store):
    os.mkdir(f"{store}/{name}")
    with open(f"{store}/{name}/precious", "w", encoding="ascii") as f:
        f.write("mine")
    made = api.request("POST", "/vms", vm(name, {"system": {"size_bytes": MIB}}), {"Prefer": "wait=30"})
    if made.status == 201:      # beside it, under another name
        assert made.json["folder"] != f"[local] {name}"
        api.ok("DELETE", f"/vms/{name}")
    with open(f"{store}/{name}/precious", encoding="ascii") as f:
        assert f.read() == "mine"
    shutil.rmtree(f"{store}/{name}")


def test_a_disk_that_is_gone_is_told_at_the_start(api, name, store):
    api.post("/vms", vm(name, {"system": {"size_bytes": MIB}}))
    os.unlink(f"{store}/{name}/system.qcow2")
    problem = api.problem(404, "POST", f"/vms/{name}/start", None, Prefer="wait=30")
    assert "system.qcow2" in problem["detail"], problem
    assert api.vm(name)["status"]["state"] == "off"


def test_a_disk_that_is_not_what_it_was(api, name, store):
    """A guest, or a person, made a header that names another file: it is never opened."""
    api.post("/vms", vm(name, {"system": {"size_bytes": MIB}}))
    shutil.copy(f"{store}/thief.qcow2", f"{store}/{name}/system.qcow2")
    problem = api.problem(422, "POST", f"/vms/{name}/start", None, Prefer="wait=30")
    assert "backing" in problem["detail"] and problem["hint"], problem
    os.unlink(f"{store}/{name}/system.qcow2")
    os.symlink("/etc/passwd", f"{store}/{name}/system.qcow2")
    assert api.request("POST", f"/vms/{name}/start", None, {"Prefer": "wait=30"}).status == 403
    assert api.vm(name)["status"]["state"] == "off"


def test_a_disk_of_two_vms_is_opened_once(api, name, store):
    """By hand: a link to the disk of a VM that runs. QEMU's lock refuses it."""
    api.post("/vms", vm(name, {"system": {"size_bytes": MIB}}))
    api.post("/vms", vm(name + "b", {"system": {"size_bytes": MIB}}))
    os.unlink(f"{store}/{name}b/system.qcow2")
    os.link(f"{store}/{name}/system.qcow2", f"{store}/{name}b/system.qcow2")
    api.post(f"/vms/{name}/start")
    answer = api.request("POST", f"/vms/{name}b/start", None, {"Prefer": "wait=60"})
    assert answer.status >= 400 and "lock" in answer.json["detail"], answer
    assert api.vm(name)["status"]["state"] == "running" and api.vm(name + "b")["status"]["state"] == "off"
    api.post(f"/vms/{name}/poweroff")


def test_a_source_that_a_guest_writes_to(croft, api, name):
    api.post("/vms", vm(name, {"system": {"source": "[local] good.qcow2"}}))
    api.post(f"/vms/{name}/start")
    answer = api.request("POST", "/vms", vm(name + "b", {"system": {"source": f"[local] {name}/system.qcow2"}}), {"Prefer": "wait=60"})
    assert answer.status == 409 and name in answer.json["detail"] and answer.json["hint"], answer
    nothing_is_left(croft, api, name + "b")
    api.post(f"/vms/{name}/poweroff")
    api.post("/vms", vm(name + "b", {"system": {"source": f"[local] {name}/system.qcow2"}}))


@pytest.fixture
def small():
    """A croftd whose datastore has 16 MB."""
    folder = tempfile.mkdtemp(prefix="croft-test-")
    c = Croft(f"{folder}/home")
    os.makedirs(f"{c.home}/datastores/local", 0o700)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=700", "tmpfs", f"{c.home}/datastores/local"], check=False)
    if mounted.returncode:
        shutil.rmtree(folder)
        pytest.skip("no tmpfs can be mounted here")
    try:
        yield c.start()
        c.stop()
        wait_for("no process is left", lambda: not c.processes())
    finally:
        if c.process.poll() is None:
            c.kill()
        subprocess.run(["umount", "-l", f"{c.home}/datastores/local"], check=False)
        shutil.rmtree(folder)


def test_a_datastore_that_is_full(small):
    """Told, undone, and the rest goes on: what is deleted makes room again."""
    api, store = small.client(), f"{small.home}/datastores/local"
    data = os.urandom(9 * MIB)
    assert api.request("PUT", "/datastores/local/files/source.img", data).status == 201
    free = api.get("/datastores/local")["status"]["free_bytes"]
    assert free < 8 * MIB
    answer = api.request("PUT", "/datastores/local/files/more.img", data)
    assert answer.status == 507 and answer.json["type"] == "/problems/no-space", answer
    answer = api.request("POST", "/vms", vm("big", {"system": {"source": "[local] source.img"}, "data": {"size_bytes": MIB}}), {"Prefer": "wait=60"})
    assert answer.status == 507 and answer.json["type"] == "/problems/no-space", answer
    assert sorted(os.listdir(store)) == [".croft-datastore.json", "source.img"] and api.request("GET", "/vms/big").status == 404
    # (The kernel lets go of a file that was in a jail a moment after its last process.)
    wait_for("the room is free again", lambda: abs(api.get("/datastores/local")["status"]["free_bytes"] - free) < MIB)
    api.ok("DELETE", "/datastores/local/files/source.img")
    tiny.upload(api)
    api.post("/vms", vm("small", {"system": {"size_bytes": MIB}}))
    # Without a length nobody can know before; what came is given back.
    api.http.request("PUT", "/api/v1/datastores/local/files/stream.img", iter([data, data]), encode_chunked=True,
                     headers={"Transfer-Encoding": "chunked"})
    assert api.http.getresponse().status == 507
    api.http.close()
    wait_for("its file is gone", lambda: not [n for n in os.listdir(store) if n.startswith(".croft-upload")] or
             api.items("/uploads"))
    for upload in api.items("/uploads"):
        assert api.request("DELETE", f"/uploads/{upload['id']}").status == 204
    assert api.get("/datastores/local")["status"]["free_bytes"] > 10 * MIB


def test_a_disk_without_a_name_gets_the_next_one(api, name):
    api.post("/vms", {"name": name, "config": tiny.config(disks={"disk1": {"size_bytes": MIB}})})
    for expected in (["disk0"], ["disk0", "disk2"]):
        vm = api.post(f"/vms/{name}/disks", {"size_bytes": MIB})
        assert sorted(vm["config"]["disks"]) == sorted(["disk1", *expected])
    assert vm["config"]["disks"]["disk2"]["path"] == f"[local] {name}/disk2.qcow2"
    assert api.post(f"/vms/{name}/disks", {"name": "mine", "size_bytes": MIB})["config"]["disks"]["mine"]
    problem = api.problem(422, "POST", f"/vms/{name}/disks", {})
    assert "size_bytes" in problem["detail"] and problem["hint"], problem
    api.ok("DELETE", f"/vms/{name}")
