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
