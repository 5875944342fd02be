"""A disk whose syncs fail, and one that does not answer: what was refused has not happened, and what waits is not lost."""
import contextlib
import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
import tiny
from croft import O, croftd, wait_for
from test_steps import FAULTS

SLOW_SECONDS = 20


@pytest.fixture
def disk(tmp_path):
    """A croftd; start() puts it on a disk that obeys the files in its folder switches."""
    with croftd("--libexec", O) as c:
        c.switches = str(tmp_path)
        yield c


def start(c, **more):
    if c.process.poll() is None:
        c.end()
    options = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
    c.environment = {"LD_PRELOAD": os.path.abspath(f"{O}/tests/fault/disk.so"), "CROFT_DISK": c.switches, "ASAN_OPTIONS": options, **more}
    c.start()
    return c.client()


def labels(api, name="a"):
    return api.vm(name)["labels"]


def test_a_commit_that_the_disk_refuses(disk):
    api = start(disk)
    for name in "a", "b":
        api.post("/vms", {"name": name, "config": {"engine": "sim"}})
    broken = f"{disk.switches}/broken"
    open(broken, "w", encoding="ascii").close()
    for _ in range(3):
        problem = api.problem(503, "PATCH", "/vms/a", {"labels": {"refused": "1"}})
        assert "the database" in problem["detail"], problem
    assert labels(api) == {} and api.vm("a")["revision"] == 1, "memory is what the last good commit was"
    assert api.request("POST", "/vms", {"name": "c", "config": {"engine": "sim"}}).status == 503
    os.unlink(broken)
    api.ok("PATCH", "/vms/b", {"labels": {"kept": "1"}})
    disk.kill()
    disk.environment = {}
    disk.start()
    api = disk.client()
    assert {v["name"]: v["labels"] for v in api.items("/vms")} == {"a": {}, "b": {"kept": "1"}}
    seqs = [e["seq"] for e in api.get("/events?after=0&limit=1000")["items"]]
    assert seqs == sorted(set(seqs))


def test_the_first_commit_that_fails_is_not_found_by_the_next_croftd(disk):
    """Refused, and croftd is killed before anything else was written: what the next one reads is what everybody reads."""
    api = start(disk)
    api.post("/vms", {"name": "a", "config": {"engine": "sim"}})
    broken = f"{disk.switches}/broken"
    open(broken, "w", encoding="ascii").close()
    api.problem(503, "PATCH", "/vms/a", {"labels": {"refused": "1"}})
    disk.kill()
    os.unlink(broken)
    api = start(disk)
    known = labels(api)
    api.ok("PATCH", "/vms/a", {"labels": {"refused": None, "after": "1"}})
    disk.kill()
    api = start(disk)
    assert known in ({}, {"refused": "1"}) and labels(api) == {"after": "1"}


def test_a_start_after_a_crash_that_the_disk_refuses(disk):
    """Nobody asks for it again but croftd, which has to be there: it does so until it can be kept."""
    api = start(disk)
    tiny.upload(api)
    api.post("/vms", {"name": "a", "config": tiny.config(on_crash="restart")})
    pid = api.post("/vms/a/start")["status"]["pid"]
    broken = f"{disk.switches}/broken"
    open(broken, "w", encoding="ascii").close()
    os.kill(pid, signal.SIGKILL)
    note = wait_for("it was refused twice", lambda: disk.log.count("could not be begun") == 2 and api.vm("a")["status"], 20)["note"]
    assert "the database" in note and "it is started again at" in note, note
    os.unlink(broken)
    assert api.wait_state("a", "running")["status"]["note"] is None
    assert [t["state"] for t in api.items("/tasks?target=a") if t["kind"] == "vm.start"] == ["done", "done"]


def test_a_cancel_that_the_disk_refuses(disk):
    """It takes effect, but is not answered as if it were kept."""
    api = start(disk)
    tiny.upload(api, "deaf.bin", tiny.DEAF)
    api.post("/vms", {"name": "a", "config": tiny.config(kernel={"image": "[local] deaf.bin"})})
    api.post("/vms/a/start")
    task = f"/tasks/{api.request('POST', '/vms/a/shutdown').json['id']}"
    wait_for("it waits for the guest", lambda: api.get(task)["step"] == "wait for the guest to end")
    broken = f"{disk.switches}/broken"
    open(broken, "w", encoding="ascii").close()
    assert "the database" in api.problem(503, "DELETE", task)["detail"]
    assert api.get(task)["state"] == "running"
    os.unlink(broken)
    ended = api.get(task, Prefer="wait=20")
    assert ended["state"] == "cancelled", ended
    assert api.vm("a")["status"]["pid"]
    api.post("/vms/a/poweroff")


def let_go(fifo):
    """What waits for it goes on, and nothing waits any more."""
    writer = os.open(fifo, os.O_WRONLY)
    os.unlink(fifo)
    os.close(writer)


def test_a_sync_that_takes_long(disk, tmp_path):
    """An SD card that tidies up: what is read is read, what was changed is answered when it is on disk; the loop goes on, so that
    systemd's watchdog is fed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd, ThreadPoolExecutor(3) as pool:
        systemd.bind(f"{tmp_path}/notify")
        systemd.settimeout(SLOW_SECONDS)
        api = start(disk, NOTIFY_SOCKET=f"{tmp_path}/notify", WATCHDOG_USEC="100000")
        for name in "a", "b":
            api.post("/vms", {"name": name, "config": {"engine": "sim"}})
        late = f"{disk.switches}/late"
        os.mkfifo(late)
        asked = [pool.submit(disk.client().request, "PATCH", f"/vms/{name}", {"labels": {"n": "1"}}) for name in "ab"]
        asked.append(pool.submit(disk.client().request, "POST", "/vms", {"name": "c", "config": {"engine": "sim"}}, {"Prefer": "wait=60"}))
        wait_for("the database has something to do", lambda: api.get("/host")["agent"]["db_waiting"])
        systemd.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while systemd.recv(4096):
                pass
        systemd.settimeout(SLOW_SECONDS)
        for _ in range(3):
            while b"WATCHDOG=1" not in systemd.recv(4096):
                pass
            assert labels(api) == {} and {vm["name"] for vm in api.items("/vms")} == {"a", "b"}
            assert api.request("GET", "/datastores/local/files").status == 200
        assert not any(a.done() for a in asked)
        let_go(late)
        assert [a.result().status for a in asked] == [200, 200, 201]
        assert labels(api) == {"n": "1"} == labels(api, "b")


def test_a_task_waits_for_its_datastore(disk):
    """A file server that answers only after croftd is up: the interrupted task goes on then, and is not undone."""
    disk.end()
    disk.program, disk.environment = FAULTS, {"CROFT_DIE_AT": "vm.create:1:begin"}
    disk.start()
    config = {"disks": {"data": {"size_bytes": 1 << 20}}, "firmware": "kernel", "kernel": {"image": "[local] vmlinuz"}}
    assert disk.client().request("POST", "/vms", {"name": "a", "config": config}).status == 202
    wait_for("croftd dies", lambda: disk.process.poll() is not None, SLOW_SECONDS)
    slow = f"{disk.switches}/slow"
    os.mkfifo(slow)
    disk.program = f"{O}/croftd"
    api = start(disk)
    task = next(t for t in api.items("/tasks") if t["kind"] == "vm.create")
    assert task["state"] == "running" and task["step"] == "make the disks"
    assert api.vm("a")["status"]["task"] == task["id"], "the others are served meanwhile"
    let_go(slow)                                # the server answers
    task = api.get(f"/tasks/{task['id']}", Prefer="wait=20")
    assert task["state"] == "done", task
    assert api.vm("a")["config"]["disks"]["data"]["path"] == "[local] a/data.qcow2"


def test_croftd_ends_though_a_datastore_hangs(disk):
    slow = f"{disk.switches}/slow"
    os.mkfifo(slow)
    start(disk)
    disk.end()
    assert "a datastore does not answer" in disk.log
    os.unlink(slow)
    start(disk)
