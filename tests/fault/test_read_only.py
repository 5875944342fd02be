"""croftd starts on a home that is read-only, as an SD card is after an error: it shows all that was acknowledged, and what runs,
changes nothing, and says why. With the home writable again a restart is enough."""
import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import uuid

import pytest
import tiny
from croft import O, TOP, croftd, wait_for
from test_world import World

DISKS = {"disks": {"data": {"size_bytes": 1 << 20}}}


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


class Home:
    """A home whose files can be made read-only beneath everybody who comes by their names, at any time; the run folder, too,
    or not: an installed one is on a tmpfs. (What is open stays writable, as the disks of a guest on another datastore.)"""

    def __init__(self, c):
        self.c, self.sealed = c, False
        self.run, self.store = f"{c.home}/run", f"{c.home}/datastores/local"

    def seal(self, run=False):
        if not run:
            mount("--bind", self.run, self.run)
            mount("--bind", self.store, self.store)             # as a datastore on a disk that is good
        mount("--rbind", self.c.home, self.c.home)
        mount("-o", "remount,bind,ro", self.c.home)
        self.sealed = True
        self.c.socket = f"{self.run}/croft.sock"

    def open(self):
        if self.sealed:
            subprocess.run(["umount", "-l", "-R", self.c.home], check=True)
            subprocess.run(["umount", "-l", self.run, self.store], check=False, capture_output=True)
        self.sealed = False
        self.c.socket = f"{self.c.home}/croft.sock"


@pytest.fixture
def home():
    if subprocess.run(["mount", "--bind", O, O], check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    subprocess.run(["umount", "-l", O], check=True)
    with croftd("--libexec", O) as c:
        c.seals = Home(c)
        api = c.client()
        tiny.upload(api)
        for name in "runs", "off":
            api.post("/vms", {"name": name, "config": tiny.config(**DISKS)})
        api.post("/vms", {"name": "sim", "config": {"engine": "sim"}})
        c.pid = api.post("/vms/runs/start")["status"]["pid"]
        api.ok("PATCH", "/vms/off", {"labels": {"kept": "1"}})
        try:
            yield c
        finally:
            c.seals.open()


def restart(c, ended=False):
    if ended:
        c.end()
    else:
        c.kill()
    c.start()
    return c.client()


def only_in_the_log(c):
    """What the database's file alone has of the VM off."""
    with contextlib.closing(sqlite3.connect(f"file:{c.home}/croft.db?immutable=1", uri=True)) as db:
        try:
            row = db.execute("SELECT labels FROM vms WHERE name = 'off'").fetchone()
        except sqlite3.OperationalError:        # not even the table
            row = None
    return not row or "kept" not in row[0]


PASSING = {"session_create", "session_delete", "console_create"}


def routes():
    """All routes that are no reading, as the API tells them, and those that keep nothing."""
    with open(f"{TOP}/cli/openapi.json", encoding="utf-8") as f:
        paths = json.load(f)["paths"]
    for path, verbs in paths.items():
        for verb, operation in verbs.items():
            if verb in ("post", "put", "patch", "delete") and operation["operationId"] not in PASSING:
                yield verb.upper(), re.sub(r"{(\w+)}", lambda m: PARAMETERS.get(m[1], "x"), path.removeprefix("/api/v1"))


PARAMETERS = {"vm": "off", "datastore": "local", "user": "admin", "path": "tiny.bin"}
CHANGES = [
    ("PATCH", "/vms/off", {"labels": {"kept": "2"}}), ("POST", "/vms", {"name": "new", "config": {"engine": "sim"}}),
    ("DELETE", "/vms/off", None), ("POST", "/vms/off/start", None), ("POST", "/vms/sim/start", None),
    ("POST", "/vms/runs/shutdown", None), ("POST", "/vms/runs/poweroff", None), ("POST", "/vms/runs/pause", None),
    ("POST", "/vms/runs/suspend", None), ("POST", "/vms/off/disks", {"name": "more", "size_bytes": 1 << 20}),
    ("POST", "/users", {"name": "ann", "role": "viewer"}), ("POST", "/tokens", {"name": "t", "user": "admin"}),
    ("POST", "/host/maintenance", {}),
]


def frozen(c, problem):
    """It says which home, what is wrong with it, and the way out."""
    told = f"{problem['detail']} {problem.get('hint')}"
    return c.home in told and "read-only" in told and "remount" in told and "restart croftd" in told


def check_reads(c, api):
    vms = {vm["name"]: vm for vm in api.items("/vms")}
    assert set(vms) == {"runs", "off", "sim"} and vms["off"]["labels"] == {"kept": "1"}
    assert api.wait_state("runs", "running")["status"]["pid"] == c.pid
    assert [t for t in api.items("/tasks") if t["kind"] == "vm.start"] and api.get("/events?after=0")["items"]
    for path in "/datastores", "/datastores/local/files", "/networks", "/users", "/config", "/vms/runs/screen":
        assert api.request("GET", path).status < 500, path
    for told in api.get("/host")["agent"]["problems"], [f["text"] for f in api.get("/host/doctor")["findings"]]:
        assert any(frozen(c, {"detail": text}) for text in told), told


def check_changes(c, api):
    before = api.get("/vms/off"), api.get("/events?after=0&limit=1000")
    for method, path, body in CHANGES:
        problem = api.problem(503, method, path, body)
        assert frozen(c, problem), (method, path, problem)
    assert (api.get("/vms/off"), api.get("/events?after=0&limit=1000")) == before
    for method, path in routes():
        assert frozen(c, api.problem(503, method, path)), (method, path)
    assert "tiny.bin" in [f["name"] for f in api.items("/datastores/local/files")]


def test_it_comes_up_and_loses_nothing(home):
    assert only_in_the_log(home), "this test has to show more than SQLite's immutable=1 would"
    home.kill()
    home.seals.seal()
    home.start()
    api = home.client()
    check_reads(home, api)
    check_changes(home, api)
    doctor = subprocess.run([f"{O}/vmctl", "--socket", home.socket, "doctor"], capture_output=True, text=True, check=False)
    assert f"the home {home.home} is read-only" in " ".join(doctor.stdout.split()), doctor
    api = restart(home, ended=True)             # in the same state
    check_reads(home, api)
    home.seals.open()
    api = restart(home)
    assert not api.get("/host")["agent"]["problems"]
    assert api.vm("off")["labels"] == {"kept": "1"} and api.wait_state("runs", "running")["status"]["pid"] == home.pid
    api.ok("PATCH", "/vms/off", {"labels": {"kept": "3"}})
    seqs = [e["seq"] for e in api.get("/events?after=0&limit=1000")["items"]]
    assert seqs == sorted(set(seqs))


def test_a_browser_sees_what_runs(home):
    """One logs in, and the stream tells what happens, without numbers: the next croftd gives those to something else."""
    home.kill()
    home.seals.seal()
    home.start()
    browser = home.client(tls=True)
    browser.login()
    assert browser.wait_state("runs", "running")["status"]["pid"] == home.pid
    last = browser.get("/events?after=0&limit=1000")["next"]
    stream = browser.events(after=last, passing=True)
    console = browser.console("runs")
    console.type("a")
    console.until(b"a", 20)
    seen = []
    console.type("q")                           # the guest's own end
    for seq, kind, event in stream:
        seen.append(seq)
        if kind == "vm.changed" and event["target"] == browser.vm("runs")["id"] and event["data"]["status"]["state"] == "off":
            break
    assert set(seen) == {None}, seen
    assert browser.vm("runs")["status"]["state"] == "off" and browser.get("/events?after=0&limit=1000")["next"] == last
    assert browser.request("DELETE", "/session").status == 204 and browser.request("GET", "/vms").status == 401
    home.seals.open()
    api = restart(home)
    assert api.vm("runs")["status"]["state"] == "off"
    api.post("/vms/runs/start")


def test_the_run_folder_is_read_only_too(home):
    """Then HTTPS is the only way in, and the sockets of what runs are where they were."""
    home.kill()
    home.seals.seal(run=True)
    home.start()
    browser = home.client(tls=True)
    browser.login()
    check_reads(home, browser)
    check_changes(home, browser)
    console = browser.console("runs")
    console.type("a")
    console.until(b"a", 20)


@pytest.mark.parametrize("run", [False, True])
def test_the_hosts_end_shuts_guests_down(home, run):
    """croftd --stop ends the croftd that is there, and the guests by their power buttons; it needs no row for that."""
    home.client().ok("PATCH", "/vms/runs", {"config": {"shutdown": {"action": "suspend"}}})     # which could not be recorded
    home.kill()
    home.seals.seal(run)
    home.start()
    text = home.stop()
    assert "runs: asked to shut down" in text and "runs: off" in text and "suspended" not in text, text
    assert home.process.returncode == 0 and not os.path.exists(f"/proc/{home.pid}")
    home.seals.open()
    home.start()
    assert home.client().vm("runs")["status"]["state"] == "off"


def test_systemd_starts_it_again_when_the_home_can_be_written(home, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"{tmp_path}/notify")
        home.environment = {"NOTIFY_SOCKET": f"{tmp_path}/notify"}
        home.kill()
        home.seals.seal()
        home.start()
        mount("--bind", str(tmp_path), str(tmp_path))           # a mount that has nothing to do with it
        subprocess.run(["umount", "-l", tmp_path], check=True)
        check_reads(home, home.client())
        home.seals.open()
        assert home.process.wait(20) == 0 and "can be written again" in home.log
    home.environment = {}
    home.start()
    home.client().ok("PATCH", "/vms/off", {"labels": {"kept": "3"}})


def test_there_is_no_certificate_yet(home):
    """It makes one that serves until it ends."""
    home.kill()
    shutil.rmtree(f"{home.home}/tls")
    home.seals.seal()
    home.start()
    served = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", home.port)))
    assert hashlib.sha256(served).hexdigest() == home.client().get("/host")["agent"]["certificate_sha256"]


def refused(c):
    """A second croftd of this home is, with the number of the first."""
    second = subprocess.run([f"{O}/croftd", "--home", c.home, "--listen", "127.0.0.1:0"], capture_output=True, text=True, check=False,
                            timeout=60)
    return second.returncode == 1 and int(re.search(r"another croftd \(process (\d+)\) serves", second.stderr)[1]) == c.process.pid


def test_one_croftd_only(home):
    """Whoever comes first, and whatever has become of the home since."""
    home.seals.seal()
    assert refused(home)                        # it could write when it started
    restart(home)
    assert refused(home)
    home.seals.open()
    assert refused(home)                        # and now the second one could


def test_what_crashes_meanwhile_is_started_again_later(home):
    api = home.client()
    api.post("/vms/runs/poweroff")
    api.ok("PATCH", "/vms/runs", {"config": {"on_crash": "restart"}})
    pid = api.post("/vms/runs/start")["status"]["pid"]
    home.kill()
    home.seals.seal()
    home.start()
    api = home.client()
    api.wait_state("runs", "running")
    os.kill(pid, signal.SIGKILL)
    assert not api.wait_state("runs", "off")["status"]["note"], "it is not said to be started again"
    home.seals.open()
    assert restart(home).wait_state("runs", "running")["status"]["pid"] != pid


def test_what_starts_with_the_host_starts_later(home, tmp_path):
    home.client().ok("PATCH", "/vms/off", {"config": {"autostart": True}})
    world = World(tmp_path / "world")
    home.end()
    home.program, home.environment = f"{O}/faults/croftd", {"CROFT_WORLD": str(tmp_path / "world")}
    home.seals.seal()
    world.set(boot=str(uuid.uuid4()))
    home.start()
    assert home.client().wait_state("runs", "running")["status"]["pid"] == home.pid
    assert home.client().vm("off")["status"]["state"] == "off" and "has not begun" in home.log
    home.seals.open()
    restart(home).wait_state("off", "running")


def test_a_task_waits_until_it_can_be_saved(home):
    """Nothing is done for it that could not be written down."""
    home.end()
    home.program, home.environment = f"{O}/faults/croftd", {"CROFT_DIE_AT": "vm.delete:1:begin"}
    home.start()
    with contextlib.suppress(OSError, http.client.HTTPException):        # its answer may come no more
        home.client().request("DELETE", "/vms/off")
    home.process.wait(20)
    home.program, home.environment = f"{O}/croftd", {}
    home.seals.seal()
    home.start()
    api = home.client()
    task = next(t for t in api.items("/tasks") if t["kind"] == "vm.delete")["id"]
    doctor = api.get("/host/doctor")            # behind all that the start has begun on the datastore
    assert not [f for f in doctor["findings"] if f["object"] == "off"], doctor
    assert api.get(f"/tasks/{task}")["state"] == "running" and api.vm("off")
    assert os.path.exists(f"{home.home}/datastores/local/off/data.qcow2")
    home.seals.open()
    api = restart(home)
    assert api.get(f"/tasks/{task}", Prefer="wait=20")["state"] == "done"
    assert api.request("GET", "/vms/off").status == 404 and not os.path.exists(f"{home.home}/datastores/local/off")


def test_the_database_is_damaged_as_well(home):
    """What can be read of it is shown; the files are left as they are, for the croftd that can write."""
    db = f"{home.home}/croft.db"
    restart(home, ended=True)
    home.end()
    with open(db, "r+b") as f:
        f.seek(os.path.getsize(db) // 4096 // 2 * 4096)
        f.write(bytes(4096))
    home.seals.seal()
    before = {name: os.stat(f"{home.home}/{name}").st_mtime_ns for name in os.listdir(home.home) if name.startswith("croft.db")}
    home.start()
    api = home.client()
    problems = api.get("/host")["agent"]["problems"]
    assert len(problems) == 2 and frozen(home, {"detail": problems[0]}) and "damaged" in problems[1], problems
    wait_for("the guest runs, and is shown", lambda: home.pid in [vm["status"]["pid"] for vm in api.items("/vms")] +
             [o["pid"] for o in api.get("/host")["agent"]["orphans"]])
    assert {name: os.stat(f"{home.home}/{name}").st_mtime_ns for name in os.listdir(home.home) if name.startswith("croft.db")} == before
    home.seals.open()
    api = restart(home)
    assert "damaged" in api.get("/host")["agent"]["problems"][0]
    assert api.wait_state("runs", "running")["status"]["pid"] == home.pid
