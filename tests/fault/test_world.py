"""The clock jumps by a year, the boot's id changes, a pid is another program's: nothing is killed that is not meant, and
nothing is lost. croftd (the one of the tests) takes its clock and boot id from a file; nobody sets the machine's."""
import contextlib
import fcntl
import json
import os
import signal
import struct
import subprocess
import uuid

import pytest
from croft import O, croftd, wait_for
from test_chaos import api_done, clear, equip, run_vm, stat, tiny
from truth import check, folder, locked, running

YEAR = 365 * 86400 * 10**6


class World:
    """hv-core/base/world.h: struct world."""

    def __init__(self, path):
        self.path = path
        self.set()

    def set(self, ahead=0, boot=""):
        data = struct.pack("q40s", ahead, boot.encode())
        with open(self.path, "r+b" if os.path.exists(self.path) else "wb", buffering=0) as f:
            f.write(data)


@pytest.fixture
def home(tmp_path):
    with croftd("--libexec", O) as c:
        c.end()
        c.world = World(tmp_path / "world")
        c.program, c.environment = f"{O}/faults/croftd", {"CROFT_WORLD": str(tmp_path / "world")}
        c.start()
        equip(c)
        yield c
        c.world.set()
        clear(c)


def test_the_clock_jumps_by_a_year(home):
    vm = run_vm(home, "x")
    api = home.client()
    run_vm(home, "y")
    waiting = api.request("POST", "/vms/y/shutdown", {"timeout_s": 600}).json      # its guest hears no power button
    api.wait_state("y", "stopping")
    body = {"name": "once", "config": {"engine": "sim"}}
    once = api.request("POST", "/vms", body, {"Idempotency-Key": "k"})
    assert once.status == 202
    token = api.post("/tokens", {"name": "t", "user": "admin"})["secret"]
    viewer = api.console("x")
    tls = home.client(tls=True)
    tls.login()
    bad = home.client(tls=True)
    while bad.request("POST", "/session", {"name": "nobody", "password": "wrong"}).status != 429:
        pass
    for ahead in (YEAR, -YEAR, 0):
        ticket = api.post("/vms/x/console", {"kind": "serial"})
        home.world.set(ahead)
        api.websocket(ticket["url"]).close()            # its minute is of the clock that does not jump
        assert api.request("POST", "/vms", body, {"Idempotency-Key": "k"}).headers["Location"] == once.headers["Location"]
        assert home.client(tls=True, token=token).request("GET", "/vms").status == 200
        assert bad.request("POST", "/session", {"name": "nobody", "password": "wrong"}).status == 429, "the lockout has jumped"
        if ahead == -YEAR:
            assert tls.request("GET", "/session").status == 200
        else:               # forward by a year: it was idle for that long, as far as anybody can tell
            assert tls.request("GET", "/session").status == 401
            tls = home.client(tls=True)
            tls.login()
        for action in ("pause", "resume", "reset"):
            assert api.post(f"/vms/x/{action}")["status"]["pid"] == vm["status"]["pid"]
        assert api.get(f"/tasks/{waiting['id']}")["state"] == "running"
        viewer.type("a")
        viewer.until(b"a", 10)
    for ahead in (YEAR, -YEAR):                         # and croftd dies under each
        home.world.set(ahead)
        home.kill()
        home.start()
        api = home.client()
        assert api.wait_state("x", "running")["status"]["pid"] == vm["status"]["pid"]
        assert api.get(f"/tasks/{waiting['id']}")["state"] == "running"
    home.world.set()
    console = api.console("y")
    console.type("q")
    assert api.get(f"/tasks/{waiting['id']}", Prefer="wait=20")["state"] == "done"
    assert api.vm("y")["status"]["state"] == "off"
    check(home)


@pytest.mark.parametrize("ahead", [YEAR, -YEAR])
def test_a_start_is_not_done_twice_though_the_clock_jumps(home, ahead):
    """croftd stands still in a start; the guest comes up and ends; the clock is set; croftd dies."""
    api = home.client()
    home.world.set(ahead)
    api.post("/vms", tiny("x"))
    task = api.request("POST", "/vms/x/start").json
    pid = wait_for("QEMU runs", lambda: list(running(home, "qemu")), 10)[0]
    home.process.send_signal(signal.SIGSTOP)
    vm = running(home, "qemu")[pid]
    if api_done(home, task["id"]):
        home.process.send_signal(signal.SIGCONT)
        pytest.skip("croftd was faster than this test")
    os.kill(pid, signal.SIGKILL)
    wait_for("croft-vm has written down the end", lambda: os.path.getsize(f"{folder(home, vm)}/end.json"), 10)
    home.kill()
    home.world.set()
    home.start()
    assert home.client().get(f"/tasks/{task['id']}", Prefer="wait=20")["state"] == "failed"
    assert check(home)[vm]["status"]["state"] == "off"


# ---- boots and pids

@contextlib.contextmanager
def bystanders(count=2):
    """Programs that have nothing to do with Croft."""
    found = [subprocess.Popen(["/usr/bin/sleep", "600"]) for _ in range(count)]
    try:
        yield found
        assert all(p.poll() is None for p in found), "a stranger was killed"
    finally:
        for p in found:
            p.kill()
            p.wait()


def start_time(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
        return int(f.read().rpartition(")")[2].split()[19])


def ends_unseen(home, vm, lock=True):
    """croftd, croft-vm and QEMU are gone at once."""
    home.kill()
    for pid in [*running(home, "croft-vm"), *running(home, "qemu")]:
        os.kill(pid, signal.SIGKILL)
    wait_for("all is gone", lambda: not locked(home, vm["id"]) and not running(home, "qemu"), 10)


def rewrite(home, vm, **changes):
    path = f"{folder(home, vm)}/launch.json"
    with open(path, encoding="utf-8") as f:
        launch = json.load(f)
    with open(path, "w", encoding="utf-8") as f:
        json.dump({**launch, **changes}, f)


def test_another_boot(home):
    """What the lock says is true all the same; what nobody holds is history, whoever has its pid now."""
    vm = run_vm(home, "x")
    home.kill()
    home.world.set(boot=str(uuid.uuid4()))
    home.start()
    assert home.client().wait_state("x", "running")["status"]["pid"] == vm["status"]["pid"]
    check(home)
    with bystanders() as (a, b):
        ends_unseen(home, vm)
        rewrite(home, vm, pid=a.pid, start_time=start_time(a.pid), shim_pid=b.pid, shim_start_time=start_time(b.pid))
        home.world.set(boot=str(uuid.uuid4()))
        home.start()
        api = home.client()
        assert api.vm("x")["status"]["state"] == "off"
        assert api.vm("x")["status"]["last_end"]["why"] == "host-restarted"
        api.post("/vms/x/start")
        check(home)
        api.post("/vms/x/poweroff")


@pytest.mark.parametrize("held", [False, True])
def test_the_pid_is_another_programs(home, held):
    vm = run_vm(home, "x")
    with bystanders() as (a, b), contextlib.ExitStack() as stack:
        ends_unseen(home, vm)
        rewrite(home, vm, pid=a.pid, start_time=start_time(a.pid) - 1, shim_pid=b.pid, shim_start_time=start_time(b.pid) + 1)
        if held:        # something else holds the run folder: what it is, nobody knows
            f = stack.enter_context(open(f"{folder(home, vm)}/alive", "r+b"))
            fcntl.fcntl(f, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
        home.start()
        api = home.client()
        if held:
            api.wait_state("x", "lost")
            answer = api.request("POST", "/vms/x/poweroff", None, {"Prefer": "wait=1"})
            assert answer.status in (202, 409, 500, 503, 504), answer
            assert stat(a.pid) == stat(b.pid) == "S"
            home.kill()
            stack.close()
            home.start()
            api = home.client()
        assert api.wait_state("x", "off")
        wait_for("no task holds it", lambda: not api.vm("x")["status"]["task"], 20)
        api.post("/vms/x/start")
        check(home)
        api.post("/vms/x/poweroff")
