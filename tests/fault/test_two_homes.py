"""Two homes that have one datastore: whatever both of them believe, a VM runs once."""
import contextlib
import os
import subprocess
import tempfile

import pytest
import tiny
from croft import Croft, croftd


@pytest.fixture
def homes():
    """Two croftds; the datastore of the second one is the first one's. The VM x is in both."""
    folder = tempfile.mkdtemp(prefix="croft-test-")
    store = f"{folder}/home/datastores/local"
    with croftd() as one, contextlib.ExitStack() as ends:
        api = one.client()
        tiny.upload(api)
        api.post("/vms", {"name": "x", "config": tiny.config()})
        os.makedirs(store)
        subprocess.run(["mount", "--bind", f"{one.home}/datastores/local", store], check=True)
        ends.callback(subprocess.run, ["rm", "-rf", folder])
        ends.callback(subprocess.run, ["umount", "-l", store])
        two = Croft(f"{folder}/home").start()
        ends.callback(two.kill)
        ends.callback(two.stop)
        two.client().post("/config", api.get("/config"))        # (or it has it by its descriptor already)
        two.client().wait_state("x", "off")
        yield one, two


def test_the_second_one_is_refused(homes):
    one, two = homes
    a, b = one.client(), two.client()
    vm = a.post("/vms/x/start")
    assert b.vm("x")["id"] == vm["id"] and b.vm("x")["status"]["state"] == "off"
    problem = b.problem(409, "POST", "/vms/x/start", None, Prefer="wait=20")
    assert "runs already, by another Croft" in problem["detail"] and problem["hint"], problem
    one.kill()                                      # the lock is QEMU's
    b.problem(409, "POST", "/vms/x/start", None, Prefer="wait=20")
    assert len(one.qemu()) == 1 and not two.qemu()
    one.start()
    a = one.client()
    a.wait_state("x", "running")
    a.post("/vms/x/poweroff")
    assert b.post("/vms/x/start")["status"]["state"] == "running"
    a.problem(409, "POST", "/vms/x/start", None, Prefer="wait=20")
    b.post("/vms/x/poweroff")
    assert a.post("/vms/x/start")["status"]["state"] == "running"


def test_a_memory_that_another_one_saved_is_not_lost_by_a_start(homes):
    one, two = homes
    a, b = one.client(), two.client()
    memory = f"{one.home}/datastores/local/x/memory.croft"
    a.post("/vms/x/start")
    a.post("/vms/x/suspend")
    for _ in range(2):                              # by whichever croftd of that home
        problem = b.problem(409, "POST", "/vms/x/start", None, Prefer="wait=20")
        assert "[local] x/memory.croft" in problem["detail"] and "vmctl file rm '[local] x/memory.croft'" in problem["hint"], problem
        assert b.vm("x")["status"]["state"] == "off" and os.path.exists(memory) and not two.qemu()
        two.kill()
        two.start()
        b = two.client()
    one.kill()
    one.start()
    a = one.client()
    assert a.post("/vms/x/start")["status"]["state"] == "running" and not os.path.exists(memory)

    # A rest of one's own, as a removal that failed leaves it, is in nobody's way but another's.
    a.post("/vms/x/suspend")
    with open(memory, "rb") as f:
        rest = f.read()
    a.problem(409, "DELETE", "/datastores/local/files/x/memory.croft")
    a.post("/vms/x/discard")
    for content, refused in ((rest, b), (rest[:-1], a), (b"", a)):
        with open(memory, "wb") as f:
            f.write(content)
        assert "memory.croft" in refused.problem(409, "POST", "/vms/x/start", None, Prefer="wait=20")["detail"]
    with open(memory, "wb") as f:
        f.write(rest)
    assert a.post("/vms/x/start")["status"]["state"] == "running"

    # The other way out, which loses it: and then the home that saved it says so.
    a.post("/vms/x/suspend")
    b.ok("DELETE", "/datastores/local/files/x/memory.croft")
    assert b.post("/vms/x/start")["status"]["state"] == "running"
    b.problem(409, "DELETE", "/datastores/local/files/x/memory.croft")
    b.post("/vms/x/suspend")
    a.post("/vms/x/discard")                        # of its own, which is gone: the other one's stays
    assert os.path.exists(memory)
    assert b.post("/vms/x/start")["status"]["state"] == "running"
    b.post("/vms/x/poweroff")
    assert a.post("/vms/x/start")["status"]["state"] == "running"
