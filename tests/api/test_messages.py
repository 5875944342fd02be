"""What a person reads who sent something wrong: tests/golden/messages.md, made of real requests to a real croftd. It has to
read like a document: each message names the thing, the cause and the way out. GOLDEN_ACCEPT=1 writes it anew."""
import difflib
import json
import os
import re

import tiny
from croft import TOP

GOLDEN = f"{TOP}/tests/golden/messages.md"
VM = {"engine": "sim"}

INTRO = """# Messages for wrong input

Made by `tests/api/test_messages.py` from real requests; `make golden-accept ONLY=api/messages` writes it anew. Under each
request stands the problem's status and type, its detail, and its hint after an arrow.
"""
CHAPTERS = {
    "Things that are not there": [
        ("GET", "/vms/wbe"), ("GET", "/vms/nothing-like-it"), ("POST", "/vms/wbe/start"), ("GET", "/tasks/4711"),
        ("GET", "/datastores/remote"), ("GET", "/datastores/local/files/iso/debian.iso"), ("GET", "/datastores/local/files?path=iso"),
        ("DELETE", "/uploads/x"), ("GET", "/users/nobody"), ("DELETE", "/tokens/x"), ("GET", "/virtual-machines"),
        ("GET", "/consoles/0000")],
    "Requests that cannot be": [
        ("PUT", "/vms/web"), ("DELETE", "/vms"), ("POST", "/vms", b'{"name": "x",}'), ("POST", "/vms", b'{"name": "\xff"}'),
        ("POST", "/vms", b'{"name": "a", "name": "b"}'), ("POST", "/vms", b"[" * 100000, "100,000 brackets"), ("POST", "/vms", []), ("POST", "/vms"),
        ("POST", "/vms", b"name=x", "as text/plain", {"Content-Type": "text/plain"}), ("POST", "/vms/web/start", {"force": True}),
        ("GET", "/vms?limit=all"), ("GET", "/vms?limit=1000000"), ("GET", "/vms?stat=off"), ("GET", "/vms?state=on"),
        ("GET", "/tasks?state=sleeping"), ("POST", "/vms/web/start", None, "with Prefer: wait=soon", {"Prefer": "wait=soon"}),
        ("POST", "/vms/web/start", None, "with an empty Idempotency-Key", {"Idempotency-Key": ""}),
        ("POST", "/vms", {"name": "other", "config": VM}, "with the Idempotency-Key of another request", {"Idempotency-Key": "used"}),
        ("GET", "/events", None, "with Last-Event-ID: yesterday", {"Accept": "text/event-stream", "Last-Event-ID": "yesterday"}),
        ("GET", "/consoles/0000000000000000000000000000000000000000000000000000000000000000", None, "without a WebSocket")],
    "Values that are not valid": [
        ("POST", "/vms", {"config": VM}), ("POST", "/vms", {"name": ""}), ("POST", "/vms", {"name": "my vm"}), ("POST", "/vms", {"name": "x" * 70}),
        ("POST", "/vms", {"name": 7}), ("POST", "/vms", {"name": "a", "colour": "red"}), ("POST", "/vms", {"name": "a", "config": {"cpu": 2}}),
        ("POST", "/vms", {"name": "a", "config": {"cpus": "two"}}), ("POST", "/vms", {"name": "a", "config": {"cpus": 0}}),
        ("POST", "/vms", {"name": "a", "config": {"cpus": 10000}}), ("POST", "/vms", {"name": "a", "config": {"memory_bytes": 1000}}),
        ("POST", "/vms", {"name": "a", "config": {"memory_bytes": -1}}), ("POST", "/vms", {"name": "a", "config": {"firmware": "bios"}}),
        ("POST", "/vms", {"name": "a", "config": {"firmware": "kernel"}}), ("POST", "/vms", {"name": "a", "config": {"cpu_model": "host", "accel": "tcg"}}),
        ("POST", "/vms", {"name": "a", "config": {"machine": "pc"}}), ("POST", "/vms", {"name": "a", "labels": {"my label": "x"}}),
        ("POST", "/vms", {"name": "a", "labels": ["x"]}), ("POST", "/vms", {"name": "a", "start": "yes"}),
        ("POST", "/vms/web/shutdown", {"timeout_s": 0}), ("POST", "/vms/web/console", {"kind": "vga"})],
    "Disks, CD drives, NICs": [
        ("POST", "/vms", {"name": "a", "config": {"disks": {"system": {}}}}), ("POST", "/vms", {"name": "a", "config": {"disks": {"system": {"size_bytes": 1000}}}}),
        ("POST", "/vms", {"name": "a", "config": {"disks": {"system": {"size_bytes": 1 << 20, "bus": "ide"}}}}),
        ("POST", "/vms", {"name": "a", "config": {"disks": {"system": {"size_bytes": 1 << 20, "format": "raw"}}}}),
        ("POST", "/vms", {"name": "a", "config": {"disks": {"system": {"size_bytes": 1 << 20, "path": "[local] x.qcow2"}}}}),
        ("POST", "/vms", {"name": "a", "config": {"disks": {"system": {"source": "debian.qcow2"}}}}),
        ("POST", "/vms", {"name": "a", "config": {"disks": {"system": {"source": "[remote] debian.qcow2"}}}}),
        ("POST", "/vms", {"name": "a", "config": {"disks": {"system": {"source": "[local] ../debian.qcow2"}}}}),
        ("POST", "/vms", {"name": "a", "config": {"disks": {"system": {"source": "[local] debian.qcow2"}}}}),
        ("POST", "/vms", {"name": "a", "config": {"disks": {"system": {"source": "[local] tiny.bin"}}}}),
        ("POST", "/vms", {"name": "a", "config": {"disks": {f"d{i}": {"size_bytes": 1 << 20} for i in range(17)}}}, "17 disks"),
        ("POST", "/vms", {"name": "a", "config": {"cdroms": {"cd": {"iso": "debian.iso"}}}}),
        ("POST", "/vms", {"name": "a", "config": {"nics": {"eth0": {"network": "lan"}}}}),
        ("POST", "/vms", {"name": "a", "config": {"nics": {"eth0": {"mac": "01:00:5e:00:00:01"}}}}),
        ("POST", "/vms", {"name": "a", "config": {"nics": {"eth0": {"forwards": [{"host_port": 0, "guest_port": 22}]}}}}),
        ("POST", "/vms", {"name": "a", "config": {"nics": {"eth0": {"forwards": [{"guest_port": 22}]}}}}),
        ("POST", "/vms", {"name": "a", "config": {"nics": {"eth0": {"forwards": [{"host_port": 2222, "guest_port": 22}]}}}}),
        ("PATCH", "/vms/real", {"config": {"disks": {"data": {"size_bytes": 1 << 20}}}}),
        ("PATCH", "/vms/real", {"config": {"disks": {"system": {"size_bytes": 1 << 30}}}}),
        ("POST", "/vms/real/disks", {"name": "system", "size_bytes": 1 << 20}), ("POST", "/vms/real/disks", {"name": "data"}),
        ("DELETE", "/vms/real/disks/data"), ("POST", "/vms/real/disks/system/grow", {"size_bytes": 1 << 19}),
        ("POST", "/vms/real/disks/system/grow", {"size_bytes": 3000000}), ("POST", "/vms/real/disks/system/grow")],
    "USB, memory, the agent, the host": [
        ("PATCH", "/vms/real", {"config": {"usb": {"stick": {}}}}), ("PATCH", "/vms/real", {"config": {"usb": {"stick": {"vendor": "0951"}}}}),
        ("PATCH", "/vms/real", {"config": {"usb": {"stick": {"vendor": "951", "product": "1666"}}}}),
        ("PATCH", "/vms/real", {"config": {"usb": {"stick": {"port": "left"}}}}),
        ("PATCH", "/vms/real", {"config": {"memory_bytes": 1 << 30, "memory_max_bytes": 1 << 29}}),
        ("PATCH", "/vms/real", {"config": {"memory_bytes": 1 << 44}}),
        ("PATCH", "/vms/real", {"config": {"startup": {"gate": "port"}}}),
        ("PATCH", "/vms/real", {"config": {"guest_agent": False, "startup": {"gate": "agent"}}}),
        ("PATCH", "/vms/real", {"config": {"shutdown": {"action": "kill"}}}), ("PATCH", "/vms/real", {"config": {"on_crash": "again"}}),
        ("POST", "/vms/real/guest/freeze"), ("POST", "/vms/web/guest/freeze"), ("POST", "/vms/web/guest/freeze", {"timeout_s": 3600}),
        ("POST", "/vms/web/guest/thaw"), ("POST", "/vms/real/guest/set-time"), ("POST", "/vms/real/suspend"),
        ("POST", "/vms/real/discard"), ("POST", "/vms/web/answer", {"choice": "retry"}), ("POST", "/vms/web/answer", {"choice": "yes"}),
        ("POST", "/host/maintenance", {"action": "sleep"}), ("DELETE", "/host/maintenance"), ("GET", "/host/doctor?deep=maybe"),
        ("POST", "/config", {}), ("POST", "/config", {"format": 99})],
    "Not now": [
        ("POST", "/vms", {"name": "web", "config": VM}), ("PATCH", "/vms/web", {"name": "real"}), ("POST", "/vms/web/start"), ("POST", "/vms/web/resume"),
        ("DELETE", "/vms/web"), ("POST", "/vms/real/shutdown"), ("PATCH", "/vms/web", {"config": {"engine": "qemu"}}),
        ("PATCH", "/vms/web", {"labels": {}}, 'with If-Match: "1"', {"If-Match": '"1"'}), ("DELETE", "/tasks/1"),
        ("POST", "/vms/web/console", {"kind": "screen"}), ("DELETE", "/datastores/local/files/tiny.bin"),
        ("DELETE", "/datastores/local/files/real/system.qcow2"), ("PUT", "/datastores/local/files/real/x", b"x"), ("PUT", "/datastores/local/files/tiny.bin", b"x"),
        ("PUT", "/datastores/local/files/iso/x.iso", b"x"), ("PUT", "/datastores/local/files/x.iso", b"x", "with a wrong Repr-Digest",
                                                              {"Repr-Digest": "sha-256=:" + "A" * 43 + "=:"}),
        ("PUT", "/datastores/local/files/x.iso", b"x", "with Upload-Offset: 5", {"Upload-Offset": "5"}),
        ("GET", "/datastores/local/files/tiny.bin", None, "with Range: bytes=9999-", {"Range": "bytes=9999-"})],
    "Users and tokens": [
        ("POST", "/users", {"name": "ada", "password": "short"}), ("POST", "/users", {"name": "admin"}), ("POST", "/users", {"name": "x", "role": "king"}),
        ("PATCH", "/users/admin", {"role": "viewer"}), ("DELETE", "/users/admin"), ("POST", "/tokens", {"name": "t", "user": "nobody"}),
        ("POST", "/tokens", {"name": "t", "user": "vic", "expires": "2001-01-01T00:00:00Z"}), ("POST", "/session", {"name": "admin", "password": "wrong"}),
        ("POST", "/session/password", {"old": "a", "new": "abcdefgh"})],
    "As a viewer": [("POST", "/vms/web/poweroff"), ("GET", "/users"), ("POST", "/vms", {"name": "x"}), ("POST", "/tokens", {"name": "t", "user": "admin"})],
    "As nobody": [("GET", "/vms"), ("POST", "/vms/web/start")],
}


def describe(method, path, body=None, note=None, headers=None):
    text = f"{method} {path}"
    if isinstance(body, bytes):
        shown = body if len(body) < 100 else b""
        text += f" {shown.decode(errors='backslashreplace')}" if shown and "files" not in path else ""
    elif body is not None and not (note and len(json.dumps(body)) > 300):
        text += f" {json.dumps(body)}"
    return f"`{text}`" + (f", {note}" if note else "")


def answer_of(client, method, path, body=None, note=None, headers=None):
    headers = {"Prefer": "wait=30", **(headers or {})}
    if isinstance(body, bytes) and "files" not in path:
        headers.setdefault("Content-Type", "application/json")
    answer = client.request(method, path, body, headers)
    assert answer.status >= 400, f"{method} {path} {body}: {answer}"
    return answer.json


def stable(text):
    """Without what is another one each time."""
    return re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}", "UUID", text)


def test_messages(croft):
    api = croft.client()
    tiny.upload(api)
    api.post("/vms", {"name": "web", "config": {**VM, "display": "none"}, "start": True})
    api.wait_state("web", "running")
    api.post("/users", {"name": "vic", "role": "viewer"}, Idempotency_Key="used")
    api.ok("PATCH", "/vms/web", {"labels": {"a": "b"}})
    api.post("/vms", {"name": "real", "config": tiny.config(disks={"system": {"size_bytes": 1 << 20}},
                                                          nics={"net0": {"forwards": [{"host_port": 2222, "guest_port": 22}]}})})
    who = {"As nobody": croft.client(tls=True),
           "As a viewer": croft.client(tls=True, token=api.post("/tokens", {"name": "t", "user": "vic"})["secret"])}
    lines, poor = [INTRO], []
    for chapter, requests in CHAPTERS.items():
        lines.append(f"\n## {chapter}\n")
        for request in requests:
            problem = answer_of(who.get(chapter, api), *request)
            at = [e["pointer"] for e in problem.get("errors", ()) if e["pointer"]]
            lines.append(f"{describe(*request)}  \n{problem['status']} {problem['type'].rpartition('/')[2]}{' at ' + at[0] if at else ''}: "
                         f"{stable(problem['detail'])}" + (f"  \n→ {stable(problem['hint'])}" if "hint" in problem else "") + "\n")
            if not 15 <= len(problem["detail"]) <= 300 or problem["detail"].endswith(".") or problem["status"] == 500:
                poor.append(lines[-1])
            if problem["status"] in (401, 403, 404, 405, 409, 412, 415) and "hint" not in problem:
                poor.append(lines[-1])
    text = "\n".join(lines)
    if os.environ.get("GOLDEN_ACCEPT"):
        with open(GOLDEN, "w", encoding="utf-8") as f:
            f.write(text)
    with open(GOLDEN, encoding="utf-8") as f:
        golden = f.read()
    assert text == golden, "\n".join(difflib.unified_diff(golden.splitlines(), text.splitlines(), "golden", "now", lineterm="", n=1))
    assert not poor, "these say too little, or not the way out:\n" + "\n".join(poor)
