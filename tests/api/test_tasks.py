"""Tasks: listed, waited for, cancelled, told when they fail. The one that can be held is the copying of a large disk."""
import contextlib
import os
import subprocess
import threading
import uuid

import pytest
import tiny
from croft import wait_for


@pytest.fixture
def name():
    return "t" + uuid.uuid4().hex[:8]


@pytest.fixture(scope="module")
def large(croft):
    """A raw image that takes seconds to be copied into a qcow2 disk."""
    path = f"{croft.home}/datastores/local/large.img"
    with open(path, "wb") as f:
        for _ in range(1024):
            f.write(os.urandom(1 << 20))
    return "[local] large.img"


@pytest.fixture
def copying(api, name, large):
    """The task of a creation that is in the midst of its disks."""
    task = api.request("POST", "/vms", {"name": name, "config": tiny.config(disks={"system": {"source": large}})}).json
    wait_for("it copies", lambda: api.get(f"/tasks/{task['id']}")["step"] == "make the disks")
    return task


@pytest.fixture(scope="module", autouse=True)
def guest(croft):
    tiny.upload(croft.client())


def test_a_task_from_its_begin_to_its_end(api, name):
    answer = api.request("POST", "/vms", {"name": name, "config": tiny.config()})
    assert answer.status == 202 and answer.json["state"] == "running" and answer.json["finished"] is None
    assert answer.json["user"] == "root" and answer.json["target_name"] == name
    task = api.get(answer.headers["Location"], Prefer="wait=30")
    assert task["state"] == "done" and task["progress"] == 100 and task["step"] is None and task["error"] is None
    assert task["created"] <= task["finished"] and not task["cancellable"]
    assert api.get(f"/tasks/{task['id']}") == task


def test_list_newest_first_page_after_page(api, name):
    vm = api.post("/vms", {"name": name, "config": {"engine": "sim"}})
    for verb in ("start", "pause", "resume", "poweroff"):
        api.post(f"/vms/{name}/{verb}")
    kinds = ["vm.poweroff", "vm.resume", "vm.pause", "vm.start", "vm.create"]
    assert [t["kind"] for t in api.items(f"/tasks?target={name}")] == kinds
    assert [t["kind"] for t in api.items(f"/tasks?target={vm['id']}&limit=2")] == kinds
    assert api.items(f"/tasks?target={name}&state=running") == []
    assert len(api.items(f"/tasks?target={name}&state=done")) == 5
    numbers = [t["id"] for t in api.items("/tasks?limit=3")]
    assert numbers == sorted(numbers, reverse=True) and len(numbers) == len(set(numbers))
    api.ok("DELETE", f"/vms/{name}")
    assert [t["kind"] for t in api.items(f"/tasks?target={name}")] == ["vm.delete", *kinds]     # it outlives its object


def test_a_state_that_is_none(api):
    assert "running" in api.problem(400, "GET", "/tasks?state=asleep")["hint"]


@pytest.mark.parametrize("number", ["0", "999999999", "x", "-1", "99999999999999999999"])
def test_no_such_task(api, number):
    assert api.problem(404, "GET", f"/tasks/{number}")["hint"]
    assert api.request("DELETE", f"/tasks/{number}").status == 404


def test_progress_grows(api, copying):
    seen = []

    def done():
        task = api.get(f"/tasks/{copying['id']}")
        seen.append(task["progress"])
        return task["state"] == "done"
    wait_for("it is copied", done, 60)
    assert seen == sorted(seen) and len(set(seen)) > 2, seen


def test_bytes_and_rate(api, copying):
    seen = []

    def done():
        task = api.get(f"/tasks/{copying['id']}")
        seen.append((task["done_bytes"], task["total_bytes"], task["bytes_per_s"]))
        return task["state"] == "done"
    wait_for("it is copied", done, 60)
    moving = [s for s in seen if s[1]]
    assert {total for _, total, _ in moving} == {1 << 30} and all(0 <= done <= total for done, total, _ in moving)
    assert [s[0] for s in moving] == sorted(s[0] for s in moving) and max(rate for _, _, rate in moving) > 1 << 20
    assert seen[-1] == (0, 0, 0)                        # nothing is moved any more


def test_progress_passes_those_who_follow(croft, api, name, large):
    """Without a number, and kept nowhere; who wants other kinds is spared."""
    with contextlib.closing(croft.client().events(passing=True)) as all_, \
            contextlib.closing(croft.client().events(query="?kinds=task.finished", passing=True)) as ends:
        task = api.request("POST", "/vms", {"name": name, "config": tiny.config(disks={"system": {"source": large}})}).json
        seen = []
        for number, kind, event in all_:
            if kind == "task.progress" and event["target"] == task["target"]:
                assert number is None and "seq" not in event and event["data"]["id"] == task["id"]
                seen.append(event["data"]["progress"])
            if kind == "task.finished" and event["target"] == task["target"]:
                break
        assert seen and seen == sorted(seen)
        assert next(ends)[1] == "task.finished"
    assert not [e for e in api.get("/events?kinds=task.progress")["items"]]


def test_cancel_undoes_all(croft, api, name, copying):
    answer = api.request("DELETE", f"/tasks/{copying['id']}", None, {"Prefer": "wait=30"})
    assert answer.status == 200, answer
    assert answer.json["state"] == "cancelled" and answer.json["error"]["type"] == "/problems/cancelled"
    assert api.request("GET", f"/vms/{name}").status == 404
    assert not os.path.exists(f"{croft.home}/datastores/local/{name}")

    def children():
        return subprocess.run(["ps", "-o", "args=", "--ppid", str(croft.process.pid)], stdout=subprocess.PIPE, check=False).stdout
    wait_for("qemu-img is gone, and buried", lambda: b"qemu-img" not in children())
    problem = api.problem(409, "DELETE", f"/tasks/{copying['id']}")
    assert "is over: it is cancelled" in problem["detail"] and problem["hint"]


def test_who_waits_for_a_creation_that_is_cancelled_is_told(croft, api, name, large):
    answers = []
    thread = threading.Thread(target=lambda: answers.append(croft.client().request(
        "POST", "/vms", {"name": name, "config": tiny.config(disks={"system": {"source": large}})}, {"Prefer": "wait=60"})))
    thread.start()
    task = wait_for("its task", lambda: api.items(f"/tasks?target={name}"))[0]
    api.ok("DELETE", f"/tasks/{task['id']}")
    thread.join()
    assert answers[0].status == 409 and answers[0].json["type"] == "/problems/cancelled" and answers[0].json["task"] == task["id"]


def test_the_rest_goes_on_while_a_disk_is_copied(api, name, copying):
    api.post("/vms", {"name": name + "b", "config": {"engine": "sim"}, "start": True})
    api.wait_state(name + "b", "running")
    assert api.get(f"/vms/{name}")["status"]["task"] == copying["id"]
    assert api.get("/datastores/local/files")["items"]
    assert api.get(f"/tasks/{copying['id']}")["state"] == "running"
    api.ok("DELETE", f"/tasks/{copying['id']}")


def test_a_second_task_is_refused_and_told_of_the_first(api, name, copying):
    """Every route that changes a VM; one that wants a body that says more may refuse the empty one first."""
    paths = api.get("/openapi.json")["paths"]
    routes = [(verb.upper(), path, op) for path, ops in paths.items() if path.startswith("/api/v1/vms/{vm}") for verb, op in ops.items()
              if verb != "get" and op["operationId"] not in ("console_create",) and "{" not in path.replace("{vm}", "", 1)]
    assert len(routes) >= 9
    for method, path, op in routes:
        answer = api.request(method, path.replace("{vm}", name), {} if "requestBody" in op else None)
        if answer.status == 422 and "requestBody" in op:
            continue
        assert answer.status == 409 and answer.json["type"] == "/problems/busy", (method, path, answer)
        assert answer.json["task"] == copying["id"] and f"{name} is held by the task {copying['id']} (vm.create)" in answer.json["detail"]
        assert "wait" in answer.json["hint"]
    assert api.get(f"/tasks/{copying['id']}")["state"] == "running"
    api.ok("DELETE", f"/tasks/{copying['id']}")


def test_some_tasks_cannot_be_cancelled(api, name):
    api.post("/vms", {"name": name, "config": {"engine": "sim"}})
    api.post(f"/vms/{name}/start")
    task = api.items(f"/tasks?target={name}")[0]
    problem = api.problem(409, "DELETE", f"/tasks/{task['id']}")
    assert str(task["id"]) in problem["detail"] and problem["hint"]


def test_a_task_that_fails_says_why_and_leaves_nothing(croft, api, name):
    answer = api.request("POST", "/vms", {"name": name, "config": tiny.config(disks={"system": {"source": "[local] tiny.bin"}})},
                         {"Prefer": "wait=30"})
    assert answer.status >= 400 and answer.json["task"], answer
    task = api.get(f"/tasks/{answer.json['task']}")
    assert task["state"] == "failed" and task["error"]["detail"] == answer.json["detail"]
    assert api.request("GET", f"/vms/{name}").status == 404
    assert not os.path.exists(f"{croft.home}/datastores/local/{name}")
    assert name not in str(api.items("/vms"))


def test_what_a_viewer_may(croft, api, name):
    api.post("/users", {"name": name, "role": "viewer"})
    viewer = croft.client(tls=True, token=api.post("/tokens", {"name": "t", "user": name})["secret"])
    task = viewer.get("/tasks?limit=1")["items"][0]
    assert viewer.get(f"/tasks/{task['id']}") == task
    assert viewer.problem(403, "DELETE", f"/tasks/{task['id']}")["permission"] == "vm.power"
