"""VMs through the API: made, found, changed, driven, deleted. They are simulated, but for one that hears nothing."""
import contextlib
import sqlite3
import threading
import uuid

import pytest
import tiny
from croft import wait_for


@pytest.fixture
def name():
    """A name that no other test has."""
    return "v" + uuid.uuid4().hex[:8]


def sim(name, **more):
    return {"name": name, **more, "config": {"engine": "sim", **more.get("config", {})}}


@pytest.fixture
def vm(api, name):
    return api.post("/vms", sim(name))


@pytest.fixture(scope="module")
def deaf(croft):
    """A guest that hears no power button: firmware, and nothing to boot."""
    api = croft.client()
    api.post("/vms", {"name": "deaf", "config": {"memory_bytes": 256 << 20, "display": "none"}})
    api.post("/vms/deaf/start")
    yield "deaf"
    api.post("/vms/deaf/poweroff")


# ---- create, find, list

def test_create_answers_when_it_is_done(api, name):
    answer = api.request("POST", "/vms", sim(name, labels={"team": "red"}), {"Prefer": "wait=60"})
    assert answer.status == 201, answer
    vm = answer.json
    assert answer.headers["Location"] == f"/api/v1/vms/{vm['id']}" and answer.etag == '"1"'
    assert vm["name"] == name and vm["labels"] == {"team": "red"} and vm["status"]["state"] == "off" and vm["revision"] == 1
    assert api.vm(name) == api.get(f"/vms/{vm['id']}") == vm
    assert uuid.UUID(vm["id"])


def test_create_without_waiting_answers_with_its_task(api, name):
    answer = api.request("POST", "/vms", sim(name))
    assert answer.status == 202, answer
    task = answer.json
    assert answer.headers["Location"] == f"/api/v1/tasks/{task['id']}" and task["kind"] == "vm.create"
    done = api.get(f"/tasks/{task['id']}", Prefer="wait=10")
    assert done["state"] == "done" and done["target"] == api.vm(name)["id"] and done["target_name"] == name


def test_create_and_start(api, name):
    api.post("/vms", sim(name, start=True))
    api.wait_state(name, "running")


def test_a_name_is_taken_once(api, name):
    api.post("/vms", sim(name))
    problem = api.problem(409, "POST", "/vms", sim(name))
    assert problem["type"] == "/problems/name-taken" and problem["errors"][0]["pointer"] == "/name"


def test_twenty_at_once_for_one_name(croft, name):
    statuses = []

    def create():
        statuses.append(croft.client().request("POST", "/vms", sim(name), {"Prefer": "wait=30"}).status)
    threads = [threading.Thread(target=create) for _ in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(statuses) == [201] + [409] * 19


@pytest.mark.parametrize("bad", ["", "-x", ".x", "a b", "a/b", "x" * 64, "ä", str(uuid.uuid4()), "a\n"])
def test_names_that_are_none(api, bad):
    problem = api.problem(422, "POST", "/vms", sim(bad))
    assert problem["errors"][0]["pointer"] == "/name"


def test_get_of_none_says_which_one_may_be_meant(api, name):
    api.post("/vms", sim(name))
    assert api.problem(404, "GET", f"/vms/{name[:-1]}")["hint"] == f"did you mean {name}?"
    assert "did you mean" not in api.problem(404, "GET", "/vms/q")["hint"]


def test_list_filters(api, name):
    for i, colour in enumerate(("red", "blue", "red")):
        api.post("/vms", sim(f"{name}-{i}", labels={"colour": colour, "test": name}, start=i == 2))
    api.wait_state(f"{name}-2", "running")

    def names(query):
        return [vm["name"] for vm in api.items(f"/vms?{query}")]
    all_three = [f"{name}-{i}" for i in range(3)]
    assert names(f"name={name}*") == names(f"label=test:{name}") == all_three
    assert names(f"name={name}-1") == all_three[1:2]
    assert names(f"label=colour:red&name={name}*") == [all_three[0], all_three[2]]
    assert names(f"label=colour&label=test&name={name}*") == all_three
    assert names(f"label=nothing&name={name}*") == []
    assert names(f"state=running&name={name}*") == all_three[2:]
    assert names(f"state=off,running&name={name}*") == all_three
    assert names(f"state=paused&name={name}*") == []


def test_a_state_that_is_none(api):
    problem = api.problem(400, "GET", "/vms?state=off,asleep")
    assert "asleep" in problem["detail"] and "running" in problem["hint"]


def test_list_page_after_page(api, name):
    for i in range(7):
        api.post("/vms", sim(f"{name}-{i}"))
    pages, after = [], ""
    while after is not None:
        page = api.get(f"/vms?name={name}*&limit=3" + (f"&after={after}" if after else ""))
        pages.append([vm["name"] for vm in page["items"]])
        after = page["next"]
    assert [n for page in pages for n in page] == [f"{name}-{i}" for i in range(7)]
    assert [len(page) for page in pages][:2] == [3, 3]


def test_a_cursor_holds_while_vms_come_and_go(api, name):
    for i in "bdf":
        api.post("/vms", sim(f"{name}-{i}"))
    page = api.get(f"/vms?name={name}*&limit=1")
    api.ok("DELETE", f"/vms/{name}-b")
    api.post("/vms", sim(f"{name}-a"))
    api.post("/vms", sim(f"{name}-c"))
    rest = api.items(f"/vms?name={name}*&after={page['next']}")
    assert [vm["name"][-1] for vm in rest] == ["c", "d", "f"]


# ---- change

def test_patch_merges(api, name):
    vm = api.post("/vms", sim(name, labels={"a": "1", "b": "2"}, config={"cpus": 2, "description": "old"}))
    answer = api.request("PATCH", f"/vms/{name}", {"labels": {"a": None, "c": "3"}, "config": {"description": "new"}})
    assert answer.status == 200 and answer.etag == '"2"', answer
    now = answer.json
    assert now["labels"] == {"b": "2", "c": "3"} and now["config"]["description"] == "new" and now["config"]["cpus"] == 2
    assert now["revision"] == 2 and now["id"] == vm["id"] and api.vm(name) == now
    now = api.ok("PATCH", f"/vms/{name}", {"labels": None, "config": {"cpus": None, "nics": {"eth0": {}}}})
    assert now["labels"] == {} and now["config"]["cpus"] == 1 and now["config"]["nics"]["eth0"]["mac"]
    mac = now["config"]["nics"]["eth0"]["mac"]
    now = api.ok("PATCH", f"/vms/{name}", {"config": {"nics": {"eth0": {"model": "e1000e"}, "eth1": {}}}})
    assert now["config"]["nics"]["eth0"]["mac"] == mac and len(now["config"]["nics"]) == 2
    now = api.ok("PATCH", f"/vms/{name}", {"config": {"nics": {"eth0": None}}})
    assert list(now["config"]["nics"]) == ["eth1"]


def test_what_is_fixed_at_creation_stays(api, vm, name):
    for config in ({"machine": "virt-7.1"}, {"engine": "qemu"}, {"cpu_model": "max"}, {"gic": "2"}):
        problem = api.problem(422, "PATCH", f"/vms/{name}", {"config": config})
        assert problem["errors"][0]["pointer"] == f"/config/{next(iter(config))}"
    assert api.vm(name) == vm


def test_rename(api, vm, name):
    now = api.ok("PATCH", f"/vms/{name}", {"name": name + "-new"})
    assert now["name"] == name + "-new" and now["id"] == vm["id"]
    assert api.request("GET", f"/vms/{name}").status == 404
    assert api.vm(vm["id"]) == api.vm(name + "-new") == now
    api.post("/vms", sim(name))
    problem = api.problem(409, "PATCH", f"/vms/{name}", {"name": name + "-new"})
    assert problem["type"] == "/problems/name-taken"


def test_revisions(api, vm, name):
    stale, now = '"1"', '"2"'
    assert api.request("PATCH", f"/vms/{name}", {"config": {"cpus": 2}}, {"If-Match": stale}).status == 200
    problem = api.problem(412, "PATCH", f"/vms/{name}", {"config": {"cpus": 4}}, If_Match=stale)
    assert problem["type"] == "/problems/revision-mismatch" and '"2"' in problem["detail"]
    assert api.problem(412, "POST", f"/vms/{name}/start", None, If_Match=stale)
    assert api.problem(412, "DELETE", f"/vms/{name}", None, If_Match=stale)
    assert api.vm(name)["config"]["cpus"] == 2
    assert api.request("PATCH", f"/vms/{name}", {"config": {"cpus": 3}}, {"If-Match": "*"}).status == 200
    assert api.request("GET", f"/vms/{name}", None, {"If-None-Match": '"3"'}).status == 304
    assert api.request("GET", f"/vms/{name}", None, {"If-None-Match": now}).status == 200


def test_a_hundred_changes_at_once_lose_none(croft, api, vm, name):
    def change(first):
        client = croft.client()
        for i in range(first, first + 10):
            client.ok("PATCH", f"/vms/{name}", {"labels": {f"l{i % 60}": str(i)}})
    threads = [threading.Thread(target=change, args=(i * 10,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    now = api.vm(name)
    assert now["labels"] == {f"l{i}": str(i) for i in range(60)} and now["revision"] == 61


def test_only_one_of_many_wins_a_revision(croft, vm, name):
    statuses = []

    def change(i):
        statuses.append(croft.client().request("PATCH", f"/vms/{name}", {"labels": {"winner": str(i)}}, {"If-Match": '"1"'}).status)
    threads = [threading.Thread(target=change, args=(i,)) for i in range(10)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(statuses) == [200] + [412] * 9


def test_what_waits_for_a_power_cycle(api, name):
    api.post("/vms", sim(name, start=True))
    api.wait_state(name, "running")
    now = api.ok("PATCH", f"/vms/{name}", {"config": {"cpus": 4, "description": "at once", "nics": {"eth0": {}}}, "labels": {"a": "b"}})
    assert now["pending"] == ["/config/cpus"] == api.vm(name)["pending"]       # the NIC has come at once
    now = api.ok("PATCH", f"/vms/{name}", {"config": {"cpus": 1, "display": "none"}})
    assert now["pending"] == ["/config/display"]
    api.post(f"/vms/{name}/poweroff")
    assert api.vm(name)["pending"] == []


# ---- power

def test_a_life(api, vm, name):
    for action, state in (("start", "running"), ("pause", "paused"), ("resume", "running"), ("reset", "running"),
                          ("reboot", "running"), ("shutdown", "off"), ("start", "running"), ("poweroff", "off")):
        answer = api.request("POST", f"/vms/{name}/{action}", None, {"Prefer": "wait=30"})
        assert answer.status == 200, f"{action}: {answer}"
        assert answer.json["status"]["state"] == state, f"{action}: {answer}"
    ended = api.vm(name)["status"]["last_end"]
    assert ended["why"] == "poweroff" or "power" in ended["explanation"], ended


@pytest.mark.parametrize("state, refused", [("off", "shutdown reboot reset poweroff pause resume"), ("running", "start resume"),
                                            ("paused", "start shutdown reboot pause")])
def test_what_a_state_does_not_allow(api, name, state, refused):
    api.post("/vms", sim(name, start=state != "off"))
    if state != "off":
        api.wait_state(name, "running")
    if state == "paused":
        api.post(f"/vms/{name}/pause")
    for action in refused.split():
        problem = api.problem(409, "POST", f"/vms/{name}/{action}")
        assert problem["type"] == "/problems/wrong-state" and name in problem["detail"] and state in problem["detail"], problem
        assert problem["hint"]
    assert api.vm(name)["status"]["state"] == state


def test_many_ask_for_the_same_start(croft, api, vm, name):
    """One of them starts it; all others are told that it is on, or that a task is on its way."""
    statuses = []

    def start():
        answer = croft.client().request("POST", f"/vms/{name}/start", None, {"Prefer": "wait=30"})
        statuses.append(answer.status)
        assert answer.status == 200 or answer.json["type"] == "/problems/wrong-state" or answer.json["task"] > 0, answer
    threads = [threading.Thread(target=start) for _ in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(statuses) == [200] + [409] * 19
    assert len([t for t in api.items(f"/tasks?target={vm['id']}") if t["kind"] == "vm.start"]) == 1


def test_only_what_is_off_is_deleted(api, name):
    api.post("/vms", sim(name, start=True))
    api.wait_state(name, "running")
    problem = api.problem(409, "DELETE", f"/vms/{name}")
    assert "running" in problem["detail"] and f"vmctl poweroff {name}" in problem["hint"]
    api.post(f"/vms/{name}/poweroff")
    assert api.request("DELETE", f"/vms/{name}", None, {"Prefer": "wait=30"}).status == 204
    assert api.request("GET", f"/vms/{name}").status == 404
    assert name not in [vm["name"] for vm in api.items("/vms")]


def test_busy_names_the_task(api, deaf):
    task = api.request("POST", f"/vms/{deaf}/shutdown", {"timeout_s": 600}).json
    assert task["state"] == "running" and task["cancellable"]
    assert api.vm(deaf)["status"]["task"] == task["id"]
    for method, path, body in (("PATCH", "", {"labels": {"a": "b"}}), ("POST", "/pause", None), ("DELETE", "", None),
                               ("POST", "/shutdown", None)):
        problem = api.problem(409, method, f"/vms/{deaf}{path}", body)
        assert problem["type"] == "/problems/busy" and problem["task"] == task["id"] and "vm.shutdown" in problem["detail"]
    # The stronger wish is no conflict: it ends the waiting.
    api.ok("DELETE", f"/tasks/{task['id']}")
    assert api.get(f"/tasks/{task['id']}")["state"] == "cancelled"
    assert api.vm(deaf)["status"]["task"] == 0


def test_poweroff_wins_over_a_shutdown_that_waits(api, deaf):
    if api.vm(deaf)["status"]["state"] == "off":
        api.post(f"/vms/{deaf}/start")
    task = api.request("POST", f"/vms/{deaf}/shutdown", {"timeout_s": 600}).json
    assert api.post(f"/vms/{deaf}/poweroff")["status"]["state"] == "off"
    assert api.get(f"/tasks/{task['id']}")["state"] in ("cancelled", "done")
    api.post(f"/vms/{deaf}/start")


@pytest.mark.parametrize("until", ["asked", "starting", "executed"])
def test_poweroff_wins_over_a_start(api, name, until):
    """However far it has come: it is off then, and is not started by what was under way."""
    tiny.upload(api)
    api.post("/vms", {"name": name, "config": tiny.config()})
    for _ in range(3):
        task = api.request("POST", f"/vms/{name}/start").json
        if until != "asked":
            wait_for("it is on its way", lambda: (s := api.vm(name)["status"])["state"] != "off" and (until != "executed" or s["pid"]))
        assert api.post(f"/vms/{name}/poweroff")["status"]["state"] == "off"
        assert api.get(f"/tasks/{task['id']}")["state"] in ("cancelled", "done")        # noqa: B023
        assert api.vm(name)["status"]["state"] == "off" and not api.vm(name)["status"]["task"]
    api.post(f"/vms/{name}/start")
    assert api.vm(name)["status"]["state"] == "running"


def test_a_guest_that_hears_nothing(api, deaf):
    if api.vm(deaf)["status"]["state"] == "off":
        api.post(f"/vms/{deaf}/start")
    problem = api.problem(504, "POST", f"/vms/{deaf}/shutdown", {"timeout_s": 1}, Prefer="wait=30")
    assert "deaf" in problem["detail"] and "poweroff" in problem["hint"] and problem["task"]


# ---- Prefer and Idempotency-Key

def test_prefer_waits_no_longer_than_it_says(api, deaf):
    if api.vm(deaf)["status"]["state"] == "off":
        api.post(f"/vms/{deaf}/start")
    answer = api.request("POST", f"/vms/{deaf}/shutdown", {"timeout_s": 600}, {"Prefer": "wait=1"})
    assert answer.status == 202 and answer.json["state"] == "running", answer
    assert api.request("POST", f"/vms/{deaf}/reset", None, {"Prefer": "respond-async"}).status == 409
    api.ok("DELETE", answer.headers["Location"])


def test_the_same_key_twice_makes_one(api, name):
    key = {"Idempotency-Key": name, "Prefer": "wait=30"}
    first = api.request("POST", "/vms", sim(name), key)
    again = api.request("POST", "/vms", sim(name), key)
    assert first.status == 201 and again.status == 201, again
    assert again.json["id"] == first.json["id"] and again.headers["Location"] == first.headers["Location"]
    # The same JSON in another order is the same request.
    assert api.request("POST", "/vms", b'{"config": {"engine":"sim"}, "name":"%s"}' % name.encode(),
                       {**key, "Content-Type": "application/json"}).status == 201
    problem = api.problem(422, "POST", "/vms", sim(name + "x"), Idempotency_Key=name)
    assert "another request" in problem["detail"]
    assert api.request("GET", f"/vms/{name}x").status == 404


def test_a_key_belongs_to_its_user(croft, api, name):
    api.post("/users", {"name": name, "role": "admin"})
    other = croft.client(token=api.post("/tokens", {"name": "t", "user": name})["secret"])
    assert api.request("POST", "/vms", sim(name), {"Idempotency-Key": "shared"}).status == 202
    assert other.request("POST", "/vms", sim(name + "2"), {"Idempotency-Key": "shared"}).status == 202


def test_a_key_outlives_the_daemon(fresh):
    api = fresh.client()
    first = api.request("POST", "/vms", sim("once"), {"Idempotency-Key": "k", "Prefer": "wait=30"})
    session = api.request("POST", "/vms/once/start", None, {"Idempotency-Key": "s", "Prefer": "wait=30"})
    assert (first.status, session.status) == (201, 200)
    fresh.kill()
    fresh.start()
    api = fresh.client()
    assert api.request("POST", "/vms", sim("once"), {"Idempotency-Key": "k", "Prefer": "wait=30"}).json["id"] == first.json["id"]
    assert len(api.items("/vms")) == 1
    # A start that was done is done; the guest was simulated, and went with the daemon.
    assert api.request("POST", "/vms/once/start", None, {"Idempotency-Key": "s", "Prefer": "wait=30"}).status == 200
    assert api.vm("once")["status"]["state"] == "off"


def test_a_key_under_way_is_told(croft, api, deaf):
    if api.vm(deaf)["status"]["state"] == "off":
        api.post(f"/vms/{deaf}/start")
    key, answers = {"Idempotency-Key": "under-way"}, []

    def shut_down():
        answers.append(croft.client().request("POST", f"/vms/{deaf}/shutdown", {"timeout_s": 600}, {**key, "Prefer": "wait=60"}))
    thread = threading.Thread(target=shut_down)
    thread.start()
    api.get("/events?kinds=task.changed&wait=10&after=0")
    while not (tasks := api.items("/tasks?state=running")):
        pass
    answer = api.request("POST", f"/vms/{deaf}/shutdown", {"timeout_s": 600}, key)
    assert answer.status == 409 and answer.headers["Retry-After"] == "1", answer
    api.ok("DELETE", f"/tasks/{tasks[0]['id']}")
    thread.join()
    assert answers[0].status == 409 and answers[0].json["type"] == "/problems/cancelled"


def test_idempotency_of_what_failed_is_nothing(api, name):
    key = {"Idempotency-Key": f"{name}-f"}
    assert api.request("POST", f"/vms/{name}/start", None, key).status == 404
    api.post("/vms", sim(name))
    assert api.request("POST", f"/vms/{name}/start", None, {**key, "Prefer": "wait=30"}).status == 200


def test_since_when_is_a_fact(fresh):
    """When a state began does not begin anew with croftd, which finds it in events, run folders and rows."""
    def seen():
        vms = fresh.client().items("/vms")
        return None if any(v["status"]["state"] == "attaching" for v in vms) else {
            v["name"]: (v["status"]["state"], v["status"]["since"], v["status"]["last_end"]) for v in vms}

    def restarted():
        fresh.kill()
        fresh.start()
        return wait_for("all are attached", seen)

    api = fresh.client()
    tiny.upload(api)
    names = ["off", "new", "paused", "resumed", "running", "suspended"]
    for name in names:
        api.post("/vms", {"name": name, "config": tiny.config()})
        if name != "new":
            api.post(f"/vms/{name}/start")
    api.post("/vms/off/poweroff")
    api.post("/vms/suspended/suspend")
    for name in ("paused", "resumed"):
        api.post(f"/vms/{name}/pause")
    api.post("/vms/resumed/resume")
    before = seen()
    assert [before[n][0] for n in names] == ["off", "off", "paused", "running", "running", "suspended"]
    assert before["off"][1] == before["off"][2]["when"]
    assert [before[n][2]["why"] for n in ("off", "suspended")] == ["poweroff", "suspended"]
    for _ in range(2):
        assert restarted() == before
    fresh.kill()
    with contextlib.closing(sqlite3.connect(f"{fresh.home}/croft.db")) as db, db:
        db.execute("DELETE FROM events")        # as they are after a while: what the processes and rows tell is left
    fresh.start()
    after = wait_for("all are attached", seen)
    known = ("off", "new", "suspended")
    assert {n: after[n] for n in known} == {n: before[n] for n in known}
    assert after["running"][0] == "running" and after["running"][1] < before["running"][1] < after["paused"][1]
