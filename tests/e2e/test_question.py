"""A disk that is full: the guest stands still, the VM asks, and the answer decides. With a real guest that writes."""
import os
import subprocess
import tempfile

import pytest
from croft import GUEST, Croft, wait_for
from test_autostart import events

MIB = 1 << 20


@pytest.fixture(scope="module")
def small():
    """A croftd with the demo guest, whose datastore is a file system of its own, and a disk that doesn't fit on it."""
    folder = tempfile.mkdtemp(prefix="croft-test-")
    c, store = Croft(f"{folder}/home", "--demo", GUEST), f"{folder}/home/datastores/local"
    os.makedirs(store)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m,mode=700", "croft-test", store], check=True)
    try:
        c.store = store
        c.start()
        c.client().wait_state("demo", "running")
        yield c
        c.stop()
    finally:
        c.kill()
        subprocess.run(["umount", "-l", store], check=True)
        subprocess.run(["rm", "-rf", folder], check=True)


def fill(c, leave):
    with open(f"{c.store}/filler", "wb") as f:
        s = os.statvfs(c.store)
        f.write(bytes(s.f_bavail * s.f_frsize - leave))


def write(console, mib):
    console.type(f"dd if=/dev/zero of=/dev/vda bs=1M count={mib} oflag=direct; echo wrote-$?\n")


def question(api, other_than=0):
    def asked():
        q = api.vm("full")["status"]["question"]
        return q and q["id"] != other_than and q
    return wait_for("it asks", asked, 30)


def test_a_full_disk_asks(small):
    api = small.client()
    config = api.vm("demo")["config"]
    config = {k: config[k] for k in ("firmware", "kernel", "memory_bytes")}
    api.post("/vms/demo/poweroff")
    api.post("/vms", {"name": "full", "config": {**config, "display": "none", "disks": {"data": {"size_bytes": 64 * MIB}}}})
    assert api.problem(409, "POST", "/vms/full/answer", {"choice": "retry"})["detail"] == "full asks nothing"
    fill(small, 8 * MIB)
    api.post("/vms/full/start")
    console = api.console("full")
    console.until(b"demo:~# ")
    assert b"vda" in console.command("ls /dev")
    write(console, 32)
    first = question(api)
    status = api.wait_state("full", "paused")["status"]
    assert first["device"] == "data" and "no space" in first["text"] and status["note"] == first["text"]
    assert [x["choice"] for x in first["choices"]] == ["retry", "poweroff"]
    assert "choice" in str(api.problem(422, "POST", "/vms/full/answer", {"choice": "ignore"}))
    assert api.problem(409, "POST", "/vms/full/answer", {"choice": "retry", "id": first["id"] + 1})

    api.post("/vms/full/answer", {"choice": "retry", "id": first["id"]})
    again = question(api, first["id"])                          # it is full as before
    console.close()
    small.kill()
    small.start()
    api = small.client()
    assert question(api)["device"] == "data", "the next croftd asks, too"
    assert again["id"] != question(api)["id"]

    os.remove(f"{small.store}/filler")
    api.post("/vms/full/answer", {"choice": "retry"})
    console = api.console("full")
    console.until(b"wrote-0")
    status = api.vm("full")["status"]
    assert status["state"] == "running" and status["question"] is None and status["note"] is None
    console.close()


def test_the_other_answer(small):
    api = small.client()
    api.wait_state("full", "running")
    console = api.console("full")
    console.until(b"wrote-0")
    fill(small, 4 * MIB)
    console.type("dd if=/dev/zero of=/dev/vda bs=1M seek=34 count=24 oflag=direct\n")
    question(api)
    console.close()
    now = api.post("/vms/full/answer", {"choice": "poweroff"})["status"]
    assert now["state"] == "off" and now["question"] is None and now["last_end"]["why"] == "poweroff"


def test_it_goes_on_by_itself_when_there_is_room(small):
    """Once: one that is full again at once waits for an answer, whatever room there is."""
    api = small.client()
    config = api.vm("full")["config"]
    api.ok("DELETE", "/vms/full")
    config["disks"] = {"data": {"size_bytes": 100 * MIB}}
    api.post("/vms", {"name": "full", "config": {k: config[k] for k in ("firmware", "kernel", "memory_bytes", "display", "disks")}})
    fill(small, 8 * MIB)
    api.post("/vms/full/start")
    console = api.console("full")
    console.until(b"demo:~# ")
    write(console, 100)
    first = question(api)
    os.truncate(f"{small.store}/filler", os.path.getsize(f"{small.store}/filler") - 70 * MIB)
    second = wait_for("it goes on, and asks again", lambda: (q := api.vm("full")["status"]["question"]) and q["id"] != first["id"] and q, 60)
    told = [e["data"] for e in events(api) if e["kind"].startswith("task.") and e["data"]["kind"] == "vm.resume"]
    assert any("full goes on by itself: the datastore local has" in (t["note"] or "") and t["user"] == "croft" for t in told), told
    wait_for("it is left to a user", lambda: "now it waits for an answer" in small.log)
    os.remove(f"{small.store}/filler")
    assert api.vm("full")["status"]["question"]["id"] == second["id"]
    api.post("/vms/full/answer", {"choice": "retry"})
    console.until(b"wrote-0")
    console.close()
    api.post("/vms/full/poweroff")
