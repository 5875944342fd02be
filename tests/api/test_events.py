"""Events: numbered, kept, replayed. Followers (SSE) see all of them in order whatever others do; scripts poll."""
import contextlib
import itertools
import json
import os
import socket
import sqlite3
import threading
import time
import uuid

import pytest
from croft import SLOW, wait_for


@pytest.fixture
def name():
    return "e" + uuid.uuid4().hex[:8]


def sim(name):
    return {"name": name, "config": {"engine": "sim"}}


def until(stream, wanted):
    """Events up to the first for which wanted(data) is true."""
    seen = []
    for number, kind, data in stream:
        seen.append((int(number), kind, data))
        if kind == "reset" or wanted(data):
            return seen
    raise AssertionError(f"the stream ended after {seen[-3:]}")


def kept(api, after=0, query=""):
    """All events that are kept, by the list."""
    found = []
    while page := api.get(f"/events?after={after}&limit=1000{query}"):
        if not page["items"]:
            return found
        found, after = found + page["items"], page["next"]


def newest(api):
    events = kept(api)
    return events[-1]["seq"] if events else 0


def test_what_a_change_tells(api, name):
    after = newest(api)
    vm = api.post("/vms", sim(name))
    api.ok("PATCH", f"/vms/{name}", {"labels": {"a": "b"}})
    api.ok("DELETE", f"/vms/{name}")
    events = kept(api, after)
    assert [e["kind"] for e in events if e["kind"].startswith("vm.")] == ["vm.created", "vm.changed", "vm.changed", "vm.deleted"]
    assert {"task.created", "task.finished"} <= {e["kind"] for e in events}
    assert {e["target"] for e in events} == {vm["id"]} and {e["user"] for e in events} == {"root"}
    assert all(a["seq"] + 1 == b["seq"] for a, b in zip(events, events[1:]) if b["kind"] == "task.finished" and a["kind"] == "vm.changed")
    changed = [e["data"] for e in events if e["kind"] == "vm.changed"]
    assert [c["labels"] for c in changed] == [{}, {"a": "b"}] and changed[-1]["name"] == name
    finished = [e["data"] for e in events if e["kind"] == "task.finished"]
    assert [t["state"] for t in finished] == ["done", "done"] and [t["kind"] for t in finished] == ["vm.create", "vm.delete"]


def test_the_order_is_the_order_of_things(api, name):
    """created before its task's end; running before the start's end; numbers only grow."""
    after = newest(api)
    api.post("/vms", {**sim(name), "start": True})
    api.wait_state(name, "running")
    api.get(f"/tasks/{next(t['id'] for t in api.items('/tasks') if t['kind'] == 'vm.start')}", Prefer="wait=10")
    events = kept(api, after)
    assert [e["seq"] for e in events] == sorted({e["seq"] for e in events})
    at = {(e["kind"], (e["data"] or {}).get("kind", (e["data"] or {}).get("status", {}).get("state"))): i for i, e in enumerate(events)}
    assert at["vm.created", "off"] < at["task.finished", "vm.create"] < at["task.finished", "vm.start"]
    first = next(i for i, e in enumerate(events) if e["kind"] == "vm.changed" and e["data"]["status"]["state"] == "running")
    assert first < at["vm.changed", "running"] == at["task.finished", "vm.start"] - 1
    assert events[first]["data"]["status"]["task"] > 0 == events[at["vm.changed", "running"]]["data"]["status"]["task"]


def test_a_stream_starts_now_and_goes_on(croft, api, name):
    with contextlib.closing(croft.client().events()) as stream:
        api.post("/vms", sim(name))
        seen = until(stream, lambda e: e["kind"] == "task.finished")
    assert [k for _, k, _ in seen][0] == "vm.created" and all(d["seq"] == n and d["kind"] == k for n, k, d in seen)


def test_replay_from_the_last_id(croft, api, name):
    vm = api.post("/vms", sim(name))
    mine = [e["seq"] for e in kept(api) if e["target"] == vm["id"]]
    api.ok("DELETE", f"/vms/{name}")
    with contextlib.closing(croft.client().events(after=mine[0])) as stream:
        seen = until(stream, lambda e: e["kind"] == "task.finished" and e["data"]["kind"] == "vm.delete")
    assert [n for n, _, _ in seen] == [e["seq"] for e in kept(api, mine[0])][:len(seen)] and seen[0][0] == mine[0] + 1
    # The same by the query, for clients that can't set headers.
    with contextlib.closing(croft.client().events(query=f"?after={mine[0]}")) as stream:
        assert next(stream)[0] == str(mine[0] + 1)


def test_kinds(croft, api, name):
    after = newest(api)
    api.post("/vms", sim(name))
    assert {e["kind"] for e in kept(api, after, "&kinds=vm.*")} == {"vm.created", "vm.changed"}
    assert {e["kind"] for e in kept(api, after, "&kinds=vm.created,task.finished")} == {"vm.created", "task.finished"}
    assert kept(api, after, "&kinds=host.*") == []
    with contextlib.closing(croft.client().events(after=after, query="?kinds=task.finished")) as stream:
        assert next(stream)[1] == "task.finished"


def test_long_poll(croft, api, name):
    after = newest(api)
    assert api.get(f"/events?after={after}&wait=0")["items"] == []
    answers = []
    thread = threading.Thread(target=lambda: answers.append(croft.client().get(f"/events?after={after}&wait=60&kinds=vm.*")))
    thread.start()
    api.get(f"/events?after={after}&wait=1&kinds=nothing")     # it has surely begun to wait
    api.post("/vms", sim(name))
    thread.join(10 * SLOW)
    assert [e["kind"] for e in answers[0]["items"]] == ["vm.created"] and answers[0]["next"] > after
    page = api.get(f"/events?after={after}&wait=60")           # what is there already is not waited for
    assert page["items"] and page["next"] == page["items"][-1]["seq"]


def test_a_poll_that_ends_without_events(api):
    after = newest(api)
    page = api.get(f"/events?after={after}&wait=1")
    assert page["items"] == [] and page["next"] == after


def test_a_poller_that_leaves(croft, api, name):
    """It is forgotten, and the next event harms nobody."""
    after = newest(api)
    for _ in range(10):
        sock = croft.client().raw_socket()
        sock.sendall(f"GET /api/v1/events?after={after}&wait=60 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        sock.close()
    api.post("/vms", sim(name))
    assert api.get(f"/events?after={after}&wait=10")["items"]


def follow_all(croft, count, start):
    """A follower in a thread of its own: what it sees until 'the end' is labelled somewhere."""
    seen = []

    def run():
        with contextlib.closing(croft.client().events(after=start)) as stream:
            seen.extend(until(stream, lambda e: e["kind"] == "vm.changed" and "the-end" in e["data"]["labels"]))
    thread = threading.Thread(target=run)
    thread.start()
    return thread, seen


def test_two_hundred_changes_at_once_and_several_followers(croft, api, name):
    api.post("/vms", sim(name))
    start = newest(api)
    followers = [follow_all(croft, i, start) for i in range(6)]

    def change(i):
        client = croft.client()
        for k in range(20):
            client.ok("PATCH", f"/vms/{name}", {"labels": {f"l{i}": str(k)}})
    threads = [threading.Thread(target=change, args=(i,)) for i in range(10)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    api.ok("PATCH", f"/vms/{name}", {"labels": {"the-end": "1"}})
    expected = [(e["seq"], e["kind"]) for e in kept(api, start)]
    assert len(expected) >= 201
    for thread, seen in followers:
        thread.join(30 * SLOW)
        assert [(n, k) for n, k, _ in seen] == expected[:len(seen)] and len(seen) == len(expected)
    # Each event of a VM shows it one revision further.
    revisions = [d["data"]["revision"] for _, k, d in followers[0][1] if k == "vm.changed"]
    assert revisions == list(range(2, 203))


def test_one_that_does_not_read_holds_nobody_up(croft, api, name):
    """Its socket is full for long; the others see everything; it itself gets all, or is told to begin anew."""
    api.post("/vms", sim(name))
    start = newest(api)
    lazy = croft.client().raw_socket()
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.sendall(f"GET /api/v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nLast-Event-ID: {start}\r\n\r\n".encode())
    thread, seen = follow_all(croft, 0, start)
    big = {f"label-{i}": "x" * 250 for i in range(40)}
    for i in range(300):                       # 10 KB each: more than the front keeps for one audience
        api.ok("PATCH", f"/vms/{name}", {"labels": {**big, "i": str(i)}})
    api.ok("PATCH", f"/vms/{name}", {"labels": {"the-end": "1"}})
    thread.join(60 * SLOW)
    assert [n for n, _, _ in seen] == [e["seq"] for e in kept(api, start)]
    text = b""
    lazy.settimeout(30 * SLOW)
    while b"the-end" not in text and b"event: reset" not in text:
        part = lazy.recv(65536)
        assert part, text[-200:]
        text += part
    numbers = [int(line[4:]) for line in text.split(b"\n") if line.startswith(b"id: ")]
    if b"event: reset" not in text:
        assert numbers == list(range(start + 1, start + 1 + len(numbers)))
    lazy.close()


def test_an_event_that_is_large(croft, api, name):
    """Larger than a message of the door: it comes all the same, and at once."""
    api.ok("POST", "/vms", sim(name), Prefer="wait=10")
    labels = {f"{i:02}-{'k' * 50}": "v" * 255 for i in range(60)}
    config = {"description": "d" * 1000, "nics": {f"nic{i}": {"forwards": [
        {"host_port": 20000 + i * 40 + k, "guest_port": 22, "host_address": "127.100.100.100"} for k in range(32)]} for i in range(8)}}
    got, start = [], newest(api)

    def run():
        with contextlib.closing(croft.client().events(after=start - 1, query="?kinds=vm.*,task.*")) as stream:
            for number, kind, data in stream:
                got.append((number, kind, data))
                if kind == "vm.changed":
                    return
    thread = threading.Thread(target=run)
    thread.start()
    wait_for("it follows", lambda: got)
    api.ok("PATCH", f"/vms/{name}", {"labels": labels, "config": config})
    thread.join(10 * SLOW)
    assert got[-1][1] == "vm.changed" and got[-1][2]["data"]["labels"] == labels, got
    assert len(json.dumps(got[-1][2])) > 40000


def test_who_may_see_what(croft, api, name):
    """A viewer sees VMs, tasks and datastores, but nothing about users; not in the list, the poll or the stream."""
    api.post("/users", {"name": name, "role": "viewer"})
    token = api.post("/tokens", {"name": "t", "user": name})["secret"]
    viewer, after = croft.client(tls=True, token=token), newest(api)
    api.post("/users", {"name": name + "2"})
    api.post("/vms", sim(name))
    assert "user.created" in {e["kind"] for e in kept(api, after)}
    assert {e["kind"].partition(".")[0] for e in kept(viewer, after)} == {"vm", "task"}
    with contextlib.closing(croft.client(tls=True, token=token).events(after=after)) as stream:
        seen = until(stream, lambda e: e["kind"] == "task.finished")
    assert {k.partition(".")[0] for _, k, _ in seen} == {"vm", "task"}
    assert viewer.get(f"/events?after={after}&kinds=user.*")["items"] == []


def test_a_token_that_is_revoked_ends_its_streams(croft, api, name):
    api.post("/users", {"name": name, "role": "viewer"})
    token = api.post("/tokens", {"name": "t", "user": name})
    ended = threading.Event()

    def run():
        for _ in croft.client(tls=True, token=token["secret"]).events(after=0):
            pass
        ended.set()
    thread = threading.Thread(target=run)
    thread.start()
    assert not ended.wait(0.2)
    api.ok("DELETE", f"/tokens/{token['id']}")
    assert ended.wait(10 * SLOW), "it goes on following"
    thread.join()


def test_numbers_that_are_none(api):
    for bad in ("x", "-1", "1.5", "18446744073709551616"):
        api.problem(400, "GET", "/events", None, Accept="text/event-stream", Last_Event_ID=bad)
    api.problem(400, "GET", "/events?limit=9999")
    api.problem(400, "GET", "/events?wait=9999")


def test_a_number_from_another_home(croft, api):
    """Of a host that was set up anew, say: the follower is told to begin anew, not left waiting for ever."""
    page = api.get("/events?after=999999999")
    assert page["reset"] and page["items"] == [] and page["next"] < 999999999
    assert api.get("/events?after=999999999&wait=60")["reset"]
    with contextlib.closing(croft.client().events(after=999999999)) as stream:
        number, kind, data = next(stream)
        assert kind == "reset" and int(number) == data["seq"] <= page["next"] + 1


def insert(croft, count, seconds):
    """Events of the past, into the database of a croftd that does not run."""
    with contextlib.closing(sqlite3.connect(f"{croft.home}/croft.db")) as db, db:
        db.executemany("INSERT INTO events (time, kind, target, user, data) VALUES (?, 'host.tested', '', 'croft', ?)",
                       ((int((time.time() - seconds) * 1e6), json.dumps({"i": i})) for i in range(count)))


def test_more_than_are_kept(fresh):
    """Ten thousand events are kept."""
    api = fresh.client()
    api.post("/vms", sim("old"))
    fresh.end()
    insert(fresh, 12000, 60)
    fresh.start()
    api = fresh.client()
    for i in range(100):        # one of these prunes
        api.ok("PATCH", "/vms/old", {"labels": {"i": str(i)}})
    first = api.get("/events?after=0&limit=1")
    assert first["reset"] and 1 < newest(api) - first["items"][0]["seq"] - 10000 < 100
    with contextlib.closing(fresh.client().events(after=1)) as stream:
        number, kind, data = next(stream)
        assert kind == "reset" and data["seq"] == int(number) > 12000
        api.ok("PATCH", "/vms/old", {"labels": {"i": "after"}})
        assert int(next(stream)[0]) == int(number) + 1
    # From where the list began it goes on without a gap.
    numbers = [e["seq"] for e in itertools.chain(*[kept(api, first["items"][0]["seq"])])]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_older_than_are_kept(fresh):
    """Thirty days; what is gone is the oldest without a hole, though the clock was wrong for a while."""
    day = 24 * 3600
    api = fresh.client()
    api.post("/vms", sim("old"))
    fresh.end()
    with contextlib.closing(sqlite3.connect(f"{fresh.home}/croft.db")) as db, db:
        db.execute("UPDATE events SET time = 1")
    insert(fresh, 50, 31 * day)
    insert(fresh, 50, 29 * day)
    insert(fresh, 50, 20000 * day)              # before the clock was set
    fresh.start()
    api = fresh.client()
    old = newest(api)
    for i in range(100):
        api.ok("PATCH", "/vms/old", {"labels": {"i": str(i)}})
    page = api.get("/events?after=1&limit=1000")
    assert page["reset"]
    seqs = [e["seq"] for e in page["items"]]
    assert seqs == list(range(seqs[0], newest(api) + 1)) and seqs[0] <= old - 99
    assert [e["data"]["i"] for e in page["items"] if e["kind"] == "host.tested"] == [*range(50), *range(50)]


def test_events_outlive_the_daemon_and_its_front(fresh):
    api = fresh.client()
    api.post("/vms", sim("vm"))
    mark = newest(api)
    api.ok("PATCH", "/vms/vm", {"labels": {"a": "1"}})
    before = kept(api)
    fresh.kill()
    fresh.start()
    api = fresh.client()
    assert kept(api)[:len(before)] == before
    api.ok("PATCH", "/vms/vm", {"labels": {"a": "2"}})
    with contextlib.closing(fresh.client().events(after=mark)) as stream:
        seen = until(stream, lambda e: e["kind"] == "vm.changed" and e["data"]["labels"] == {"a": "2"})
    assert [n for n, _, _ in seen] == list(range(mark + 1, mark + 1 + len(seen)))


def test_a_thousand_followers_come_and_go(croft, api, name):
    """Descriptors and audiences are given back."""
    def count():
        return len(list(os.scandir(f"/proc/{croft.process.pid}/fd")))
    api.post("/vms", sim(name))
    before = count()
    for i in range(200):
        streams = [croft.client().raw_socket() for _ in range(5)]
        for k, s in enumerate(streams):
            s.sendall(f"GET /api/v1/events?kinds=vm.*,{'abcde'[k]}{i % 7} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n".encode())
        for s in streams:
            s.close()
    wait_for("descriptors are closed", lambda: count() <= before + 5)
    with contextlib.closing(croft.client().events(after=0)) as stream:
        assert next(stream)
