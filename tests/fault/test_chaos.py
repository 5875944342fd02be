"""Promise 1: running VMs are sacred. croftd, croft-vm and QEMU are killed, stopped and robbed of their files; afterwards no
VM is lost, none has ended that nobody asked to end, none runs twice. QEMU is real, the guest has 160 bytes."""
import contextlib
import fcntl
import http.client
import os
import random
import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time

import pytest
import websocket

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "api"))
from croft import O, TOP, Croft, croftd, wait_for      # noqa: E402
from truth import check, folder, running, settled    # noqa: E402

GONE = (ConnectionError, TimeoutError, FileNotFoundError, http.client.HTTPException, websocket.WebSocketException)


def guest():
    """Says R, echoes, powers off at q, hears no power button."""
    with open(f"{TOP}/tests/unit/vmrig.h", encoding="ascii") as f:
        words = re.search(r"rig_guest\[\] = \{(.*?)\}", f.read(), re.S)[1]
    return b"".join(struct.pack("<I", int(w, 16)) for w in words.replace(",", " ").split())


def tiny(name, start=False, **config):
    return {"name": name, "start": start, "config": {
        "firmware": "kernel", "kernel": {"image": "[local] tiny"}, "memory_bytes": 64 << 20, "display": "none",
        "on_crash": "off", **config}}


def equip(croft):
    api = croft.client()
    assert api.request("PUT", "/datastores/local/files/tiny", guest(), {"Content-Type": "application/octet-stream"}).status == 201
    return api


def run_vm(croft, name):
    """Creates and starts it; its API object."""
    api = croft.client()
    api.post("/vms", tiny(name))
    api.post(f"/vms/{name}/start")
    console = api.console(name)
    console.until(b"R", 20)
    console.close()
    return api.vm(name)


@pytest.fixture
def home():
    """A croftd with the guest's file."""
    with croftd() as c:
        equip(c)
        yield c
        if os.environ.get("KEEP"):
            shutil.rmtree(os.environ["KEEP"], ignore_errors=True)
            subprocess.run(["cp", "-a", c.home, os.environ["KEEP"]])
            shutil.copy(c.log_path, os.environ["KEEP"] + "/log")
        clear(c)


def clear(croft):
    """A guest that hears no power button would cost the end of the test 30 s."""
    for pid in running(croft, "qemu"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def stat(pid):
    with contextlib.suppress(FileNotFoundError), open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
        return f.read().rpartition(")")[2].split()[0]
    return None


def answers(croft, name):
    """Its console echoes: the guest itself runs."""
    console = croft.client().console(name)
    mark = "".join(random.choices("ABCDEGHIJK", k=12))      # not f and q, which are orders
    console.type(mark)
    console.until(mark.encode(), 20)
    seen = console.seen
    console.close()
    return seen


# ---- croftd is killed

@pytest.mark.parametrize("state", ["running", "paused", "stopping"])
def test_a_new_croftd_finds_things_as_they_were(home, state):
    vm = run_vm(home, "x")
    api = home.client()
    viewer = api.console("x")
    if state == "paused":
        api.post("/vms/x/pause")
    if state == "stopping":
        task = api.request("POST", "/vms/x/shutdown", {"timeout_s": 600}).json
        api.wait_state("x", "stopping")
    home.kill()
    with pytest.raises(Exception):
        while viewer.ws.recv():
            pass
    home.start()
    api = home.client()
    now = settled(home, *[task["id"]] if state == "stopping" else [])[vm["id"]]["status"]
    # Whether the guest was told to shut down, only the task knows: it is told again, or just waited for.
    assert now["state"] in ((state,) if state != "stopping" else ("running", "stopping"))
    assert now["pid"] == vm["status"]["pid"] and now["as_of"]
    if state == "stopping":
        console = api.console("x")
        console.type("q")
        assert api.get(f"/tasks/{task['id']}", Prefer="wait=20")["state"] == "done"
        assert api.vm("x")["status"]["state"] == "off"
        return
    if state == "paused":
        api.post("/vms/x/resume")
    assert b"R" in answers(home, "x"), "the console's history is lost"
    check(home)


def test_a_croftd_of_another_build_takes_the_vms_up(home, tmp_path):
    """The programs are replaced, as by an upgrade: another build id, the old croft-vm goes on."""
    vm = run_vm(home, "x")
    with open(f"{TOP}/{O}/build_id.h" if not O.startswith("/") else f"{O}/build_id.h", encoding="ascii") as f:
        build = re.search(r'"(\w+)"', f.read())[1].encode()
    shims = running(home, "croft-vm")
    for program in ("croftd", "croft-front", "croft-vm", "web.bundle"):
        with open(f"{O}/{program}", "rb") as f:
            data = f.read()
        assert build in data or program not in ("croftd", "croft-front")
        with open(tmp_path / program, "wb") as f:
            f.write(data.replace(build, build[::-1]))
        os.chmod(tmp_path / program, 0o755)
    home.kill()
    process = subprocess.Popen([str(tmp_path / "croftd"), "--home", home.home, "--listen", f"127.0.0.1:{home.port}"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    home.process = process
    wait_for("the new croftd serves", lambda: up(home), 20)
    api = home.client()
    assert api.wait_state("x", "running")["status"]["pid"] == vm["status"]["pid"]
    assert b"R" in answers(home, "x")
    assert running(home, "croft-vm") == shims
    api.post("/vms/x/poweroff")
    api.post("/vms/x/start")
    check(home)


def up(croft):
    with contextlib.suppress(*GONE):
        return croft.client().request("GET", "/host").status == 200
    return False


def test_a_start_that_was_done_and_has_ended_is_not_done_again(home):
    """croftd is stopped in a start, the guest comes up and ends by itself, croftd dies: it is not started a second time."""
    api = home.client()
    api.post("/vms", tiny("x"))
    task = api.request("POST", "/vms/x/start").json
    pid = wait_for("QEMU runs", lambda: list(running(home, "qemu")), 10)[0]
    home.process.send_signal(signal.SIGSTOP)
    uuid = running(home, "qemu")[pid]
    if api_done(home, task["id"]):
        home.process.send_signal(signal.SIGCONT)
        pytest.skip("croftd was faster than this test")
    os.kill(pid, signal.SIGKILL)
    wait_for("croft-vm has written down the end", lambda: os.path.getsize(f"{folder(home, uuid)}/end.json"), 10)
    home.kill()
    home.start()
    after = home.client().get(f"/tasks/{task['id']}", Prefer="wait=20")
    assert after["state"] == "failed" and "has ended" in after["error"]["detail"], after
    assert check(home)[uuid]["status"]["state"] == "off"
    home.client().post("/vms/x/start")


def api_done(croft, task):
    with contextlib.closing(sqlite3.connect(f"{croft.home}/croft.db")) as db:
        return db.execute("SELECT finished FROM tasks WHERE id = ?", (task,)).fetchone()[0]


def test_croftd_stands_still_for_a_while(home):
    """A stopped croftd (a debugger, a starved host) takes no croft-vm for hung when it goes on."""
    vm, shims = run_vm(home, "x"), running(home, "croft-vm")
    for _ in range(2):
        home.process.send_signal(signal.SIGSTOP)
        threading.Event().wait(1.5)
        home.process.send_signal(signal.SIGCONT)
        api = home.client()
        api.post("/vms/x/pause")
        api.post("/vms/x/resume")
    assert api.vm("x")["status"]["pid"] == vm["status"]["pid"] and running(home, "croft-vm") == shims


# ---- croft-vm and QEMU are killed and stopped

def one(croft, program, vm):
    return next(pid for pid, uuid in running(croft, program).items() if uuid == vm["id"])


def test_croft_vm_dies(home):
    vm = run_vm(home, "x")
    api = home.client()
    for state in ("running", "paused"):
        if state == "paused":
            api.post("/vms/x/pause")
        old = one(home, "croft-vm", vm)
        os.kill(old, signal.SIGKILL)
        wait_for("another croft-vm is there", lambda: [p for p in running(home, "croft-vm") if p != old], 10)
        now = api.vm("x")["status"]
        assert (now["state"], now["pid"]) == (state, vm["status"]["pid"])
    api.post("/vms/x/resume")
    assert b"R" in wait_for("the console is back", lambda: quiet(answers, home, "x"), 20), "the history is lost"
    os.kill(one(home, "croft-vm", vm), signal.SIGKILL)      # and croftd at the same time
    home.kill()
    home.start()
    assert home.client().wait_state("x", "running")["status"]["pid"] == vm["status"]["pid"]
    wait_for("another croft-vm is there", lambda: running(home, "croft-vm"), 10)
    check(home)
    home.client().post("/vms/x/poweroff")
    check(home)


def quiet(fn, *args):
    with contextlib.suppress(Exception):
        return fn(*args)
    return None


def test_croft_vm_dies_in_a_start(home):
    """At random moments of a start: it fails or succeeds, and nothing is left behind."""
    api, rng = home.client(), random.Random(4)
    vm = api.post("/vms", tiny("x"))
    for _ in range(6):
        api.request("POST", "/vms/x/start")
        shims = wait_for("croft-vm is there", lambda: running(home, "croft-vm") or api.vm("x")["status"]["task"] == 0, 10)
        threading.Event().wait(rng.uniform(0, 0.2))
        for pid in shims if isinstance(shims, dict) else {}:
            quiet(os.kill, pid, signal.SIGKILL)
        now = check(home)[vm["id"]]["status"]
        if now["state"] != "off":
            api.post("/vms/x/poweroff")
    api.post("/vms/x/start")
    check(home)


@pytest.mark.parametrize("phase", ["starting", "ending"])
def test_croft_vm_hangs(home, phase):
    api = home.client()
    vm = api.post("/vms", tiny("x"))
    if phase == "starting":
        api.request("POST", "/vms/x/start")
    else:
        vm = run_vm(home, "y")
    shim = wait_for("croft-vm is there", lambda: list(running(home, "croft-vm")), 10)[0]
    os.kill(shim, signal.SIGSTOP)
    if phase == "ending":
        answer = api.post("/vms/y/poweroff")
        assert answer["status"]["state"] == "off" and answer["status"]["last_end"]["why"] == "poweroff"
    check(home)
    assert stat(shim) in (None, "Z", "T", "S", "R")
    if stat(shim) == "T":       # it was stopped so late that the start was over: nothing waits for it
        os.kill(shim, signal.SIGCONT)
    name = "x" if phase == "starting" else "y"
    if api.vm(name)["status"]["state"] != "off":
        api.post(f"/vms/{name}/poweroff")
    api.post(f"/vms/{name}/start")
    check(home)


def test_qemu_dies(home):
    vm, other = run_vm(home, "x"), run_vm(home, "y")
    os.kill(vm["status"]["pid"], signal.SIGKILL)
    api = home.client()
    ended = api.wait_state("x", "off")["status"]["last_end"]
    assert ended["why"] == "killed" and ended["signal"] == 9
    assert api.vm("y")["status"]["pid"] == other["status"]["pid"]
    check(home)
    api.post("/vms/x/start")
    check(home)
    home.kill()                                             # while nobody watches
    os.kill(one(home, "qemu", vm), signal.SIGSEGV)
    home.start()
    assert home.client().wait_state("x", "off")["status"]["last_end"]["why"] == "crashed"


def test_qemu_hangs(home):
    vm, other = run_vm(home, "x"), run_vm(home, "y")
    os.kill(vm["status"]["pid"], signal.SIGSTOP)
    api = home.client()
    problem = api.problem(504, "POST", "/vms/x/pause", None, Prefer="wait=30")      # the monitor's deadline
    assert "has not answered" in problem["detail"]
    now = api.wait_state("x", "degraded")["status"]
    assert now["pid"] == vm["status"]["pid"] and now["note"]
    start = time.monotonic()
    api.post("/vms/y/pause")
    api.post("/vms/y/resume")
    assert time.monotonic() - start < 2, "one slow thing costs one thing"
    home.kill()                                             # degraded for the next croftd too, and never killed
    home.start()
    api = home.client()
    assert api.wait_state("y", "running")["status"]["pid"] == other["status"]["pid"]
    assert api.wait_state("x", "degraded", 15)["status"]["pid"] == vm["status"]["pid"]
    os.kill(vm["status"]["pid"], signal.SIGCONT)            # it comes back by itself
    wait_for("x runs again", lambda: api.vm("x")["status"]["state"] in ("running", "paused"), 45)
    os.kill(vm["status"]["pid"], signal.SIGSTOP)
    assert api.post("/vms/x/poweroff")["status"]["state"] == "off"
    check(home)


# ---- run folders and the database are robbed

def sql(croft, text, *values):
    with contextlib.closing(sqlite3.connect(f"{croft.home}/croft.db")) as db:
        db.execute(text, values)
        db.commit()


def test_a_guest_without_a_row_is_shown_and_left_alone(home):
    vm, other = run_vm(home, "x"), run_vm(home, "y")
    home.kill()
    sql(home, "DELETE FROM vms WHERE name = 'x'")
    home.start()
    api = home.client()
    assert [v["name"] for v in api.items("/vms")] == ["y"]
    orphan, = api.get("/host")["agent"]["orphans"]
    assert (orphan["id"], orphan["name"], orphan["pid"]) == (vm["id"], "x", vm["status"]["pid"]) and orphan["why"], orphan
    assert "orphan" in home.log
    new = run_vm(home, "z")                                 # its user is not given to another VM
    with open(f"/proc/{new['status']['pid']}/status", encoding="ascii") as f:
        assert int(re.search(r"Uid:\s+(\d+)", f.read())[1]) not in (orphan["uid"],)
    api.post("/vms/y/poweroff")
    api.post("/vms/z/poweroff")
    assert "orphan" in home.stop()
    assert stat(vm["status"]["pid"]) in "SR", "--stop has ended a guest that is no VM of this home"
    home.start()
    os.kill(vm["status"]["pid"], signal.SIGKILL)
    wait_for("it is an orphan no more", lambda: not home.client().get("/host")["agent"]["orphans"], 5)


def test_a_row_that_cannot_be_read(home):
    vm = run_vm(home, "x")
    task = home.client().request("POST", "/vms/x/shutdown", {"timeout_s": 600}).json
    home.kill()
    sql(home, "UPDATE vms SET config = '{\"cpus\": \"many\"}' WHERE name = 'x'")
    home.start()
    api = home.client()
    assert api.get(f"/tasks/{task['id']}", Prefer="wait=10")["state"] == "interrupted"
    assert "cannot be read" in api.vm("x")["status"]["problem"]
    assert [o["pid"] for o in api.get("/host")["agent"]["orphans"]] == [vm["status"]["pid"]]
    assert api.request("DELETE", "/vms/x", None, {"Prefer": "wait=10"}).status == 409
    assert stat(vm["status"]["pid"]) in "SR"
    home.kill()
    sql(home, "UPDATE vms SET config = started_config WHERE name = 'x'")
    home.start()
    assert home.client().wait_state("x", "running")["status"]["pid"] == vm["status"]["pid"]


def test_the_database_is_lost(home):
    """The VMs come back from their descriptors, and their guests with them; the uids of the old home are not given to others."""
    vms = [run_vm(home, name) for name in "xy"]
    home.kill()
    uids = home.uids()
    for f in os.listdir(home.home):
        if f.startswith("croft.db"):
            os.remove(f"{home.home}/{f}")
    home.start()
    api = home.client()
    run_vm(home, "new")
    for vm in vms:
        back = api.wait_state(vm["name"], "running")
        assert (back["id"], back["status"]["pid"]) == (vm["id"], vm["status"]["pid"])
        answers(home, vm["name"])
        os.kill(vm["status"]["pid"], signal.SIGKILL)
        api.wait_state(vm["name"], "off")
    assert not api.get("/host")["agent"]["orphans"]
    assert not set(uids) & set(home.uids()), "new VMs share their users with guests that run still"


@pytest.mark.parametrize("damage", ["other-boot", "corrupt", "empty", "no-qmp", "no-ctl", "nothing"])
def test_a_damaged_run_folder(home, damage):
    """Whatever its files say, a guest that runs is neither lost nor started again."""
    vm = run_vm(home, "x")
    at = folder(home, vm)
    home.kill()
    if damage == "other-boot":
        with open(f"{at}/launch.json", encoding="utf-8") as f:
            text = f.read()
        with open(f"{at}/launch.json", "w", encoding="utf-8") as f:
            f.write(re.sub(r'"boot_id":"\w+', '"boot_id":"00000000', text))
    elif damage in ("corrupt", "empty"):
        with open(f"{at}/launch.json", "w", encoding="utf-8") as f:
            f.write('{"pid":1,' if damage == "corrupt" else "")
    elif damage == "nothing":
        os.remove(f"{at}/launch.json")
        os.kill(one(home, "croft-vm", vm), signal.SIGKILL)
    else:
        os.remove(f"{at}/{damage.removeprefix('no-')}")
    home.start()
    api = home.client()
    now = api.wait_state("x", "lost" if damage == "nothing" else "degraded" if damage == "no-qmp" else "running")["status"]
    assert now["pid"] == (0 if damage == "nothing" else vm["status"]["pid"]), now
    assert api.request("POST", "/vms/x/start").status == 409
    assert list(running(home, "qemu").values()) == [vm["id"]] and stat(vm["status"]["pid"]) in "SR"
    if damage == "nothing":
        assert "run folder" in now["note"]
        os.kill(vm["status"]["pid"], signal.SIGKILL)
        home.kill()
        home.start()
    else:
        home.client().post("/vms/x/poweroff")
    home.client().wait_state("x", "off")
    home.client().post("/vms/x/start")
    check(home)


def test_somebody_else_holds_the_lock(home):
    """The lock decides, not what croftd believes."""
    api = home.client()
    vm = run_vm(home, "x")
    api.post("/vms/x/poweroff")
    with open(f"{folder(home, vm)}/alive", "r+b") as f:
        fcntl.fcntl(f, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
        problem = api.problem(409, "POST", "/vms/x/start", None, Prefer="wait=20")
        assert "locked" in problem["detail"], problem
        assert api.request("DELETE", "/vms/x", None, {"Prefer": "wait=20"}).status == 409
        home.kill()
        home.start()
        api = home.client()
        assert "holds the run folder" in api.wait_state("x", "lost")["status"]["note"]
        assert api.request("POST", "/vms/x/start").status == 409
        assert not running(home, "qemu")
    home.kill()
    home.start()
    assert home.client().post("/vms/x/start")["status"]["state"] == "running"
    check(home)


def test_the_host_restarts(home):
    """All processes are gone, and the run folders with them."""
    run_vm(home, "x")
    vm = run_vm(home, "y")
    home.client().post("/vms/y/poweroff")
    ended = home.client().vm("y")["status"]
    home.kill()
    for pid in [*running(home, "croft-vm"), *running(home, "qemu")]:
        quiet(os.kill, pid, signal.SIGKILL)
    wait_for("all is gone", lambda: not running(home, "croft-vm") and not running(home, "qemu"), 10)
    shutil.rmtree(f"{home.home}/run")
    home.start()
    api = home.client()
    assert api.vm("x")["status"]["last_end"]["why"] == "host-restarted"
    assert ended["last_end"]["why"] == "poweroff"                   # it was off: that stands in its row
    assert [api.vm("y")["status"][key] for key in ("last_end", "since")] == [ended["last_end"], ended["since"]]
    assert {v["status"]["state"] for v in api.items("/vms")} == {"off"}
    for name in "xy":
        api.post(f"/vms/{name}/start")
    assert vm["id"] in check(home)


# ---- the disk is full

@pytest.fixture
def small():
    """A home on a file system of its own of 24 MiB."""
    mount = tempfile.mkdtemp(prefix="croft-test-")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,mode=700", "croft-test", mount], check=True)
    c = Croft(f"{mount}/home")
    c.log_path = f"{mount}.log"
    try:
        c.start()
        equip(c)
        yield c
        clear(c)
        c.finish()
    finally:
        c.kill()
        quiet(clear, c)
        subprocess.run(["umount", "-l", mount], check=True)
        os.rmdir(mount)
        os.remove(c.log_path)


def test_the_disk_is_full(small):
    vm = run_vm(small, "x")
    api = small.client()
    api.post("/vms", tiny("y"))
    with open(f"{small.home}/filler", "wb", buffering=0) as f, contextlib.suppress(OSError):
        while True:
            f.write(bytes(4096))
    statuses = set()
    for i in range(12):         # the database's log has some room left at first
        for method, path, body in (("POST", "/vms", tiny(f"n{i}")), ("POST", "/vms/y/start", None),
                                   ("PATCH", "/vms/y", {"config": {"description": "d" * 4000}})):
            answer = api.request(method, path, body, {"Prefer": "wait=1"})
            statuses.add(answer.status)
            if answer.status >= 500:
                assert answer.status in (503, 507) and answer.json["detail"] and answer.json["type"], answer
    assert 507 in statuses or 503 in statuses, statuses
    now = api.vm("x")["status"]
    assert (now["state"], now["pid"]) == ("running", vm["status"]["pid"])
    answers(small, "x")
    os.remove(f"{small.home}/filler")
    wait_for("it works again", lambda: api.request("PATCH", "/vms/x", {"labels": {"a": "b"}}).status == 200, 10)
    listed = set(check(small))
    small.kill()
    small.start()
    assert set(check(small)) == listed, "what was on disk is not what was told"
    api = small.client()
    assert api.vm("x")["status"]["pid"] == vm["status"]["pid"]
    api.post("/vms", tiny("z"))
    api.post("/vms/z/start")
    check(small)


# ---- two homes, and the end

def test_stop_of_one_home_leaves_the_other_alone(home):
    vm = run_vm(home, "x")
    with croftd() as other:
        equip(other)
        run_vm(other, "x")
        run_vm(other, "y")
        other.client().post("/vms/y/poweroff")
        for pid in running(other, "qemu"):                  # spares the 30 s of patience: see the next test
            os.kill(pid, signal.SIGKILL)
        other.stop()
        assert not running(other, "qemu") and not running(other, "croft-vm")
        assert home.client().vm("x")["status"]["pid"] == vm["status"]["pid"]
        answers(home, "x")
        check(home)


def test_stop_powers_off_what_ignores_it(home):
    """Slow: --stop gives guests 30 s."""
    run_vm(home, "x")
    run_vm(home, "y")
    home.client().post("/vms/y/pause")
    start = time.monotonic()
    said = home.stop()
    assert 29 < time.monotonic() - start < 45
    assert "x: asked to shut down" in said and "x: powered off, since the guest has not ended" in said and "y: powered off" in said
    assert not running(home, "qemu") and not running(home, "croft-vm")
    home.start()
    assert {v["status"]["state"] for v in home.client().items("/vms")} == {"off"}
