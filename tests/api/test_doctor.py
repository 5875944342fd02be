"""The doctor: each fault is made for real, found, and mended by the command that the finding names."""
import contextlib
import ctypes
import fcntl
import glob
import json
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import uuid

import pytest
import tiny
from croft import O, wait_for

HOUR = 3600


@pytest.fixture
def name():
    return "d" + uuid.uuid4().hex[:8]


@pytest.fixture(autouse=True)
def guest(croft):
    tiny.upload(croft.client())


def examine(c, deep=False):
    return c.client().get("/host/doctor" + ("?deep=true" if deep else ""))


def find(c, what, **how):
    """The findings of this kind."""
    return [f for f in examine(c, **how)["findings"] if f["what"] == what]


def one(c, what, part="", **how):
    found = [f for f in find(c, what, **how) if part in f["text"]]
    assert len(found) == 1, examine(c)
    assert found[0]["hint"] is None or "\n" not in found[0]["hint"]
    return found[0]


def run(c, hint):
    """As a person would at a root shell of this host."""
    subprocess.run(["/bin/sh", "-ec", hint.replace("vmctl ", f"{O}/vmctl -y --socket {c.socket} ")], check=True,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def vmctl(c, *words):
    return subprocess.run([f"{O}/vmctl", "--socket", c.socket, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)


def create(c, name, start=False, **more):
    api = c.client()
    api.post("/vms", {"name": name, "config": tiny.config(**more), "start": start})
    if start:
        api.wait_state(name, "running")
        wait_for("its start has ended", lambda: not api.vm(name)["status"]["task"])
    return api.vm(name)


@contextlib.contextmanager
def database(c):
    """croftd is down meanwhile."""
    c.kill()
    with contextlib.closing(sqlite3.connect(f"{c.home}/croft.db")) as db:
        yield db
        db.commit()
    c.start()


def store(c, *path):
    return os.path.join(c.home, "datastores/local", *path)


def test_all_is_well(croft, name):
    create(croft, name, start=True, disks={"system": {"size_bytes": 1 << 20}})
    found = examine(croft)
    assert found["complete"] and found["looked_at"] > 10 and found["errors"] == 0
    assert {f["what"] for f in found["findings"] if f["object"] == name} == set()
    assert [f["severity"] for f in found["findings"]].count("note") == found["notes"]
    said = vmctl(croft, "doctor")
    assert said.returncode == 0 and "things looked at" in said.stdout, said
    assert json.loads(vmctl(croft, "doctor", "-o", "json").stdout)["complete"]


def test_the_worst_first_and_the_exit_status(croft, name):
    create(croft, name, disks={"system": {"size_bytes": 1 << 20}})
    os.unlink(store(croft, name, "system.qcow2"))
    order = ["error", "warning", "note"]
    ranks = [order.index(f["severity"]) for f in examine(croft)["findings"]]
    assert ranks == sorted(ranks) and ranks[0] == 0
    said = vmctl(croft, "doctor")
    assert said.returncode == 1 and f"{name} needs [local] {name}/system.qcow2, which is not there  [vm-file-missing]" in said.stdout
    croft.client().ok("DELETE", f"/vms/{name}")


def test_many_at_once(croft):
    """They come one after the other, and each is whole."""
    clients = [croft.client() for _ in range(5)]
    for c in clients:
        c.http.request("GET", "/api/v1/host/doctor")
    for c in clients:
        assert json.loads(c.http.getresponse().read())["complete"]


def test_croftd_ends_in_the_midst(fresh):
    for _ in range(3):
        clients = [fresh.client() for _ in range(5)]
        for c in clients:
            c.http.request("GET", "/api/v1/host/doctor")
        fresh.end()
        fresh.start()


def test_when_croftd_is_down(fresh):
    fresh.end()
    said = vmctl(fresh, "doctor")
    assert said.returncode == 7 and "croftd does not run" in said.stdout and "start it again" in said.stdout, said
    fresh.start()
    fresh.process.send_signal(signal.SIGSTOP)
    try:
        said = vmctl(fresh, "--timeout", "1", "doctor")
    finally:
        fresh.process.send_signal(signal.SIGCONT)
    assert said.returncode == 6 and "croftd runs" in said.stdout, said


def test_a_guest_whose_row_is_lost(fresh, name):
    """What is left of it is found one after the other, and mended by what the doctor says."""
    tiny.upload(fresh.client())
    vm = create(fresh, name, start=True, disks={"system": {"size_bytes": 1 << 20}})
    with database(fresh) as db:
        db.execute("DELETE FROM vms WHERE id = ?", (vm["id"],))
    found = one(fresh, "guest-without-vm")
    assert found["severity"] == "error" and found["object"] == vm["id"] and name in found["text"]
    assert found["hint"] == f"kill {vm['status']['pid']}"
    folder = one(fresh, "folder-without-vm")
    assert vm["id"] in folder["text"] and folder["object"] == f"[local] {name}"
    run(fresh, found["hint"])
    wait_for("it is gone", lambda: not find(fresh, "guest-without-vm"))
    wait_for("its croft-vm, too", lambda: not fresh.processes() or [n for _, n in fresh.processes()] == ["croft-front"] * len(fresh.processes()))
    run(fresh, one(fresh, "run-folder-left")["hint"])
    assert not find(fresh, "run-folder-left") and os.listdir(f"{fresh.home}/run/vm") == []
    run(fresh, folder["hint"])
    assert not find(fresh, "folder-without-vm") and not os.path.exists(store(fresh, name))


def test_a_guest_without_row_and_run_folder(fresh, name):
    tiny.upload(fresh.client())
    vm = create(fresh, name, start=True)
    fresh.kill()
    shutil.rmtree(f"{fresh.home}/run/vm/{vm['id']}")
    fresh.start()
    assert fresh.client().vm(name)["status"]["state"] == "off"
    found = one(fresh, "guest-of-vm-that-is-off")
    assert found["object"] == name and found["severity"] == "error"
    assert one(fresh, "keeper-without-vm")["severity"] == "warning"
    with database(fresh) as db:
        db.execute("DELETE FROM vms")
    again = one(fresh, "guest-without-vm")
    assert again["hint"] == found["hint"] == f"kill {vm['status']['pid']}"
    run(fresh, again["hint"])
    wait_for("both are gone", lambda: not find(fresh, "guest-without-vm") and not find(fresh, "keeper-without-vm"))


def test_rows_without_files(croft, name):
    create(croft, name, disks={"system": {"size_bytes": 1 << 20}}, cdroms={"cd0": {"iso": "[local] gone.iso"}})
    assert one(croft, "vm-file-missing", name)["object"] == "[local] gone.iso"
    croft.client().ok("PATCH", f"/vms/{name}", {"config": {"cdroms": {"cd0": None}}})
    folder = store(croft, name)
    for path, what in ((f"{folder}/system.qcow2", "vm-file-missing"), (folder, "vm-folder-missing")):
        os.rename(path, store(croft, "aside"))
        assert one(croft, what, name)["severity"] == "error"
        os.rename(store(croft, "aside"), path)
        assert not [f for f in find(croft, what) if name in f["text"]]
    os.unlink(f"{folder}/.croft-vm")
    run(croft, one(croft, "vm-folder-not-marked", name)["hint"])
    assert not find(croft, "vm-folder-not-marked")
    shutil.copytree(folder, store(croft, f"copy of '{name}'"))
    run(croft, one(croft, "folder-twice", name)["hint"])
    assert not find(croft, "folder-twice") and not os.path.exists(store(croft, f"copy of '{name}'")) and os.path.exists(folder)
    croft.client().ok("DELETE", f"/vms/{name}")


def test_uefi_variables(croft, name):
    if croft.client().get("/host")["facts"].get("firmware", {}).get("code") is None:
        pytest.skip("no UEFI firmware here")
    croft.client().post("/vms", {"name": name, "config": {"firmware": "uefi"}})
    assert not [f for f in find(croft, "vm-file-missing") if name in f["text"]]
    os.unlink(store(croft, name, "uefi-vars.qcow2"))
    assert one(croft, "vm-file-missing", name)["object"] == f"[local] {name}/uefi-vars.qcow2"
    croft.client().ok("DELETE", f"/vms/{name}")


@pytest.mark.parametrize("broken", [None, b"", b"{", b"[]", b'{"id": 7, "config": {}, "revision": "x"}', "other", "differs", "older"])
def test_descriptors(croft, name, broken):
    create(croft, name)
    path = store(croft, name, "vm.croft.json")
    assert not [f for f in find(croft, "vm-descriptor") if f["object"] == name]
    with open(path, encoding="utf-8") as f:
        good = json.load(f)
    if broken is None:
        os.unlink(path)
    else:
        change = {"other": {"id": str(uuid.uuid4())}, "differs": {"config": {**good["config"], "memory_bytes": 96 << 20}},
                  "older": {"revision": 0}}.get(broken)
        with open(path, "wb") as f:
            f.write(json.dumps({**good, **change}).encode() if change else broken)
    found = [f for f in find(croft, "vm-descriptor") if f["object"] == name]
    assert len(found) == 1 and found[0]["severity"] == "warning" and found[0]["hint"]
    croft.client().ok("DELETE", f"/vms/{name}")


def age(path, seconds):
    at = os.stat(path).st_mtime - seconds
    os.utime(path, (at, at))


def leave(c, kind, folder="", seconds=0):
    path = store(c, folder, f".croft-{kind}-{uuid.uuid4()}")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(bytes(1 << 20))
    age(path, seconds)
    return path


def test_leftover_files(fresh):
    """Old ones are told, and swept when croftd starts; what is young, or belongs to an upload that may go on, stays."""
    fresh.client().post("/datastores/local/folders/in")
    with contextlib.closing(fresh.client().raw_socket()) as half:
        half.sendall(b"PUT /api/v1/datastores/local/files/in/half HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + bytes(500))
        wait_for("it has begun", lambda: fresh.client().get("/uploads")["items"])
    row = fresh.client().get("/uploads")["items"][0]
    mine = store(fresh, "in", f".croft-upload-{row['id']}")
    wait_for("it is there", lambda: os.path.exists(mine))
    old, young = [leave(fresh, "upload", "in", 2 * HOUR), leave(fresh, "new", "", 2 * HOUR)], leave(fresh, "new")
    folder = store(fresh, f".croft-new-{uuid.uuid4()}")
    os.mkdir(folder)
    age(folder, 2 * HOUR)
    age(mine, 2 * HOUR)
    found = find(fresh, "leftover-file")
    assert sorted(f["object"] for f in found) == sorted(os.path.relpath(p, store(fresh)) for p in [*old, folder])
    run(fresh, next(f["hint"] for f in found if f["object"] in old[0]))
    assert not os.path.exists(old[0]) and len(find(fresh, "leftover-file")) == 2
    fresh.end()
    fresh.start()
    wait_for("they are swept", lambda: not os.path.exists(old[1]) and not os.path.exists(folder))
    assert os.path.exists(young) and os.path.exists(mine) and not find(fresh, "leftover-file")


def test_an_upload_that_nobody_goes_on_with(fresh):
    with contextlib.closing(fresh.client().raw_socket()) as half:
        half.sendall(b"PUT /api/v1/datastores/local/files/half HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + bytes(500))
        wait_for("it has begun", lambda: fresh.client().get("/uploads")["items"])
    assert not find(fresh, "upload-cut-off")
    with database(fresh) as db:
        db.execute("UPDATE uploads SET created = created - 864000000000")
    run(fresh, one(fresh, "upload-cut-off")["hint"])
    assert not find(fresh, "upload-cut-off") and fresh.client().get("/uploads")["items"] == []


def test_no_more_than_a_hundred_of_them(fresh):
    with database(fresh) as db:
        for i in range(99):
            db.execute("INSERT INTO uploads VALUES (?, 'root', ?, 0, NULL, 0, 0)", (str(uuid.uuid4()), f"[local] f{i}"))
    api = fresh.client()
    assert api.request("PUT", "/datastores/local/files/one", b"x").status == 201       # and its row is gone with it
    with contextlib.closing(api.raw_socket()) as half:
        half.sendall(b"PUT /api/v1/datastores/local/files/half HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + bytes(500))
        wait_for("it has begun", lambda: len(api.get("/uploads")["items"]) == 100)
        problem = api.problem(409, "PUT", "/datastores/local/files/two", b"x")
        assert "100 uploads" in problem["detail"] and problem["hint"]
    assert api.request("PUT", "/datastores/local/files/f7", b"x").status == 201         # one of them may go on, or begin anew


def test_a_tap_that_nobody_uses(croft):
    if not os.path.exists("/dev/net/tun"):
        pytest.skip("no /dev/net/tun")
    tap = f"croft-t{os.getpid() % 10**6}"
    made = subprocess.run(["ip", "tuntap", "add", "dev", tap, "mode", "tap"], stderr=subprocess.PIPE, check=False)
    if made.returncode:
        pytest.skip(f"no tap can be made here: {made.stderr.decode()}")
    found = [f for f in find(croft, "tap-without-vm") if f["object"] == tap]
    assert len(found) == 1
    run(croft, found[0]["hint"])
    assert tap not in [f["object"] for f in find(croft, "tap-without-vm")]


def test_a_datastore_that_is_gone_or_full(fresh):
    fresh.end()
    os.rename(store(fresh), store(fresh) + ".away")
    fresh.start()
    found = one(fresh, "datastore-unavailable")
    assert found["severity"] == "error" and found["object"] == "local" and "findmnt" in found["hint"]
    assert not find(fresh, "datastore-full")
    os.mkdir(store(fresh))
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "croft-test", store(fresh)], check=False).returncode:
        os.rmdir(store(fresh))
        os.rename(store(fresh) + ".away", store(fresh))
        pytest.skip("nothing can be mounted here")
    try:
        shutil.copytree(store(fresh) + ".away", store(fresh), dirs_exist_ok=True)
        for mib, severity in ((17, "note"), (1.5, "warning"), (1, "error")):
            with open(store(fresh, "filler"), "ab") as f:
                f.write(bytes(int(mib * (1 << 20))))
            assert one(fresh, "datastore-full")["severity"] == severity
        assert not find(fresh, "datastore-unavailable")
        fresh.end()
    finally:
        subprocess.run(["umount", store(fresh)], check=True)
    os.rmdir(store(fresh))
    os.rename(store(fresh) + ".away", store(fresh))
    fresh.start()


@contextlib.contextmanager
def dead_file_server(path):
    """A mount whose server answers nothing, until the end."""
    fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC) if os.path.exists("/dev/fuse") else None
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
    if fuse is None or libc.mount(b"croft-test", path.encode(), b"fuse", 0, options):
        pytest.skip("nothing can be mounted by FUSE here")
    try:
        yield
    finally:
        os.close(fuse)          # whoever waits for it gets an error
        libc.umount2(path.encode(), 2)


def test_a_datastore_that_does_not_answer(fresh, tmp_path):
    """The rest is examined all the same; asked again, it is known, and not waited for."""
    os.mkdir(tmp_path / "dead")
    tiny.upload(fresh.client())
    create(fresh, "other", disks={"system": {"size_bytes": 1 << 20}})
    os.unlink(store(fresh, "other", "system.qcow2"))
    with database(fresh) as db:
        db.execute("INSERT INTO datastores VALUES ('5c8a1f0e-94c4-4a3f-a9d8-0c9a0c0f6f11', 'dead', 1, ?, 9)", (str(tmp_path / "dead"),))
        db.commit()
        server = contextlib.ExitStack()
        server.enter_context(dead_file_server(str(tmp_path / "dead")))
    with server:
        found = examine(fresh)
        assert not found["complete"] and found["looked_at"] > 5
        assert [(f["what"], f["object"]) for f in found["findings"] if f["severity"] == "error"] == [
            ("no-answer", "the datastore dead"), ("vm-file-missing", "[local] other/system.qcow2")]
        again = examine(fresh)
        assert again["complete"] and [f["what"] for f in again["findings"] if f["severity"] == "error"] == ["datastore-hangs", "vm-file-missing"]
        assert fresh.client().get("/vms")["items"]
    wait_for("it is unavailable", lambda: find(fresh, "datastore-unavailable"), 20)
    with database(fresh) as db:
        db.execute("DELETE FROM datastores WHERE name = 'dead'")


def test_a_guest_that_was_paused_is_no_finding(croft, name):
    create(croft, name, start=True)
    croft.client().post(f"/vms/{name}/pause")
    assert name not in [f["object"] for f in examine(croft)["findings"]]
    croft.client().post(f"/vms/{name}/poweroff")


def test_a_guest_that_was_killed(croft, name):
    vm = create(croft, name, start=True)
    os.kill(vm["status"]["pid"], signal.SIGKILL)
    croft.client().wait_state(name, "off")
    run(croft, one(croft, "vm-failed", name)["hint"])
    assert not [f for f in find(croft, "vm-failed") if f["object"] == name]
    croft.client().post(f"/vms/{name}/poweroff")


def test_a_guest_whose_monitor_hangs(croft, name):
    pid = create(croft, name, start=True)["status"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    croft.client().request("POST", f"/vms/{name}/pause", None, {"Prefer": "wait=30"})
    croft.client().wait_state(name, "degraded")
    found = one(croft, "vm-degraded", name)
    assert found["severity"] == "error"
    run(croft, found["hint"])
    croft.client().wait_state(name, "off")


def test_a_lock_that_somebody_holds(fresh, name):
    tiny.upload(fresh.client())
    vm = create(fresh, name, start=True)
    fresh.client().post(f"/vms/{name}/poweroff")
    fresh.end()
    with open(f"{fresh.home}/run/vm/{vm['id']}/alive", "r+b") as f:
        fcntl.fcntl(f, 37, struct.pack("hhqqi", fcntl.F_WRLCK, 0, 0, 0, 0))     # F_OFD_SETLK
        fresh.start()
        fresh.client().wait_state(name, "lost")
        found = one(fresh, "vm-lost")
        assert found["object"] == name and f"/vm/{vm['id']}/alive" in found["hint"]
    fresh.end()         # (or half a minute later)
    fresh.start()
    assert not find(fresh, "vm-lost")


def test_maintenance(fresh):
    assert not find(fresh, "maintenance")
    fresh.client().post("/host/maintenance", {"action": "wait"})
    run(fresh, one(fresh, "maintenance")["hint"])
    assert not find(fresh, "maintenance")


def test_a_task_that_was_interrupted(fresh, name):
    tiny.upload(fresh.client())
    create(fresh, name, start=True)
    fresh.end()
    fresh.arguments = ("--libexec", O, "--web", f"{O}/web.bundle")
    fresh.program, fresh.environment = f"{O}/faults/croftd", {"CROFT_DIE_AT": "vm.pause:0:begin"}
    fresh.start()
    fresh.client().wait_state(name, "running")
    with contextlib.suppress(OSError):
        fresh.client(timeout=5).request("POST", f"/vms/{name}/pause")
    fresh.process.wait()
    fresh.program, fresh.environment = f"{O}/croftd", {}
    fresh.start()
    found = wait_for("it is told", lambda: find(fresh, "task-interrupted"))[0]
    assert name in found["text"] and found["severity"] == "warning"
    run(fresh, found["hint"])


def test_a_row_that_cannot_be_read(fresh, name):
    create(fresh, name)
    with database(fresh) as db:
        db.execute("UPDATE vms SET config = '{'")
    found = one(fresh, "vm-invalid")
    assert found["object"] == name
    run(fresh, found["hint"])
    assert fresh.client().get("/vms")["items"] == []


def test_a_database_that_is_damaged(fresh):
    """Under the running croftd: the next one would make it anew when it starts."""
    @contextlib.contextmanager
    def behind_its_back():
        with contextlib.closing(sqlite3.connect(f"{fresh.home}/croft.db")) as db:
            yield db
            db.commit()

    def schema(db, before, after):
        db.execute("PRAGMA writable_schema = 1")
        db.execute("UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE name = 'uploads'", (before, after))
        db.execute(f"PRAGMA schema_version = {db.execute('PRAGMA schema_version').fetchone()[0] + 1}")
    with behind_its_back() as db:
        db.execute("INSERT INTO uploads VALUES ('7b1a0b0e-94c4-4a3f-a9d8-0c9a0c0f6f11', 'root', '[local] x', 0, NULL, 0, 0)")
        schema(db, "digest TEXT", "digest TEXT NOT NULL")
    assert not find(fresh, "database-damaged")
    found = one(fresh, "database-damaged", deep=True)
    assert found["severity"] == "error" and "uploads.digest" in found["text"]
    assert vmctl(fresh, "doctor", "--deep").returncode == 1
    with behind_its_back() as db:
        schema(db, "digest TEXT NOT NULL", "digest TEXT")
        db.execute("DELETE FROM uploads")
    assert not find(fresh, "database-damaged", deep=True)


def test_what_was_damaged_when_croftd_started(fresh):
    assert not find(fresh, "found-at-start")
    fresh.end()
    with open(f"{fresh.home}/croft.db", "r+b") as f:
        f.write(b"no database")
    fresh.start()
    kept, = {path for path in glob.glob(f"{fresh.home}/croft.db.damaged-*") if not path.endswith("-wal")}
    assert kept in one(fresh, "found-at-start")["text"] and "found-at-start" in vmctl(fresh, "doctor", "-o", "json").stdout
    for path in glob.glob(f"{fresh.home}/croft.db.damaged-*"):
        os.remove(path)
    fresh.end()
    fresh.start()
    assert not find(fresh, "found-at-start")


@pytest.mark.parametrize("days,severity", [(10, "warning"), (-1, "error")])
def test_a_certificate_that_expires(fresh, days, severity):
    fresh.end()
    tls = f"{fresh.home}/tls"
    for argv in (["req", "-new", "-key", f"{tls}/key.pem", "-subj", "/CN=x", "-out", f"{tls}/request"],
                 ["x509", "-req", "-in", f"{tls}/request", "-signkey", f"{tls}/key.pem", "-days", str(days), "-out", f"{tls}/certificate.pem"]):
        subprocess.run(["openssl", *argv], check=True, stderr=subprocess.DEVNULL)
    fresh.start()
    found = wait_for("it is told", lambda: find(fresh, "certificate-expires"))[0]
    assert found["severity"] == severity
    run(fresh, found["hint"].partition("&&")[0])
    fresh.end()
    fresh.start()
    assert not find(fresh, "certificate-expires")


def test_a_clock_that_is_behind(fresh, tmp_path):
    """croftd was built in the future."""
    fresh.end()
    shutil.copy(f"{O}/croftd", tmp_path / "croftd")
    age(tmp_path / "croftd", -1000 * 86400)
    fresh.program, fresh.arguments = str(tmp_path / "croftd"), ("--libexec", O, "--web", f"{O}/web.bundle")
    fresh.start()
    assert one(fresh, "clock-wrong")["hint"].startswith("timedatectl")


def test_more_memory_than_there_is(fresh):
    """(The guests touch none of it.)"""
    tiny.upload(fresh.client())
    half = fresh.client().get("/host")["facts"]["memory_bytes"] * 6 // 10 >> 20 << 20
    create(fresh, "a", start=True, memory_bytes=half)
    assert not find(fresh, "memory-overcommitted")
    create(fresh, "b", start=True, memory_bytes=half)
    run(fresh, one(fresh, "memory-overcommitted")["hint"])
