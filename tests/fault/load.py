"""load.py: a mixed load of every kind of task, while croftd, its fronts and croft-vms are killed at random instants.

Each VM has one client, which asks for what its state allows (the kinds come from kinds.py), asks again by an
Idempotency-Key until it has an answer, waits for the task's end, and keeps a journal of what it was told. So it always
knows what must be true. Between the kills all clients stand still and everything is compared: the journal, the
inventory, the processes, the locks, the files and the database."""
import collections
import contextlib
import http.client
import inspect
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time
import uuid

import tiny
from websocket import WebSocketException
from croft import Client, wait_for
from kinds import ANEW, GUESTS, KINDS, OF_HOST
from truth import ALIVE, check, check_files, running

# What needs another guest, or asks several things of which each time other ones, stands in test_steps.py alone.
ALONE = {k for k in KINDS if k in GUESTS or k.startswith("vm.disk-")}
GONE = (OSError, http.client.HTTPException)
PATIENCE_S = 60


class Keyed(Client):
    """What changes something bears a key: asked twice, it is done once."""
    key, asked = None, 0

    def request(self, method, path, body=None, headers=None):
        if method in ("POST", "DELETE"):
            self.asked += 1
            headers = {**(headers or {}), "Idempotency-Key": f"{self.key}-{self.asked}"}
        return super().request(method, path, body, headers)


class Machine:
    """A VM as its client believes it to be."""

    def __init__(self, name, engine):
        self.name, self.engine = name, engine
        self.id = self.pid = None
        self.state, self.mark, self.made = None, None, False


class Owner(threading.Thread):
    """The client of some VMs."""

    def __init__(self, load, seed, machines):
        super().__init__(daemon=True)
        self.load, self.random, self.machines = load, random.Random(seed), machines
        self.api, self.still = None, threading.Event()

    # ---- asking until there is an answer

    def persist(self, what, ask):
        """ask(client) again and again, until it is answered."""
        end, key = time.monotonic() + PATIENCE_S, str(uuid.uuid4())
        while time.monotonic() < end:
            if not self.api:
                self.api = Keyed(self.load.croft)
            self.api.key, self.api.asked = key, 0
            try:
                answer = ask(self.api)
            except GONE:
                self.api = None
                self.load.counts["asked again"] += 1
                self.load.tick.wait(0.02)
                continue
            self.load.counts["requests"] += 1
            if answer.status == 503 or (answer.status == 409 and "under way" in answer.json["detail"] and "Key" in answer.json["detail"]):
                self.load.tick.wait(0.05)
                continue
            return answer
        raise AssertionError(f"{what}: no answer within {PATIENCE_S} s")

    def get(self, path):
        return self.persist(path, lambda api: api.request("GET", path, None, {"Prefer": "wait=10"}))

    def look(self, m):
        """The VM as it is, once it is attached."""
        def settled():
            answer = self.get(f"/vms/{m.name}")
            assert answer.status in (200, 404), answer
            return answer.json if answer.status == 200 and answer.json["status"]["state"] != "attaching" else answer.status == 404 or None
        vm = wait_for(f"{m.name} is attached", settled, PATIENCE_S)
        return None if vm is True else vm

    # ---- what it asks for

    def choose(self, m):
        fit = [k for k, (before, request, _) in KINDS.items()
               if before == m.state and takes(request, m) and k not in ALONE | OF_HOST]
        return self.random.choice(fit) if fit else None

    def create(self, m):
        if m.made:
            return lambda api: KINDS["vm.create"][1](api, m.name)
        config = {"engine": "sim"} if m.engine == "sim" else tiny.config(disks={"root": {"size_bytes": 1 << 20}})
        return lambda api: api.request("POST", "/vms", {"name": m.name, "config": config})

    def act(self, m):
        if m.state and self.random.random() < 0.15:
            self.label(m)
            return
        kind = self.choose(m)
        if not kind:
            self.refresh(m)
            return
        request, after = KINDS[kind][1:]
        if kind == "vm.create":
            m.made = m.engine == "qemu" and self.random.random() < 0.2
            ask = self.create(m)
        elif m.made and kind != "vm.delete":
            kind, after, ask = "vm.delete", None, lambda api: KINDS["vm.delete"][1](api, m.name)
        else:
            ask = lambda api: call(request, api, m.name)        # noqa: E731
        epoch = self.load.epoch
        answer = self.persist(f"{kind} of {m.name}", ask)
        if answer.status == 202:
            self.ended(m, kind, after, answer.headers["Location"], epoch)
        elif epoch == self.load.epoch and m.engine == "qemu":
            raise AssertionError(f"{kind} of {m.name}, which is {m.state}: {answer}")
        self.refresh(m)

    def ended(self, m, kind, after, location, epoch):
        task = wait_for(f"{kind} of {m.name} ends", lambda: (t := self.get(location.removeprefix("/api/v1"))).json["finished"] and t.json,
                        PATIENCE_S)
        assert task["kind"] == kind, task
        self.load.ends[kind, task["state"]] += 1
        if task["state"] == "done":
            if not m.state:
                m.id, m.mark = None, None
            if after == "running" and m.state == "off" and m.engine == "qemu":
                self.booted(m)
            m.state = after
            if after not in ALIVE or kind in ANEW:
                m.pid = None
        else:
            # Only a kill may come between: of croftd, and it is told so; of croft-vm, and what it was about ends.
            assert epoch != self.load.epoch, f"{m.name}, {m.state}: {task}"
            self.load.troubles[f"{kind}: {task['error']['detail']}".replace(m.name, "VM")] += 1
            m.state, m.pid = "?", m.pid if after in ALIVE and kind not in ANEW else None

    def booted(self, m):
        """The guest has come so far that it hears its power button."""
        def up():
            with contextlib.suppress(*GONE, WebSocketException, AssertionError):
                console = self.load.croft.client().console(m.name)
                console.type("x")       # what it has said as its croft-vm died may be lost; it echoes
                console.until(b"x", 5)
                console.close()
                return True
            return False
        wait_for(f"{m.name} boots", up, PATIENCE_S)

    def label(self, m):
        mark = str(uuid.uuid4())
        answer = self.persist(f"label {m.name}", lambda api: api.request("PATCH", f"/vms/{m.name}", {"labels": {"mark": mark}}))
        assert answer.status == 200, answer
        m.mark = mark

    def refresh(self, m):
        """What is there must be what was done."""
        epoch, vm = self.load.epoch, self.look(m)
        if not vm:
            assert m.state in (None, "?") and not m.id or m.state in (None, "?"), f"{m.name} ({m.state}) is lost"
            m.state = m.id = m.pid = m.mark = None
            return
        status = vm["status"]
        assert m.state, f"{m.name} was deleted, and is back: {vm}"
        assert not m.id or m.id == vm["id"], f"{m.name} is another one"
        if m.mark:
            assert vm["labels"].get("mark") == m.mark, f"{m.name} has lost its label"
        if m.engine == "qemu" and m.state != "?" and epoch == self.load.epoch:
            assert status["state"] == m.state or (status["state"], m.state) == ("degraded", "running"), f"{m.name} is not {m.state}: {status}"
        if m.pid:
            assert status["pid"] in (m.pid, 0) and status["state"] != "off", f"{m.name} has ended, and nobody wanted it: {status}"
        m.id, m.state = vm["id"], status["state"] if status["state"] != "degraded" else m.state
        m.pid = status["pid"] or m.pid if m.state in ALIVE and m.engine == "qemu" else None

    def run(self):
        try:
            while not self.load.over:
                if self.load.pause.is_set():
                    self.still.set()
                    self.load.resume.wait()
                    continue
                self.act(self.random.choice(self.machines))
        except Exception as e:          # pylint: disable=broad-except
            self.load.failures.append(e)
        self.still.set()


def takes(request, m):
    return m.name == "vm" or not callable(request) or len(inspect.signature(request).parameters) > 1


def call(request, api, name):
    """A row whose request takes no name is about "vm"."""
    return request(api, name) if len(inspect.signature(request).parameters) > 1 else request(api)


class Load:
    """real, sim: how many VMs of each engine; clients: threads that share them."""

    def __init__(self, croft, seed, real=4, sim=8, clients=4):
        self.croft, self.random = croft, random.Random(seed)
        self.counts, self.ends, self.kills = collections.Counter(), collections.Counter(), collections.Counter()
        self.troubles, self.failures, self.attach = collections.Counter(), [], [0.0]
        self.epoch, self.over = 0, False
        self.pause, self.resume, self.tick = threading.Event(), threading.Event(), threading.Event()
        machines = [Machine("vm", "qemu"), *(Machine(f"real{i}", "qemu") for i in range(1, real)), *(Machine(f"sim{i}", "sim") for i in range(sim))]
        self.machines, self.seq = machines, 0
        self.owners = [Owner(self, self.random.random(), machines[i::clients]) for i in range(clients)]

    def equip(self, folder):
        """What the creations need on the datastore."""
        api = self.croft.client()
        tiny.upload(api)
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", f"{folder}/base.qcow2", "1M"], check=True)
        with open(f"{folder}/base.qcow2", "rb") as f:
            assert api.request("PUT", "/datastores/local/files/base.qcow2", f.read()).status == 201

    def taps(self):
        """Network devices of the VMs' users."""
        found = []
        for name in os.listdir("/sys/class/net"):
            with contextlib.suppress(OSError, ValueError), open(f"/sys/class/net/{name}/owner", encoding="ascii") as f:
                if int(f.read()) in self.croft.uids():
                    found.append(name)
        return found

    def victims(self, what):
        if what == "croft-vm":
            return list(running(self.croft, "croft-vm"))
        return [pid for pid, name in self.croft.processes() if name == "croft-front"]

    def kill(self, what):
        self.epoch += 1
        self.kills[what] += 1
        if what == "croftd":
            self.croft.kill()
            return
        with contextlib.suppress(ProcessLookupError, IndexError):
            os.kill(self.random.choice(self.victims(what)), signal.SIGKILL)

    def instant(self):
        """One moment at which something dies."""
        self.tick.wait(self.random.uniform(0.005, 0.3))
        what = self.random.choices(("croftd", "front", "croft-vm"), (2, 1, 2))[0]
        if what == "croftd" and self.random.random() < 0.2:
            self.kill("croft-vm")
        self.kill(what)
        if what == "croftd":
            left = list(running(self.croft, "qemu").values())
            assert len(left) == len(set(left)), f"a VM runs twice: {left}"
            self.croft.start()
            self.reattach()
        return what

    def reattach(self):
        start, api = time.monotonic(), self.croft.client()
        wait_for("all VMs are attached", lambda: quiet(lambda: not api.items("/vms?state=attaching")) is True, 30)
        self.attach.append(time.monotonic() - start)

    def compare(self, host=False):
        """Everybody stands still; then the truth is looked at."""
        self.resume.clear()
        for o in self.owners:
            o.still.clear()
        self.pause.set()
        for o in self.owners:
            assert o.still.wait(PATIENCE_S * 2), f"a client hangs: {[(m.name, m.state) for m in o.machines]}"
        self.fail()
        vms = {v["name"]: v for v in check(self.croft).values()}
        for m in self.machines:
            if m.engine == "qemu":
                assert (m.name in vms) == bool(m.state), f"{m.name}: {m.state}, {vms.get(m.name)}"
                assert not m.pid or vms[m.name]["status"]["pid"] == m.pid, f"{m.name} has ended: {vms[m.name]['status']}"
            if m.mark:
                assert vms[m.name]["labels"].get("mark") == m.mark, f"{m.name} has lost its label"
        check_files(self.croft, "tiny.bin", "base.qcow2")
        assert len(self.taps()) <= len(running(self.croft, "qemu")), f"network devices are left: {self.taps()}"
        self.events()
        if host:
            self.host()
        self.pause.clear()
        self.resume.set()

    def host(self):
        """The kinds of tasks that are about all VMs, one after the other, while the clients stand still. croftd dies in each."""
        for kind in (k for k in KINDS if k.startswith("host.")):
            wait_for("the VM for it", lambda: self.croft.client().request("POST", "/vms", {"name": "host", "config": {"engine": "sim"}},
                                                                          {"Prefer": "wait=20"}).status in (201, 409), 20)
            answer = call(KINDS[kind][1], self.croft.client(), "host")
            assert answer.status == 202, f"{kind}: {answer}"
            self.tick.wait(self.random.uniform(0, 0.2))
            self.kill("croftd")
            self.croft.start()
            self.reattach()
            task = wait_for(f"{kind} ends", lambda: (t := self.croft.client().get(answer.headers["Location"].removeprefix("/api/v1"),
                                                                                  Prefer="wait=20"))["finished"] and t, PATIENCE_S)
            self.ends[kind, task["state"]] += 1
            check(self.croft)
        self.croft.client().ok("DELETE", "/vms/host") if self.off("host") else None
        for o in self.owners:
            for m in o.machines:
                if m.state in ALIVE or m.state == "off":
                    m.state, m.pid = "?", None

    def off(self, name):
        api = self.croft.client()
        if api.vm(name)["status"]["state"] != "off":
            api.post(f"/vms/{name}/poweroff")
        return True

    def events(self):
        """Their numbers have no gap: none was lost."""
        api = self.croft.client()
        while (page := api.get(f"/events?after={self.seq}&limit=1000"))["items"]:
            for e in page["items"]:
                assert self.seq == 0 or e["seq"] == self.seq + 1, f"after event {self.seq} comes {e['seq']}"
                self.seq = e["seq"]

    def fail(self):
        if self.failures:
            raise self.failures[0]

    def end(self):
        """Whatever happens, nobody asks any more."""
        self.over = True
        self.resume.set()

    def told(self, done):
        """For whoever wants to know how far it is."""

    def go(self, count):
        """count instants."""
        self.resume.set()
        for o in self.owners:
            o.start()
        done = 0
        while done < count:
            what = self.instant()
            done += 1
            self.told(done)
            self.fail()
            if what == "croftd" or done % 10 == 0 or done == count:
                self.compare(done % 30 == 0)
        self.over = True
        self.compare()
        for o in self.owners:
            o.join(PATIENCE_S)
        self.database()

    def database(self):
        with contextlib.closing(sqlite3.connect(f"{self.croft.home}/croft.db")) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert db.execute("SELECT id, kind FROM tasks WHERE finished IS NULL").fetchall() == [], "a task without an end"

    def figures(self):
        yield "kills: " + ", ".join(f"{n} {k}" for k, n in sorted(self.kills.items()))
        yield f"requests: {self.counts['requests']}, asked again {self.counts['asked again']}; events: {self.seq}"
        for kind in KINDS:
            ends = {end: n for (k, end), n in self.ends.items() if k == kind}
            yield f"tasks: {kind}: " + (", ".join(f"{n} {end}" for end, n in sorted(ends.items())) or "none")
        for what, n in self.troubles.most_common():
            yield f"not done: {n} x {what}"
        yield f"longest re-attach: {max(self.attach) * 1000:.0f} ms of {len(self.attach) - 1}"
        yield "leaked files, network devices, processes: 0; VMs lost, doubled or ended: 0"


def quiet(fn):
    with contextlib.suppress(*GONE, AssertionError):
        return fn()
    return None
