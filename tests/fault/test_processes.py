"""croft-front, croftd and croft-vm are killed and stopped, while clients follow, consoles are open and a real guest runs."""
import contextlib
import ctypes
import fcntl
import http.client
import os
import signal
import struct
import subprocess
import threading

import pytest
import tiny
from croft import O, SLOW, croftd, wait_for


@pytest.fixture(scope="module")
def house():
    """A croftd with a running guest."""
    with croftd() as c:
        api = c.client()
        tiny.upload(api)
        api.post("/vms", {"name": "vm", "config": tiny.config(nics={"net0": {}})})
        api.post("/vms/vm/start")
        yield c


@pytest.fixture(autouse=True)
def still_one_guest(house):
    """Whatever happens here, it happens to the same QEMU."""
    before, house.replaced = house.qemu(), False
    yield
    vm = house.client().wait_state("vm", "running")
    assert house.qemu() == [vm["status"]["pid"]]
    assert house.qemu() == before or house.replaced


def answers(client):
    with contextlib.suppress(OSError):
        return client.request("GET", "/session").status == 200
    return False


def front_pids(house):
    return [pid for pid, name in house.processes() if name == "croft-front"]


def kill_fronts(house):
    """Kills them, and waits until croftd has seen it: a local client that is handed to a front as it dies is cut off."""
    pids, ended = front_pids(house), house.log.count("croft-front ended")
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    wait_for("croftd sees it", lambda: house.log.count("croft-front ended") == ended + len(pids))


def stopped(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        return f.read().rpartition(")")[2].split()[0] == "T"


def numbers(stream, count):
    return [int(next(stream)[0]) for _ in range(count)]


def echo(console, text):
    console.type(text)
    return console.until(text.encode())


# ---- the front

def test_the_fronts_are_killed_and_clients_come_again(house):
    admin = house.client()
    admin.post("/users", {"name": "ada", "role": "admin"})
    token = admin.post("/tokens", {"name": "t", "user": "ada"})["secret"]
    tls = house.client(tls=True, token=token)
    assert answers(admin) and answers(tls)
    for _ in range(3):
        fronts = front_pids(house)
        assert len(fronts) == 2
        ended = house.log.count("croft-front ended")
        for pid in fronts:
            os.kill(pid, signal.SIGKILL)
        wait_for("croftd sees it", lambda: house.log.count("croft-front ended") == ended + 2)
        # The listening sockets are croftd's: nobody is refused, a request just waits for the new front.
        assert house.client().request("GET", "/vms/vm").json["status"]["state"] == "running"
        assert house.client(tls=True, token=token).request("GET", "/vms/vm").status == 200
        assert not set(fronts) & set(front_pids(house))
    assert wait_for("its front", lambda: house.client().get("/host")["agent"]["front_pid"]) in front_pids(house)


def test_vmctl_does_not_notice_that_the_front_dies(house):
    """What was asked and not answered is asked again: a creation by its Idempotency-Key, so that it happens once."""
    vmctl = [f"{O}/vmctl", "--socket", house.socket]
    for i in range(4):
        fronts = front_pids(house)
        asked = subprocess.Popen([*vmctl, "create", f"f{i}", "engine=sim"], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for pid in fronts:
            os.kill(pid, signal.SIGKILL)
        said = asked.communicate(timeout=30)[0]
        assert asked.returncode == 0, said
    for i in range(4):
        subprocess.run([*vmctl, "rm", f"f{i}", "--yes"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)


def test_events_go_on_after_the_front_was_killed(house):
    api = house.client()
    with contextlib.closing(house.client().events()) as stream:
        api.ok("PATCH", "/vms/vm", {"labels": {"a": "1"}})
        last = int(next(stream)[0])
        kill_fronts(house)
        with contextlib.suppress(http.client.IncompleteRead):
            assert list(stream) == []       # it ends, and does not hang
    api = house.client()
    for i in range(5):
        api.ok("PATCH", "/vms/vm", {"labels": {"a": str(i)}})
    with contextlib.closing(house.client().events(after=last)) as stream:
        assert numbers(stream, 5) == list(range(last + 1, last + 6))


def test_a_console_is_opened_again_with_its_history(house):
    console = house.client().console("vm")
    echo(console, "before the front died")
    kill_fronts(house)
    console = house.client().console("vm")
    console.until(b"before the front died")
    echo(console, "and after it")
    console.close()


def test_a_request_under_way_when_the_front_dies_is_done_or_not(house):
    """Its client learns of no answer; what was begun is whole."""
    api = house.client()
    for i in range(10):
        client = house.client()
        client.http.request("POST", "/api/v1/vms", f'{{"name":"half{i}","config":{{"engine":"sim"}}}}',
                            {"Content-Type": "application/json"})
        kill_fronts(house)
        with contextlib.suppress(Exception):
            client.http.getresponse()
        api = house.client()
        found = api.request("GET", f"/vms/half{i}")
        assert found.status in (200, 404)
        if found.status == 200:
            api.ok("DELETE", f"/vms/half{i}")


def test_a_stopped_front_stalls_only_its_own_clients(house):
    """The network's front is stopped (it could be taken over): local clients notice nothing; it goes on where it was."""
    network = wait_for("the network's front", lambda: house.client().get("/host")["agent"]["front_pid"])
    tls = house.client(tls=True)
    assert tls.request("GET", "/host").status == 401
    os.kill(network, signal.SIGSTOP)
    try:
        local = house.client()
        for i in range(600):        # more events than its door takes
            local.ok("PATCH", "/vms/vm", {"labels": {"i": str(i)}})
        assert local.vm("vm")["labels"]["i"] == "599"
    finally:
        os.kill(network, signal.SIGCONT)
    assert house.client(tls=True).request("GET", "/host").status == 401
    assert local.get("/host")["agent"]["front_pid"] == network


# ---- croftd

def test_croftd_is_stopped_and_goes_on(house):
    """Clients wait; nothing is lost; the guest goes on meanwhile, and its console has it all."""
    console = house.client().console("vm")
    echo(console, "hello")
    os.kill(house.process.pid, signal.SIGSTOP)
    wait_for("it is stopped", lambda: stopped(house.process.pid))
    found = []
    thread = threading.Thread(target=lambda: found.append(house.client().request("GET", "/vms/vm").json["status"]["state"]))
    thread.start()
    echo(console, "while croftd is stopped")        # front, croft-vm and guest need no croftd for this
    thread.join(0.3)
    assert not found
    os.kill(house.process.pid, signal.SIGCONT)
    thread.join(30 * SLOW)
    assert found == ["running"]
    console.close()


def test_croftd_is_killed_again_and_again(house):
    console = house.client().console("vm")
    echo(console, "the first line")
    mark = house.client().get("/events?after=0&limit=1000")["next"]
    for i in range(4):
        house.kill()
        wait_for("the fronts follow it", lambda: not front_pids(house))
        house.start()
        console = house.client().console("vm")
        console.until(b"the first line")
        echo(console, f"line {i}")
        console.close()
    api = house.client()
    assert [t["kind"] for t in api.items("/tasks") if t["kind"] == "vm.start"] == ["vm.start"]
    assert api.get(f"/events?after={mark - 1}&limit=1")["items"][0]["seq"] == mark


def test_what_croftd_was_about_to_execute_has_its_lock(house):
    """For a moment, until it is executed: the next croftd waits for that."""
    house.kill()
    libc = ctypes.CDLL(None)
    watch = libc.inotify_init()
    with open(f"{house.home}/lock", "r+b") as f, open(watch, "rb", buffering=0) as closed:
        fcntl.fcntl(f, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
        assert libc.inotify_add_watch(watch, f.name.encode(), 8) > 0        # IN_CLOSE_WRITE
        thread = threading.Thread(target=house.start)
        thread.start()
        closed.read(4096)           # it has tried
    thread.join()
    assert house.process.poll() is None, house.log[-1000:]
    assert house.client().vm("vm")["status"]["pid"] == house.qemu()[0]


def test_killed_while_many_write(house):
    """What was answered is there; what was not may be; nothing is half."""
    told, lock = [], threading.Lock()

    def create(n):
        client = house.client()
        with contextlib.suppress(Exception):
            for i in range(200):
                answer = client.request("POST", "/vms", {"name": f"w{n}-{i}", "config": {"engine": "sim"}}, {"Prefer": "wait=30"})
                if answer.status == 201:
                    with lock:
                        told.append(f"w{n}-{i}")
    threads = [threading.Thread(target=create, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    wait_for("many are made", lambda: len(told) > 100)
    house.kill()
    for t in threads:
        t.join()
    house.start()
    api = house.client()
    there = {vm["name"] for vm in api.items("/vms")}
    assert set(told) <= there, set(told) - there
    wait_for("no task is left", lambda: not api.get("/host")["agent"]["tasks_open"])
    events = {e["data"]["name"] for e in all_events(api) if e["kind"] == "vm.created"}
    assert {n for n in there if n.startswith("w")} <= events
    for name in there - {"vm"}:
        api.ok("DELETE", f"/vms/{name}")


def all_events(api):
    after = 0
    while (page := api.get(f"/events?after={after}&limit=1000"))["items"]:
        yield from page["items"]
        after = page["next"]


def test_the_end_of_croftd_leaves_the_guest(house):
    house.end()
    assert "1 VM runs on without it: vm" in house.log
    wait_for("no front is left", lambda: not front_pids(house))
    house.start()


# ---- croft-vm

def shim_pids(house):
    return [pid for pid, name in house.processes() if name.startswith("croft-vm")]


def test_croft_vm_is_killed_and_another_adopts_the_guest(house):
    console = house.client().console("vm")
    echo(console, "x")
    (old,) = shim_pids(house)
    os.kill(old, signal.SIGKILL)
    wait_for("another one", lambda: len(shim_pids(house)) == 1 and shim_pids(house) != [old])
    client = house.client()
    client.wait_state("vm", "running")
    echo(client.console("vm"), "after croft-vm died")


def test_croft_vm_is_stopped_and_replaced(house):
    """It does not answer within 5 s: it is killed, and another one adopts the guest."""
    (old,) = shim_pids(house)
    os.kill(old, signal.SIGSTOP)
    house.kill()
    house.start()       # which asks it
    wait_for("another one", lambda: len(shim_pids(house)) == 1 and shim_pids(house) != [old], 20)
    client = house.client()
    client.wait_state("vm", "running", 20)
    echo(client.console("vm"), "after croft-vm was stopped")


def start_anew(house):
    """With a croft-vm that is QEMU's parent, and so sees how it ends."""
    api = house.client()
    if api.vm("vm")["status"]["state"] != "off":
        api.post("/vms/vm/poweroff")
    api.post("/vms/vm/start")
    house.replaced = True
    return house.qemu()[0]


def test_qemu_stopped_is_degraded_and_comes_back(house):
    """It is never killed for that."""
    (qemu,) = house.qemu()
    os.kill(qemu, signal.SIGSTOP)
    try:
        api = house.client()
        answer = api.request("POST", "/vms/vm/pause", None, {"Prefer": "wait=60"})
        assert answer.status == 504 and "\"vm\"" in answer.json["detail"] and "poweroff vm" in answer.json["hint"], answer
        vm = api.wait_state("vm", "degraded", 20)
        assert vm["status"]["note"] and vm["status"]["pid"] == qemu
    finally:
        os.kill(qemu, signal.SIGCONT)
    # It pauses when it can again: that was asked for.
    wait_for("it is back", lambda: api.vm("vm")["status"]["state"] != "degraded", 60)
    if api.vm("vm")["status"]["state"] == "paused":
        api.post("/vms/vm/resume")


def test_qemu_killed_is_off_and_says_why(house):
    os.kill(start_anew(house), signal.SIGKILL)
    api = house.client()
    vm = api.wait_state("vm", "off")
    assert vm["status"]["last_end"]["signal"] == 9, vm["status"]
    start_anew(house)


def test_qemu_killed_while_croftd_is_dead(house):
    qemu = start_anew(house)
    house.kill()
    os.kill(qemu, signal.SIGKILL)
    wait_for("croft-vm has written how it ended", lambda: not shim_pids(house))
    house.start()
    vm = house.client().wait_state("vm", "off")
    assert vm["status"]["last_end"]["signal"] == 9, vm["status"]
    start_anew(house)


def test_the_end_of_an_adopted_qemu_is_told_as_far_as_it_is_known(house):
    qemu = start_anew(house)
    (old,) = shim_pids(house)
    os.kill(old, signal.SIGKILL)
    wait_for("another one", lambda: shim_pids(house) not in ([old], []))
    os.kill(qemu, signal.SIGKILL)
    vm = house.client().wait_state("vm", "off")
    assert vm["status"]["last_end"]["why"] == "unknown" and vm["status"]["last_end"]["explanation"], vm["status"]
    start_anew(house)
