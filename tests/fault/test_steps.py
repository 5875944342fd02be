"""croftd is killed at the beginning and the end of each step of each kind of task, in its undo and right after its last
commit. Started again, it finishes, undoes or interrupts the task, as the table of its steps says; the inventory, the
datastore and the processes agree; nothing is started twice. The steps come from the table itself: a croftd of the tests
(-DCROFT_FAULTS) prints it and all points that it comes by, and dies, or kills its front or the VM's croft-vm, where it
is told to."""
import contextlib
import http.client
import json
import os
import subprocess

import pytest
import agent_guest
import tiny
from kinds import GUESTS, KINDS, READY
from croft import O, croftd, wait_for
from test_hot import Monitor

FAULTS = f"{O}/faults/croftd"
MARK = b"what stands in the source"


class House:
    """A home that is broken and mended again and again."""

    def __init__(self, c, folder):
        self.c, self.log, self.store = c, f"{folder}/faults", f"{c.home}/datastores/local"

    @property
    def api(self):
        return self.c.client()

    def start(self, **environment):
        self.c.end() if self.c.process.poll() is None else None
        self.c.program, self.c.environment = (FAULTS, environment) if environment else (f"{O}/croftd", {})
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.log)
        self.c.start()

    def points(self):
        """What a croftd came by since its start, and its table."""
        with open(self.log, encoding="ascii") as f:
            lines = f.read().splitlines()
        return [x for x in lines if not x.startswith(("step ", "killed "))], dict(x.split()[1:] for x in lines if x.startswith("step "))

    def ready(self, kind, state, disks=None):
        """A VM in that state with what that kind of task needs."""
        self.prepare(state, disks, GUESTS.get(kind, tiny))
        if kind in READY:
            READY[kind](self.api)

    def prepare(self, state, disks=None, guest=tiny):
        """A VM in that state, or none."""
        api = self.api
        if api.get("/host/maintenance")["on"]:
            api.ok("DELETE", "/host/maintenance")
        if state == "maintenance":
            self.prepare("running", disks, guest)
            api.post("/host/maintenance", {"action": "poweroff"})
            return
        now = api.request("GET", "/vms/vm")
        have = now.json["status"]["state"] if now.status == 200 else None
        if have == "attaching":
            have = wait_for("it is attached", lambda: (s := api.vm("vm")["status"]["state"]) != "attaching" and s)
        if have == state:
            return
        if have == "paused":
            api.post("/vms/vm/resume")
            have = "running"
        if have == "suspended" and state is not None:
            api.post("/vms/vm/start" if state in ("running", "paused") else "/vms/vm/discard")
            have = "running" if state in ("running", "paused") else "off"
            if have == state:
                return
        if have == "running" and state in (None, "off"):
            api.post("/vms/vm/poweroff")
            have = "off"
        if state is None:
            api.ok("DELETE", "/vms/vm")
            return
        if have is None:
            guest.upload(api)
            api.post("/vms", {"name": "vm", "config": guest.config(disks=disks or {})})
            have = "off"
        if have == "off" and state != "off":
            api.post("/vms/vm/start")
            if guest is agent_guest:
                agent_guest.wait_agent(api, "vm")
            else:
                console = api.console("vm")     # its power button is one when it has come so far
                console.until(b"R", 20)
                console.close()
        if state in ("paused", "suspended"):
            api.post("/vms/vm/pause" if state == "paused" else "/vms/vm/suspend")

    def last_task(self, kind):
        """The last task of that kind, when it has ended."""
        api = self.api
        task = next(t for t in api.items("/tasks") if t["kind"] == kind)
        return api.get(f"/tasks/{task['id']}", Prefer="wait=60")

    def agrees(self):
        """Inventory, files and processes say the same. Returns the state of the VM."""
        api = self.api
        assert not api.get("/host")["agent"]["tasks_open"], [(t["id"], t["kind"], t["state"], t["step"], t.get("note")) for t in api.items("/tasks") if not t["finished"]] + [api.items("/vms")[0]["status"]]
        wait_for("it is attached", lambda: not api.items("/vms?state=attaching"))
        vms = api.items("/vms")
        folders = {name for name in os.listdir(self.store) if os.path.isdir(f"{self.store}/{name}")}
        assert folders == {vm["folder"].removeprefix("[local] ") for vm in vms}
        hidden = {name for name in os.listdir(self.store) if name.startswith(".")}
        assert hidden == {".croft-datastore.json"}, hidden
        for vm in vms:
            folder = f"{self.store}/{vm['folder'].removeprefix('[local] ')}"
            variables = {"uefi-vars.qcow2"} if vm["config"]["firmware"] == "uefi" else set()
            memory = {"memory.croft"} if vm["status"]["state"] == "suspended" else set()
            files = {".croft-vm", "vm.croft.json", *(f"{d}.qcow2" for d in vm["config"]["disks"]), *variables, *memory}
            wait_for(f"{os.listdir(folder)} is {files}: the mirror follows", lambda: set(os.listdir(folder)) == files)  # noqa: B023
            assert bool(vm["status"]["saved"]) == bool(memory)
            assert not memory or vm["status"]["last_end"]["why"] == "suspended", vm["status"]["last_end"]
        alive = [vm for vm in vms if vm["status"]["state"] not in ("off", "suspended")]
        assert sorted(self.c.qemu()) == sorted(vm["status"]["pid"] for vm in alive), "started twice, or lost"
        wait_for("each has a croft-vm, another one if need be",
                 lambda: len([p for p in self.c.processes() if p[1].startswith("croft-vm")]) == len(alive))
        return vms[0]["status"]["state"] if vms else None

    def walked(self, kind, request):
        """The points of that task, which is done undisturbed; its table of steps."""
        self.start(CROFT_FAULT_LOG=self.log)
        assert request(self.api).status == 202
        assert (t := self.last_task(kind))["state"] == "done", t
        points, table = self.points()
        points = [p for p in points if p.startswith(kind + ":")]        # a request may have made first what it is about
        steps = [row for row in table if row.startswith(kind + ":")]
        assert {f"{row}:{where}" for row in steps for where in ("begin", "end")} <= set(points), "a step was never taken"
        return points, table

    def die_at(self, point, request, **more):
        """The request is made, croftd dies, and is started again."""
        self.start(CROFT_DIE_AT=point, **more)
        answer = None
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer = request(self.api)
        assert answer is None or answer.status == 202, f"{point}: {answer}"
        wait_for(f"croftd dies at {point} of {answer}", lambda: self.c.process.poll() is not None, 20)
        assert self.c.process.returncode == -9
        self.start()


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    with croftd("--libexec", O) as c:
        api = c.client()
        tiny.upload(api)
        raw, image = f"{folder}/base.raw", f"{folder}/base.qcow2"
        with open(raw, "wb") as f:
            f.write(MARK.ljust(1 << 20, b"\0"))
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, image], check=True)
        with open(image, "rb") as f:
            assert api.request("PUT", "/datastores/local/files/base.qcow2", f.read()).status == 201
        yield House(c, folder)


def holds_the_source(house):
    out = subprocess.run(["qemu-img", "dd", "-f", "qcow2", "-O", "raw", "bs=512", "count=1", f"if={house.store}/vm/system.qcow2",
                          f"of={house.log}.dd"], check=True, stdout=subprocess.PIPE)
    with open(f"{house.log}.dd", "rb") as f:
        return f.read().startswith(MARK) and not out.stdout


def test_every_kind_is_walked(house):
    house.start(CROFT_FAULT_LOG=house.log)
    _, table = house.points()
    assert {row.partition(":")[0] for row in table} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_each_step(house, kind):
    before, request, after = KINDS[kind]
    disks = {"data": {"size_bytes": 1 << 20}} if kind == "vm.delete" else None
    house.start()
    house.prepare(None)
    house.ready(kind, before, disks)
    points, table = house.walked(kind, request)
    for point in points:
        house.ready(kind, before, disks)
        house.die_at(point, request)
        task, state = house.last_task(kind), house.agrees()
        told = f"{point}: {task}, the VM is {state}"
        recovery = table.get(point.rpartition(":")[0], "redo") if not point.endswith("finished") else "finished"
        if recovery == "interrupt":
            assert task["state"] == "interrupted" and task["error"]["type"] == "/problems/interrupted" and task["error"]["hint"], told
            assert state in (before, after), told
        elif recovery == "undo":
            assert task["state"] == "failed" and task["error"]["type"] == "/problems/interrupted" and state == before, told
        else:
            assert task["state"] == "done" and state == after, told
        if kind == "vm.create":
            assert holds_the_source(house), told
        assert len([t for t in house.api.items("/tasks") if t["kind"] == kind and t["id"] >= task["id"]]) == 1, told
    house.prepare(None)


def by_key(request, key):
    """The request, made again for as long as no answer comes, by one Idempotency-Key: it is done once."""
    def ask(house):
        api = house.api
        api.headers["Idempotency-Key"] = key
        with contextlib.suppress(OSError, http.client.HTTPException):
            return request(api)
        return None
    return lambda house: wait_for("an answer", lambda: ask(house))


@pytest.mark.parametrize("victim", ["front", "croft-vm"])
@pytest.mark.parametrize("kind", KINDS)
def test_another_process_is_killed_at_each_step(house, kind, victim):
    """croftd goes on. The front dies: its client asks again, and it happens once. croft-vm dies: another one adopts the
    guest, and the task ends as if nothing had been."""
    before, request, after = KINDS[kind]
    house.start()
    house.prepare(None)
    house.ready(kind, before)
    points, _ = house.walked(kind, request)
    order, killed = f"{house.log}.order", 0
    house.start(CROFT_FAULT_LOG=house.log, CROFT_KILL_ORDER=order)
    for point in points:
        house.prepare(before and "off")     # for a guest whose croft-vm dies again and again, the next one takes its time
        house.ready(kind, before)
        last = max(t["id"] for t in house.api.items("/tasks"))
        with open(order, "w", encoding="ascii") as f:
            f.write(f"{victim} {point}")
        answer = by_key(request, f"{kind}-{victim}-{point}")(house)
        assert answer.status == 202, f"{point}: {answer}"
        task = wait_for("its task", lambda: quiet(house.last_task, kind))
        told = f"{point}: {task}"
        assert task["state"] == "done" and not os.path.exists(order), told
        assert [t["id"] for t in house.api.items("/tasks") if t["id"] > last and t["kind"] == kind] == [task["id"]], told
        wait_for("the guest is kept", lambda: house.api.vm("vm")["status"]["state"] == after if after else
                 house.api.request("GET", "/vms/vm").status == 404)
        wait_for("there are as many croft-vm as guests", lambda: len(house.c.qemu()) ==
                 len([p for p in house.c.processes() if p[1].startswith("croft-vm")]))
        assert house.agrees() == after, told
    with open(house.log, encoding="ascii") as f:
        killed = [x for x in f.read().splitlines() if x.startswith("killed ")]
    assert len(killed) == len(points), "one was never killed"
    print(f"{kind}: killed {victim} {len([x for x in killed if x != 'killed 0'])} times at {len(points)} points")
    assert victim == "croft-vm" or "killed 0" not in killed
    house.prepare(None)


def quiet(fn, *args):
    with contextlib.suppress(OSError, http.client.HTTPException):
        return fn(*args)
    return None


def test_killed_while_it_undoes(house):
    """Each step of a creation fails once; croftd dies at each point of what is then undone."""
    house.start(CROFT_FAULT_LOG=house.log)
    steps = [row for row in house.points()[1] if row.startswith("vm.create:")]
    house.prepare(None)
    for step in steps:
        fail = {"CROFT_FAIL_AT": f"{step}:begin"}
        house.start(CROFT_FAULT_LOG=house.log, **fail)
        KINDS["vm.create"][1](house.api)
        assert house.last_task("vm.create")["state"] == "failed"
        assert house.agrees() is None
        points = [p for p in house.points()[0] if p.rpartition(":")[2] in ("undo", "undone", "finished")]
        assert points
        for point in points:
            house.die_at(point, KINDS["vm.create"][1], **fail)
            task = house.last_task("vm.create")
            assert task["state"] == "failed" and "a test wanted this" in task["error"]["detail"], f"{point}: {task}"
            assert house.agrees() is None, point
    KINDS["vm.create"][1](house.api)
    assert house.last_task("vm.create")["state"] == "done" and house.agrees() == "off"
    house.prepare(None)


def held(vm):
    """The datastore's files that the VM's QEMU has open."""
    folder = f"/proc/{vm['status']['pid']}/fd"
    return [link for fd in os.listdir(folder) if ".qcow2" in (link := os.readlink(f"{folder}/{fd}"))]


def test_a_new_disk_that_the_guest_may_have_is_not_deleted(house):
    """Cancelled at each step, an addition is undone, or it is too late for that and nothing is: no file goes that QEMU has open.
    Where what follows fails all the same, the disk is unplugged before its file goes."""
    house.start()
    house.prepare(None)
    house.ready("vm.disk-add", "running")
    points, _ = house.walked("vm.disk-add", KINDS["vm.disk-add"][1])
    ends = {}
    for point in [p for p in points if not p.endswith("finished")]:
        house.start()
        house.ready("vm.disk-add", "running")
        house.start(CROFT_FAULT_LOG=house.log, CROFT_CANCEL_AT=point)
        KINDS["vm.disk-add"][1](house.api)
        task = house.last_task("vm.disk-add")
        ends[point] = task["state"]
        with open(house.log, encoding="ascii") as f:
            assert ("cancelled" in f.read().splitlines()) == (task["state"] == "cancelled"), (point, task)
        assert house.agrees() == "running", point
        vm = house.api.vm("vm")
        assert ("more" in vm["config"]["disks"]) == (task["state"] == "done") == any("more" in x for x in held(vm)), (point, held(vm))
        assert not [x for x in held(vm) if "deleted" in x], (point, held(vm))
    assert {p: s for p, s in ends.items() if s == "cancelled"} == {f"vm.disk-add:0:{x}": "cancelled" for x in ("begin", "end")}, ends
    house.start()
    house.ready("vm.disk-add", "running")
    house.start(CROFT_FAULT_LOG=house.log, CROFT_FAIL_AT="vm.disk-add:2:begin")
    KINDS["vm.disk-add"][1](house.api)
    assert house.last_task("vm.disk-add")["state"] == "failed"
    assert "more" not in house.api.vm("vm")["config"]["disks"]
    with Monitor(house.c, house.api.vm("vm")) as monitor:       # it was unplugged first (/proc shows it for a moment longer)
        assert not [node for node in monitor("query-named-block-nodes") if "more" in json.dumps(node)]
    assert house.agrees() == "running"
    house.prepare(None)


def test_a_step_that_is_not_needed_is_not_taken_after_a_crash(house):
    """A simulated VM has no folder. The task's row is at the first step from its beginning, whether it is needed or not."""
    house.start()
    house.prepare(None)

    def create_sim(api):
        return api.request("POST", "/vms", {"name": "vm", "config": {"engine": "sim"}})
    house.start(CROFT_FAULT_LOG=house.log)
    create_sim(house.api)
    assert house.last_task("vm.create")["state"] == "done"
    first = house.points()[0][0]
    house.prepare(None)
    house.c.kill()      # as it was when croftd died with the row just written
    house.start()
    house.die_at(first, create_sim)
    assert house.last_task("vm.create")["state"] == "done"
    assert not house.api.vm("vm")["folder"] and "vm" not in os.listdir(house.store)
    house.prepare(None)


def test_the_drain_is_killed_while_it_suspends(house):
    """The next one saves the guest's memory all the same, and the VM goes on from there."""
    def suspending(**environment):
        house.start()
        house.prepare(None)
        house.api.post("/vms", {"name": "vm", "start": True, "config": tiny.config(shutdown={"action": "suspend"})})
        house.api.wait_state("vm", "running")
        return subprocess.run([FAULTS, "--libexec", O, "--home", house.c.home, "--stop"], stdin=subprocess.DEVNULL,
                              env={**os.environ, **environment}).returncode
    with contextlib.suppress(FileNotFoundError):
        os.unlink(house.log)
    assert suspending(CROFT_FAULT_LOG=house.log) == 0
    points = [p for p in house.points()[0] if p.startswith("vm.suspend:")]
    assert points
    for point in points:
        assert suspending(CROFT_DIE_AT=point) == -9, point
        house.c.stop()
        house.start()
        assert house.agrees() == "suspended", point
        assert house.last_task("vm.suspend")["state"] == "done", point
        house.api.post("/vms/vm/start")
        assert house.agrees() == "running", point
    house.prepare(None)


def test_a_start_that_was_promised_with_the_creation(house):
    """{"start": true} is part of what was answered: it is not lost between the two tasks."""
    def create_and_start(api):
        return api.request("POST", "/vms", {"name": "vm", "start": True, "config": tiny.config()})
    house.start(CROFT_FAULT_LOG=house.log)
    create_and_start(house.api)
    assert house.last_task("vm.create")["state"] == "done"
    house.api.wait_state("vm", "running")
    points = [p for p in house.points()[0]]
    assert "vm.start:0:begin" in points
    for point in points:
        house.prepare(None)
        house.die_at(point, create_and_start)
        house.api.wait_state("vm", "running", 10)
        assert house.last_task("vm.start")["state"] == "done", point
        assert house.agrees() == "running", point
    house.prepare(None)
