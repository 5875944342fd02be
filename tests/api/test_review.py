"""What a reader of croftd found wrong, each with the test that shows it."""
import contextlib
import copy
import hashlib
import os
import sqlite3
import ssl
import subprocess
import uuid

import pytest
import tiny
from croft import O, wait_for


@pytest.fixture
def name():
    return "r" + uuid.uuid4().hex[:8]


def restore(api, vms, users=()):
    return api.post("/config", {"format": 1, "users": list(users), "vms": vms})


def large_image(croft, mib):
    path = f"{croft.home}/datastores/local/large.img"
    with open(path, "wb") as f:
        for _ in range(mib):
            f.write(os.urandom(1 << 20))
    return "[local] large.img"


def test_an_end_in_the_midst_of_a_task_is_no_failure(fresh, name):
    api = fresh.client()
    tiny.upload(api)
    large = large_image(fresh, 512)
    task = api.request("POST", "/vms", {"name": name, "config": tiny.config(disks={"system": {"source": large}})}).json
    wait_for("it copies", lambda: api.get(f"/tasks/{task['id']}")["step"] == "make the disks")
    fresh.end()
    assert not [f for f in os.listdir("/proc") if f.isdigit() and is_qemu_img(f, fresh.home)]
    api = fresh.start().client()
    task = api.get(f"/tasks/{task['id']}", Prefer="wait=60")
    assert task["state"] == "done", task
    assert api.vm(name)["config"]["disks"]["system"]["path"] == f"[local] {name}/system.qcow2"


def is_qemu_img(pid, home):
    with contextlib.suppress(OSError):
        if os.readlink(f"/proc/{pid}/exe").endswith("/qemu-img"):
            return any(os.readlink(f"/proc/{pid}/fd/{fd}").startswith(home) for fd in os.listdir(f"/proc/{pid}/fd"))
    return False


def test_of_more_events_than_a_stream_gets_none_is_lost(fresh):
    fresh.end()
    with contextlib.closing(sqlite3.connect(f"{fresh.home}/croft.db")) as db:
        last = db.execute("SELECT ifnull(max(seq), 0) FROM events").fetchone()[0]
        db.executemany("INSERT INTO events (time, kind, target, user, data) VALUES (1, 'x.y', '', 'croft', '')",
                       [()] * (10900 - last))
        db.commit()
    api = fresh.start().client()
    seen = 0
    with contextlib.closing(api.events(after=10)) as events:
        for number, kind, _ in events:
            if kind == "reset":
                assert int(number) >= 10900
                break
            seen += 1
            assert int(number) == 10 + seen
            if seen == 10890:
                break


def test_kinds_are_not_cut(api):
    assert "127" in api.problem(400, "GET", "/events?kinds=" + "a" * 128)["detail"]


@pytest.fixture
def real(api, name):
    """A VM with a disk, and its entry in a backup."""
    tiny.upload(api)
    api.post("/vms", {"name": name, "config": tiny.config(disks={"system": {"size_bytes": 1 << 20}}, nics={
        "net0": {"forwards": [{"host_port": 20000 + int(name[1:4], 16), "guest_port": 22}]}})})
    return next(vm for vm in api.get("/config")["vms"] if vm["name"] == name)


def stranger(vm):
    """The same as another VM of another home would be."""
    other = copy.deepcopy(vm)
    other.update(id=str(uuid.uuid4()), name=vm["name"] + "x", folder=f"[local] {vm['name']}x")
    for disk in other["config"]["disks"].values():
        disk["path"] = disk["path"].replace(f"{vm['name']}/", f"{vm['name']}x/")
    other["config"]["nics"] = {}
    return other


def test_a_restored_vm_takes_nobodys_folder(api, real):
    other = stranger(real)
    other["folder"] = real["folder"]
    skipped = restore(api, [other])["skipped"]
    assert len(skipped) == 1 and "belongs to another VM" in skipped[0], skipped


@pytest.mark.parametrize("folder", ["[local] a/b", "[local] ", "[local]", "[none] a", "a", "", None])
def test_a_restored_vm_has_a_folder_as_vms_have(api, real, folder):
    other = stranger(real)
    other["folder"] = folder
    result = restore(api, [other])
    assert result["vms"] == 0 and len(result["skipped"]) == 1, result


def test_a_restored_vm_takes_nobodys_disk(api, real):
    other = stranger(real)
    other["config"]["disks"]["system"]["path"] = real["config"]["disks"]["system"]["path"]
    skipped = restore(api, [other])["skipped"]
    assert len(skipped) == 1 and "is not in its folder" in skipped[0], skipped


def test_a_restored_vm_obeys_the_rules_of_all_vms(api, real):
    wrong = [stranger(real) for _ in range(3)]
    wrong[0]["config"]["nics"] = real["config"]["nics"]                      # a port of the host that is given out
    wrong[1]["config"]["nics"] = {"net0": {**real["config"]["nics"]["net0"], "forwards": [], "network": "none"}}
    wrong[2]["config"]["kernel"] = {}
    for i, vm in enumerate(wrong):
        result = restore(api, [vm])
        assert result["vms"] == 0 and len(result["skipped"]) == 1, (i, result)
    two = [stranger(real), stranger(real)]
    two[1]["name"] += "y"
    assert restore(api, two)["vms"] == 1                                    # of one folder
    api.ok("DELETE", f"/vms/{real['name']}x")
    assert api.vm(real["name"])["status"]["state"] == "off"


def test_a_restored_vm_is_found_by_its_uuid_as_we_write_it(api, name):
    number = str(uuid.uuid4()).upper()
    last = api.get("/events?limit=1000")["next"]
    assert restore(api, [{"name": name, "id": number, "config": {"engine": "sim"}}])["vms"] == 1
    assert api.vm(name)["id"] == number.lower()
    events = api.get(f"/events?after={last}")["items"]
    assert [e["target"] for e in events if e["kind"] == "vm.created"] == [number.lower()]
    assert restore(api, [{"name": name + "y", "id": number, "config": {"engine": "sim"}}])["vms"] == 0


def test_restored_users(api, name):
    twice = [{"name": name, "role": "viewer"}] * 2
    assert "twice" in api.problem(422, "POST", "/config", {"format": 1, "users": twice})["detail"]
    weak = [{"name": name, "role": "viewer", "password_hash": "$6$rounds=999999999$a$b"}]
    assert api.problem(422, "POST", "/config", {"format": 1, "users": weak})["errors"]
    many = [{"name": f"{name}.{i}", "role": "viewer"} for i in range(1000)]
    assert "more than" in api.problem(409, "POST", "/config", {"format": 1, "users": many})["detail"]


def test_a_backup_of_thousands(fresh):
    vms = [{"name": f"v{i}", "id": str(uuid.uuid4()), "config": {"engine": "sim", "description": "d" * 1000}} for i in range(3000)]
    api = fresh.client()
    assert restore(api, vms)["vms"] == 3000
    kept = api.get("/config")
    assert len(kept["vms"]) == 3000
    again = api.ok("POST", "/config", kept)
    assert again["vms"] == 0 and len(again["skipped"]) == 501 and "more" in again["skipped"][-1]


def uploads(api, target):
    return [u for u in api.get("/uploads")["items"] if u["target"] == f"[local] {target}"]


def leftovers(croft):
    return [f for f in os.listdir(f"{croft.home}/datastores/local") if f.startswith(".croft-upload-")]


def test_an_upload_that_comes_to_nothing_leaves_nothing(croft, api, name):
    files = f"/datastores/local/files/{name}"
    digest = {"Repr-Digest": "sha-256=:" + "A" * 43 + "=:"}
    assert api.request("PUT", files, b"x" * 1000, digest).status == 422
    assert not uploads(api, name) and not leftovers(croft)
    with api.raw_socket() as cut:                # cut off: it may go on, so it stays
        cut.sendall(f"PUT /api/v1{files} HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n".encode() + b"x" * 500)
        wait_for("it has begun", lambda: leftovers(croft))
    assert uploads(api, name)
    with open(f"{croft.home}/datastores/local/{name}", "w", encoding="ascii"):
        pass                                    # somebody else makes a file of that name
    wait_for("it is cut off", lambda: "name-taken" in api.problem(409, "PUT", files, b"x" * 1000)["type"])
    assert not uploads(api, name) and not leftovers(croft)


def test_what_a_vm_is_made_of_is_not_replaced(api, real):
    disk = f"/datastores/local/files/{real['name']}/system.qcow2"
    for path in ("/datastores/local/files/tiny.bin", disk):
        assert "the VM r" in api.problem(409, "PUT", f"{path}?replace=true", b"x")["detail"]
    assert api.request("GET", disk).status == 200
    api.post(f"/vms/{real['name']}/start")
    assert "in use" in api.problem(409, "GET", disk)["detail"]
    api.post(f"/vms/{real['name']}/poweroff")
    assert api.request("GET", disk).status == 200


def test_the_host_tells_its_certificate(croft, api):
    with open(f"{croft.home}/tls/certificate.pem", encoding="ascii") as f:
        der = ssl.PEM_cert_to_DER_cert(f.read())
    assert api.get("/host")["agent"]["certificate_sha256"] == hashlib.sha256(der).hexdigest()


def test_a_disk_is_no_larger_than_images_can_be(api, name):
    config = {"disks": {"big": {"size_bytes": (16 << 40) + 512}}}
    problem = api.problem(422, "POST", "/vms", {"name": name, "config": config})
    assert problem["errors"][0]["pointer"] == "/config/disks/big/size_bytes"


def test_a_patch_keeps_name_and_sizes(api, real):
    path = f"/vms/{real['name']}"
    assert api.problem(422, "PATCH", path, {"name": None})["errors"][0]["pointer"] == "/name"
    larger = {"config": {"disks": {"system": {"size_bytes": 2 << 20}}}}
    assert api.problem(422, "PATCH", path, larger)["errors"][0]["pointer"] == "/config/disks/system/size_bytes"


def test_a_stop_ends_nobody_else(fresh):
    """The lock file may name a process that ended long ago, and whose number is a stranger's now."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger_process:
        with open(f"{fresh.home}/lock", "w", encoding="ascii") as f:
            f.write(f"{stranger_process.pid}\n")
        result = subprocess.run([f"{O}/croftd", "--home", fresh.home, "--stop"], capture_output=True, timeout=60, check=False)
        assert result.returncode == 1 and stranger_process.poll() is None, result
        stranger_process.kill()
    with open(f"{fresh.home}/lock", "w", encoding="ascii") as f:
        f.write(f"{fresh.process.pid}\n")


def test_a_row_never_makes_a_guest_root(fresh, name):
    api = fresh.client()
    api.post("/vms", {"name": name, "config": {"engine": "sim"}})
    fresh.end()
    with contextlib.closing(sqlite3.connect(f"{fresh.home}/croft.db")) as db:
        db.execute("UPDATE vms SET uid = 0")
        db.commit()
    api = fresh.start().client()
    assert "uid 0" in api.vm(name)["status"]["problem"]
    assert "uid 0" in api.problem(409, "POST", f"/vms/{name}/start")["detail"]
