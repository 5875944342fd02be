"""The power goes, at any instruction, on a disk that keeps of unsynced things what it likes: what was answered 2xx is there,
and the next croftd comes up, ends what was under way, and leaves nothing half. See powerloss.py for the model.
CROFT_POWER=all replays everything (make soak); CROFT_SEED repeats a run."""
import base64
import contextlib
import hashlib
import os
import random
import socket
import subprocess
import tempfile
import time

import pytest
from croft import O, Croft, wait_for
from powerloss import Record, facts, materialise, replay

ALL = os.environ.get("CROFT_POWER") == "all"
SEED = int(os.environ.get("CROFT_SEED") or random.randrange(10**9))
SHARE = 1 if ALL else 0.2         # of the states that a croftd is started on


@pytest.fixture(scope="module")
def place():
    """A tmpfs: its inode numbers are never used again."""
    mount = tempfile.mkdtemp(prefix="croft-test-")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=700", "croft-test", mount], check=True)
    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", mount], check=True)
        os.rmdir(mount)


def upload(api, name, data, safe=0):
    digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
    headers = {"Repr-Digest": f"sha-256=:{digest}:", **({"Upload-Offset": str(safe)} if safe else {})}
    answer = api.request("PUT", f"/datastores/local/files/{name}", data[safe:], headers)
    assert answer.status == 201, answer


def cut_off(api, name, data):
    """An upload whose client goes before its end. Returns how much is safe, when croftd says so: what the front has not written
    yet is not, so it may take some clients."""
    for _ in range(20):
        with contextlib.closing(api.raw_socket()) as s:
            s.sendall(f"PUT /api/v1/datastores/local/files/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode())
            s.sendall(data[:-50_000])
            s.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionError):
                while s.recv(65536):
                    pass
        with contextlib.suppress(AssertionError):
            return wait_for("some is safe", lambda: [u["durable_bytes"] for u in api.items("/uploads") if u["durable_bytes"]], 1)[0]
    raise AssertionError("no upload was kept")


def scenario(c, record):
    """What users do, one after the other."""
    api = c.client()
    step, ok = record.step, api.ok
    disks = {"disks": {"system": {"source": "[local] base.raw", "size_bytes": 1 << 20}, "data": {"size_bytes": 1 << 20}}}
    real = {"firmware": "kernel", "kernel": {"image": "[local] images/vmlinuz"}, "memory_bytes": 64 << 20, **disks}
    data = random.Random(1).randbytes(100_000)
    large = random.Random(2).randbytes(1_150_000)
    step("mkdir", lambda: ok("POST", "/datastores/local/folders/images"))
    step("upload", lambda: upload(api, "images/vmlinuz", data))
    step("replace", lambda: upload(api, "images/vmlinuz?replace=true", data[::-1]))
    step("upload base", lambda: upload(api, "base.raw", data[:65536]))
    safe = step("upload cut off", lambda: cut_off(api, "cut", large))
    step("upload resumed", lambda: upload(api, "cut", large, safe))
    step("upload cut off again", lambda: cut_off(api, "cut2", large))
    step("upload given up", lambda: api.ok("DELETE", "/uploads/" + api.items("/uploads")[0]["id"]))
    step("create real", lambda: ok("POST", "/vms", {"name": "web", "config": real}))
    step("create sim", lambda: ok("POST", "/vms", {"name": "sim", "config": {"engine": "sim"}}))
    for i in range(4):
        step(f"patch {i}", lambda i=i: ok("PATCH", "/vms/web", {"labels": {"n": str(i)}, "config": {"description": "d" * 300 * i}}))
    step("start", lambda: ok("POST", "/vms/sim/start"))
    step("poweroff", lambda: ok("POST", "/vms/sim/poweroff"))
    step("rename", lambda: ok("PATCH", "/vms/sim", {"name": "renamed"}))
    step("user", lambda: ok("POST", "/users", {"name": "ann", "role": "operator", "password": "a long secret"}))
    step("user's role", lambda: ok("PATCH", "/users/ann", {"role": "viewer"}))
    step("token", lambda: ok("POST", "/tokens", {"name": "t", "user": "admin", "role": "viewer"}))
    step("backup and restore", lambda: ok("POST", "/config", other(ok("GET", "/config"))))
    c.end()
    c.start()
    api = c.client()
    ok = api.ok
    step("delete file", lambda: ok("DELETE", "/datastores/local/files/cut"))
    step("delete user", lambda: ok("DELETE", "/users/ann"))
    step("delete VM", lambda: ok("DELETE", "/vms/web"))
    step("delete sim", lambda: ok("DELETE", "/vms/renamed"))
    step("delete folder's file", lambda: ok("DELETE", "/datastores/local/files/images/vmlinuz"))
    step("delete folder", lambda: ok("DELETE", "/datastores/local/files/images"))


def other(document):
    """The same configuration with one more VM."""
    vm = next(v for v in document["vms"] if v["name"] == "renamed")
    document["vms"] = [{**vm, "name": "restored", "id": "00000000-0000-4000-8000-000000000001"}]
    return document


@pytest.fixture(scope="module")
def recorded(place):
    home, log = f"{place}/home", f"{place}.record"
    os.mkdir(home, 0o700)
    open(log, "wb").close()
    c = Croft(home)
    c.log_path = f"{place}.log"
    options = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
    c.environment = {"LD_PRELOAD": os.path.abspath(f"{O}/tests/fault/record.so"), "CROFT_RECORD": log, "CROFT_RECORD_HOME": home,
                     "ASAN_OPTIONS": options}
    record = Record(log, home)
    try:
        c.start()
        record.step("first start", lambda: None)
        scenario(c, record)
        root = os.stat(home).st_ino
        c.finish()
        yield record, root
    finally:
        if c.process and c.process.poll() is None:
            c.kill()
        for path in log, c.log_path:
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)


def settle(place, home):
    """A croftd starts on what the disk kept, ends what was under way, and ends."""
    c = Croft(home)
    c.log_path = f"{place}/state.log"
    with contextlib.suppress(FileNotFoundError):
        os.remove(c.log_path)
    try:
        c.start()
        api = c.client()
        for task in api.items("/tasks"):
            if task["finished"] is None:
                api.get(f"/tasks/{task['id']}", Prefer="wait=20")
        assert not api.get("/host")["agent"]["tasks_open"]
        c.end()
    except BaseException:
        c.kill()
        print(c.log)
        raise
    return facts(c.home)


def test_whatever_was_answered_is_there(recorded, place):
    """Every state is looked at; a croftd is started on some of them."""
    record, root = recorded
    rng = random.Random(SEED)
    print(f"CROFT_SEED={SEED}")
    states = starts = 0
    began = time.monotonic()
    bad = []
    for point, name, folders, files in replay(record, root, rng, 8 if ALL else 2):
        states += 1
        materialise(root, folders, files, record.home)
        for settled in (False, True):
            if settled and rng.random() >= SHARE:
                break
            if not settled and not point.done:
                continue
            try:
                found = settle(place, record.home) if settled else facts(record.home)
            except Exception as e:          # noqa: BLE001: told with the state
                wrong = [f"{type(e).__name__}: {e}"]
            else:
                wrong = point.wrong(found, settled)
            starts += settled
            if wrong:
                bad.append(f"{point.name}; kept: {name}; settled: {settled}: {wrong}")
                break
        if len(bad) > 50:
            break
    print(f"{states} states, {starts} starts of croftd, {time.monotonic() - began:.0f} s")
    assert not bad, "\n".join(bad)
