"""Suspend to disk and back, with a guest whose memory counts: a shell that remembers, a process that runs on."""
import os
import shutil
import sqlite3

import pytest
from croft import wait_for


def login(api, vm="demo"):
    console = api.console(vm)
    console.until(b"demo:~# ")
    return console


def file_of(c, vm):
    return f"{c.home}/datastores/local/{vm['folder'].removeprefix('[local] ')}/memory.croft"


@pytest.fixture(scope="module")
def kept(demo):
    """The demo guest, with something in its memory."""
    api = demo.client()
    api.wait_state("demo", "running")
    console = login(api)
    console.command("kept=in-memory; (while :; do n=$((n+1)); echo $n >/tmp/m; mv /tmp/m /tmp/n; usleep 10000; done) & true")
    console.close()
    return demo


def counter(api):
    console = api.console("demo")
    console.type("\n")
    console.until(b"demo:~# ")
    assert b"in-memory" in console.command("echo $kept")
    n = int(console.command("cat /tmp/n").split()[-1])
    wait_for("the process in the guest runs on", lambda: int(console.command("cat /tmp/n").split()[-1]) > n)
    console.close()
    return n


def test_it_goes_on_where_it_was(kept):
    api = kept.client()
    before = counter(api)
    vm = api.post("/vms/demo/suspend")
    assert vm["status"]["state"] == "suspended" and not kept.qemu()
    assert vm["status"]["last_end"]["why"] == "suspended" and vm["status"]["pid"] == 0
    memory = vm["status"]["saved"]
    assert memory["bytes"] == os.path.getsize(file_of(kept, vm)) > 10 << 20 and len(memory["sha256"]) == 64
    assert os.stat(file_of(kept, vm)).st_mode & 0o777 == 0o600

    kept.kill()
    shutil.rmtree(f"{kept.home}/run/vm")            # as the host's restart does
    kept.start()                                    # what is on disk decides
    api = kept.client()
    assert api.vm("demo")["status"]["state"] == "suspended"
    for verb in ("poweroff", "resume", "suspend", "shutdown"):
        problem = api.problem(409, "POST", f"/vms/demo/{verb}")
        assert "start, discard" in problem["hint"], problem
    api.ok("PATCH", "/vms/demo", {"config": {"memory_bytes": 768 << 20, "description": "changed meanwhile"}})
    assert api.vm("demo")["pending"] == ["/config/memory_bytes"]

    vm = api.post("/vms/demo/start")
    assert vm["status"]["state"] == "running" and vm["status"]["saved"] is None
    assert vm["pending"] == ["/config/memory_bytes"], "it was resumed as it had been started"
    assert not os.path.exists(file_of(kept, vm))
    assert counter(api) > before


def test_a_paused_one_and_twice(kept):
    api = kept.client()
    api.post("/vms/demo/pause")
    assert api.post("/vms/demo/suspend")["status"]["state"] == "suspended"
    assert api.post("/vms/demo/start")["status"]["state"] == "running"
    api.post("/vms/demo/suspend")
    assert api.post("/vms/demo/start")["status"]["state"] == "running"
    counter(api)


def test_a_damaged_file_is_told_and_the_way_out_works(kept):
    api = kept.client()
    vm = api.post("/vms/demo/suspend")
    with open(file_of(kept, vm), "r+b") as f:
        f.seek(5 << 20)
        byte = f.read(1)
        f.seek(5 << 20)
        f.write(bytes([byte[0] ^ 1]))
    problem = api.problem(409, "POST", "/vms/demo/start", None, Prefer="wait=60")
    assert "damaged" in problem["detail"] and "discard" in problem["hint"], problem
    assert api.vm("demo")["status"]["state"] == "suspended" and not kept.qemu()
    with open(file_of(kept, vm), "r+b") as f:
        f.seek(5 << 20)
        f.write(byte)
    kept.end()
    with sqlite3.connect(f"{kept.home}/croft.db") as db:
        text = db.execute("SELECT memory FROM vms WHERE name = 'demo'").fetchone()[0]
        db.execute("UPDATE vms SET memory = json_set(memory, '$.qemu', '6.0.0')")
    kept.start()
    api = kept.client()
    problem = api.problem(409, "POST", "/vms/demo/start", None, Prefer="wait=60")
    assert "saved by QEMU 6.0.0" in problem["detail"] and "discard" in problem["hint"], problem
    kept.end()
    with sqlite3.connect(f"{kept.home}/croft.db") as db:
        db.execute("UPDATE vms SET memory = ?", (text,))
    kept.start()
    api = kept.client()
    api.post("/vms/demo/start")                     # nothing was lost by trying
    counter(api)
    api.post("/vms/demo/suspend")
    now = api.post("/vms/demo/discard")
    assert now["status"]["state"] == "off" and now["status"]["saved"] is None and now["pending"] == []
    assert not os.path.exists(file_of(kept, now))
    assert api.post("/vms/demo/start")["status"]["state"] == "running"
    login(api).close()


def test_cancelled_it_runs_on(kept):
    """A datastore that takes its time: the save can be cancelled, and nothing is left of it."""
    api = kept.client()
    api.wait_state("demo", "running")
    task = api.request("POST", "/vms/demo/suspend").json["id"]
    answer = api.request("POST", f"/tasks/{task}/cancel")
    ended = api.get(f"/tasks/{task}", Prefer="wait=60")
    vm = api.vm("demo")
    if answer.status < 300 and ended["state"] == "cancelled":
        assert vm["status"]["state"] == "running" and not os.path.exists(file_of(kept, vm)), vm
    else:                                           # it was faster
        assert ended["state"] == "done" and vm["status"]["state"] == "suspended"
        api.post("/vms/demo/start")
    console = api.console("demo")
    console.type("\n")
    console.until(b"demo:~# ")
    assert b"aarch64" in console.command("uname -m")
    console.close()


def test_a_suspended_one_is_deleted_with_its_memory(kept):
    api = kept.client()
    vm = api.post("/vms/demo/suspend")
    api.ok("DELETE", "/vms/demo")
    assert not os.path.exists(os.path.dirname(file_of(kept, vm)))
