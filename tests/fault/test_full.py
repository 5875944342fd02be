"""The disk is full, at each page that something writes; or the kernel has made it read-only. Real ones: a small tmpfs that is
filled to its last pages, an ext4 that is told to give up. What was refused has not happened, what was answered has, the guest
runs on, and with room it goes on by itself."""
import contextlib
import os
import subprocess
import tempfile

import pytest
import tiny
from croft import Croft, wait_for

PAGE = 4096
ALL = bool(os.environ.get("CROFT_POWER"))
LEFT = range(0, 160) if ALL else (0, 1, 2, 3, 5, 8, 12, 17, 26, 48, 90)        # pages that are left of the disk
DISKS = {"disks": {"data": {"size_bytes": 1 << 20}}}


@contextlib.contextmanager
def mounted(*mount):
    """A home on a file system of its own; its log is elsewhere."""
    place = tempfile.mkdtemp(prefix="croft-test-")
    if subprocess.run(["mount", *mount, place], check=False, capture_output=True).returncode:
        os.rmdir(place)
        pytest.skip(f"no file system can be mounted here: mount {' '.join(mount)}")
    os.chmod(place, 0o700)
    c = Croft(f"{place}/home")
    c.log_path = f"{place}.log"
    try:
        yield c
    finally:
        with contextlib.suppress(OSError):
            c.kill()
        subprocess.run(["umount", "-l", place], check=True)
        os.rmdir(place)
        os.remove(c.log_path)


class Filler:
    """A file that leaves so many pages of the disk."""

    def __init__(self, path):
        self.path = path

    def leave(self, pages):
        with open(self.path, "wb", buffering=0) as f, contextlib.suppress(OSError):
            while f.write(bytes(PAGE)):
                pass
        size = os.path.getsize(self.path) - pages * PAGE
        os.truncate(self.path, max(0, size))

    def empty(self):
        os.truncate(self.path, 0)


@pytest.fixture(scope="module")
def small():
    with mounted("-t", "tmpfs", "-o", "size=16m,mode=700", "croft-test") as c:
        c.start()
        api = c.client()
        tiny.upload(api)
        api.post("/vms", {"name": "kept", "config": tiny.config(**DISKS)})
        c.pid = api.post("/vms/kept/start")["status"]["pid"]
        c.filler = Filler(f"{os.path.dirname(c.home)}/filler")
        c.filler.leave(0)
        c.filler.empty()
        yield c
        c.filler.empty()
        c.finish()


def upload(api):
    return api.request("PUT", "/datastores/local/files/f?replace=true", b"u" * 100_000)


# what is asked for; is it so? The way back, from where it was done.
ASKS = {
    "patch": (lambda api: api.request("PATCH", "/vms/kept", {"labels": {"l": "x" * 200}}),
              lambda api: api.vm("kept")["labels"] != {},
              lambda api: api.ok("PATCH", "/vms/kept", {"labels": {"l": None}})),
    "create": (lambda api: api.request("POST", "/vms", {"name": "new", "config": tiny.config(**DISKS)}, {"Prefer": "wait=1"}),
               lambda api: api.request("GET", "/vms/new").status == 200,
               lambda api: api.ok("DELETE", "/vms/new")),
    "delete": (lambda api: api.request("DELETE", "/vms/old", None, {"Prefer": "wait=1"}),
               lambda api: api.request("GET", "/vms/old").status == 404,
               lambda api: api.post("/vms", {"name": "old", "config": tiny.config(**DISKS)})),
    "upload": (upload, lambda api: any(e["name"] == "f" for e in api.items("/datastores/local/files")),
               lambda api: api.ok("DELETE", "/datastores/local/files/f")),
    "folder": (lambda api: api.request("POST", "/datastores/local/folders/d"),
               lambda api: any(e["name"] == "d" for e in api.items("/datastores/local/files")),
               lambda api: api.ok("DELETE", "/datastores/local/files/d")),
    "user": (lambda api: api.request("POST", "/users", {"name": "ann", "role": "viewer"}),
             lambda api: api.request("GET", "/users/ann").status == 200,
             lambda api: api.ok("DELETE", "/users/ann")),
    "start": (lambda api: api.request("POST", "/vms/old/start", None, {"Prefer": "wait=1"}),
              lambda api: api.vm("old")["status"]["state"] == "running",
              lambda api: api.post("/vms/old/poweroff")),
}


def quiet(c):
    """No task is under way any more, and nothing lies about that nobody knows. Returns its API."""
    api = c.client()
    for task in api.items("/tasks?state=running") + api.items("/tasks?state=undoing"):
        api.get(f"/tasks/{task['id']}", Prefer="wait=20")
    wait_for("no task is under way", lambda: not api.get("/host")["agent"]["tasks_open"])
    store = f"{c.home}/datastores/local"
    known = {".croft-datastore.json", *(f".croft-upload-{u['id']}" for u in api.items("/uploads"))}
    assert {name for name in os.listdir(store) if name.startswith(".")} <= known
    folders = {vm["folder"].removeprefix("[local] ") for vm in api.items("/vms")}
    for folder in folders:
        names = set(os.listdir(f"{store}/{folder}"))
        assert names == {".croft-vm", "vm.croft.json", "data.qcow2"}, names
    assert {name for name in os.listdir(store) if os.path.isdir(f"{store}/{name}")} - {"d"} == folders
    return api


@pytest.mark.parametrize("what", ASKS)
def test_full_at_each_page(small, what):
    ask, is_so, back = ASKS[what]
    api = small.client()
    if api.request("GET", "/vms/old").status == 404:
        ASKS["delete"][2](api)
    seen = set()
    for pages in LEFT:
        small.filler.leave(pages)
        answer = ask(api)
        told = f"{what}, {pages} pages left: {answer}"
        assert api.vm("kept")["status"]["pid"] == small.pid, told
        small.filler.empty()
        api = quiet(small)
        so = is_so(api)
        if answer.status >= 300:
            assert answer.status in (503, 507) and answer.json["detail"], told
            assert not so or what == "upload", told         # (refused at its last commit, it may have its name already)
        elif answer.status != 202:
            assert so, told
        seen.add(so)
        if not so:
            assert 200 <= ask(api).status < 300, f"{told}; again, with room"
            quiet(small)
        assert is_so(api), told
        back(api)
    small.kill()
    small.start()
    assert quiet(small).wait_state("kept", "running")["status"]["pid"] == small.pid
    assert True in seen, "there was never enough room"


def test_the_kernel_makes_it_read_only(tmp_path):
    """As ext4 does after an error of the medium. It is read on, by the next croftd, too; with a good file system it goes on."""
    image = tmp_path / "image"
    with open(image, "wb") as f:
        f.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    with mounted("-o", "loop", str(image)) as c:
        c.start()
        api = c.client()
        api.post("/vms", {"name": "sim", "config": {"engine": "sim"}})
        api.ok("PATCH", "/vms/sim", {"labels": {"kept": "1"}})
        subprocess.run(["mount", "-o", "remount,abort", os.path.dirname(c.home)], check=False, capture_output=True)
        for _ in range(3):
            problem = api.problem(503, "PATCH", "/vms/sim", {"labels": {"kept": "2"}})
            assert "the database" in problem["detail"] and "its file system is read-only" in problem["hint"], problem
        assert "home-read-only" in [f["what"] for f in api.get("/host/doctor")["findings"]]
        assert api.request("PUT", "/datastores/local/files/f", b"x").status in (500, 503)
        assert api.vm("sim")["labels"] == {"kept": "1"} and api.get("/events?after=0")["items"]
        c.kill()
        with open(f"{c.home}/croft.db-wal", "rb") as f:
            assert f.read(4), "what was answered stands in the log alone"
        c.socket = f"{c.home}/run/croft.sock"
        c.start()                               # (the run folder is read-only, too: only HTTPS is left)
        api = c.client(tls=True)
        api.login()
        assert api.vm("sim")["labels"] == {"kept": "1"} and "read-only" in api.get("/host")["agent"]["problems"][0]
        assert "read-only" in api.problem(503, "PATCH", "/vms/sim", {"labels": {"kept": "2"}})["detail"]
        c.kill()
        c.socket = f"{c.home}/croft.sock"
        place = os.path.dirname(c.home)
        subprocess.run(["umount", place], check=True)
        subprocess.run(["fsck.ext4", "-fy", image], check=False, capture_output=True)
        subprocess.run(["mount", "-o", "loop", image, place], check=True)
        c.start()
        assert c.client().vm("sim")["labels"] == {"kept": "1"}
        c.client().ok("PATCH", "/vms/sim", {"labels": {"kept": "3"}})
        c.finish()
