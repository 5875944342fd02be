"""load.py: a mixed load of every kind of task, while croftd, its fronts and croft-vms are killed at random instants.

Each VM has one client (owner.py), which asks for what its state allows, asks again by an Idempotency-Key until it has an
answer, waits for the task's end, and keeps a journal of what it was told. So it always knows what must be true. Between the
kills all clients stand still and everything is compared: the journal, the inventory, the processes, the locks, the files,
the database, and what guests can do. The kinds about all VMs at once are asked for then, and killed, too."""
import collections
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time

import agent_guest
import tiny
from websocket import WebSocketException
from croft import wait_for
from kinds import KINDS, OF_HOST
from owner import BOOT_S, GONE, PATIENCE_S, Machine, Owner
from truth import ALIVE, check, check_disks, check_files, running


class Load:
    """real, agents, sim: how many VMs with a guest that boots in a blink, with one that has an agent, and simulated ones;
    clients: threads that share them. A guest with an agent takes its time: it has a client of its own."""

    def __init__(self, croft, seed, real=4, agents=1, sim=8, clients=4):
        self.croft, self.random = croft, random.Random(seed)
        self.counts, self.asked, self.ends, self.kills = (collections.Counter() for _ in range(4))
        self.troubles, self.spent, self.failures, self.attach = collections.Counter(), collections.Counter(), [], [0.0]
        self.epoch = self.lives = 0             # how often something, or croftd, was killed
        self.over, self.files, self.seq = False, [], 0
        self.pause, self.resume, self.tick = threading.Event(), threading.Event(), threading.Event()
        machines = [Machine(f"real{i}", tiny) for i in range(real)] + [Machine(f"sim{i}", None) for i in range(sim)]
        groups = [[Machine(f"agent{i}", agent_guest)] for i in range(agents)] + [machines[i::clients] for i in range(clients)]
        self.owners = [Owner(self, self.random.random(), group) for group in groups]
        self.machines = [m for group in groups for m in group]

    def equip(self, folder):
        """What the creations need on the datastore."""
        api = self.croft.client()
        tiny.upload(api)
        agent_guest.upload(api)
        agent_guest.upload_disk(api)
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", f"{folder}/base.qcow2", "1M"], check=True)
        with open(f"{folder}/base.qcow2", "rb") as f:
            assert api.request("PUT", "/datastores/local/files/base.qcow2", f.read()).status == 201
        self.files = [f["name"] for f in api.items("/datastores/local/files")]

    @contextlib.contextmanager
    def clock(self, what):
        start = time.monotonic()
        yield
        self.spent[what] += time.monotonic() - start

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
        self.epoch += 1                         # what is seen from here on may not last,
        self.kills[what] += 1
        if what == "croftd":
            self.lives += 1
            self.croft.kill()
        else:
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(self.random.choice(self.victims(what)), signal.SIGKILL)
        self.epoch += 1                         # and what was seen up to here may be over

    def instant(self):
        """One moment at which something dies."""
        with self.clock("until something dies"):
            self.tick.wait(self.random.uniform(0.005, 0.3))
        what = self.random.choices(("croftd", "front", "croft-vm"), (2, 1, 2))[0]
        if what == "croftd" and self.random.random() < 0.2:
            self.kill("croft-vm")
        self.kill(what)
        if what == "croftd":
            left = list(running(self.croft, "qemu").values())
            assert len(left) == len(set(left)), f"a VM runs twice: {left}"
            self.restart()
        return what

    def restart(self):
        with self.clock("croftd's start"):
            self.croft.start()
        with self.clock("re-attaching"):
            start, api = time.monotonic(), self.croft.client()
            wait_for("all VMs are attached", lambda: quiet(lambda: not api.items("/vms?state=attaching")) is True, 30)
            self.attach.append(time.monotonic() - start)

    def compare(self, host=False):
        """Everybody stands still; then the truth is looked at."""
        self.resume.clear()
        for o in self.owners:
            o.still.clear()
        self.pause.set()
        with self.clock("until the clients stand still"):
            for o in self.owners:
                assert o.still.wait(PATIENCE_S * 2), f"a client hangs: {[(m.name, m.state) for m in o.machines]}"
        self.fail()
        with self.clock("comparing"):
            self.truth()
        if host:
            with self.clock("the host's tasks"):
                self.host()
        self.pause.clear()
        self.resume.set()

    def truth(self):
        vms = {v["name"]: v for v in check(self.croft).values()}
        for m in self.machines:
            if m.guest:
                assert (m.name in vms) == bool(m.state), f"{m.name}: {m.state}, {vms.get(m.name)}"
                assert not m.pid or vms[m.name]["status"]["pid"] == m.pid, f"{m.name} has ended: {vms[m.name]['status']}"
            if m.mark:
                assert vms[m.name]["labels"].get("mark") == m.mark, f"{m.name} has lost its label"
        check_files(self.croft, *self.files)
        check_disks(self.croft)
        assert len(self.taps()) <= len(running(self.croft, "qemu")), f"network devices are left: {self.taps()}"
        self.events()
        for m in self.machines:
            if m.guest is agent_guest and m.up and m.state == "running" and m.frozen != self.lives:
                self.counts["frozen as croftd died"] += m.frozen is not None
                wait_for(f"{m.name} is thawed", lambda: quiet(self.is_thawed, m.name), PATIENCE_S)     # noqa: B023

    def is_thawed(self, name):
        """Nobody has frozen it, or croftd died since: it says that it isn't, and it can write."""
        api = self.croft.client()
        guest = agent_guest.guest(api, name)
        return guest["agent"] == "answers" and not guest["frozen"] and agent_guest.writes(api, name)

    def host(self):
        """The kinds of tasks that are about all VMs, one after the other, while the clients stand still. croftd dies in each."""
        drained = set()
        for kind in (k for k in KINDS if k in OF_HOST):
            wait_for("the VM for it", lambda: self.croft.client().request("POST", "/vms", {"name": "host", "config": {"engine": "sim"}},
                                                                          {"Prefer": "wait=20"}).status in (201, 409), 20)
            before, request, after = KINDS[kind]
            ran = set(running(self.croft, "qemu").values())
            answer = request(self.croft.client(), "host")
            assert answer.status == 202, f"{kind}: {answer}"
            self.asked[kind] += 1
            self.tick.wait(self.random.uniform(0, 0.2))
            if self.random.random() < 0.2:
                self.kill("croft-vm")
            self.kill("croftd")
            self.restart()
            task = wait_for(f"{kind} ends", lambda: (t := self.croft.client().get(answer.headers["Location"].removeprefix("/api/v1"),
                                                                                  Prefer="wait=20"))["finished"] and t, PATIENCE_S)
            self.ends[kind, task["state"]] += 1
            check(self.croft)
            runs = set(running(self.croft, "qemu").values())
            if after == "off":
                drained = ran
                assert not runs, f"{kind} has left {runs}"
            elif before == "maintenance":
                assert drained <= runs, f"{kind} has not started {drained - runs}"
            else:
                assert ran <= runs, f"{kind} has ended {ran - runs}"
        self.croft.client().ok("DELETE", "/vms/host") if self.off("host") else None
        for m in self.machines:
            if m.state in ALIVE or m.state == "off":
                m.unsure()
                m.pid, m.boots = None, time.monotonic()

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
        slow = [m for m in self.machines if m.guest is agent_guest]
        for o in self.owners[:len(slow)]:
            o.start()
        with self.clock("the first boot"):      # of those that take their time
            wait_for("the agents answer", lambda: self.failures or all(m.was_up for m in slow), BOOT_S)
        for o in self.owners[len(slow):]:
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
        for kind in KINDS if count >= 60 else ():
            assert any(k == kind for k, _ in self.ends), f"{kind} was never asked for: what does a VM need for it?"

    def database(self):
        with contextlib.closing(sqlite3.connect(f"{self.croft.home}/croft.db")) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert db.execute("SELECT id, kind FROM tasks WHERE finished IS NULL").fetchall() == [], "a task without an end"

    def figures(self):
        yield "kills: " + ", ".join(f"{n} {k}" for k, n in sorted(self.kills.items()))
        yield f"requests: {self.counts['requests']}, asked again {self.counts['asked again']}; events: {self.seq}"
        yield f"guests that were frozen as croftd died, and could write again: {self.counts['frozen as croftd died']}"
        for kind in KINDS:
            ends = {end: n for (k, end), n in self.ends.items() if k == kind}
            yield f"tasks: {kind}: " + (", ".join(f"{n} {end}" for end, n in sorted(ends.items())) or "none")
        for what, n in self.troubles.most_common():
            yield f"not done: {n} x {what}"
        yield "seconds: " + ", ".join(f"{n:.0f} {k}" for k, n in self.spent.most_common())
        yield f"longest re-attach: {max(self.attach) * 1000:.0f} ms of {len(self.attach) - 1}"
        yield "leaked files, network devices, processes: 0; VMs lost, doubled or ended: 0"


def quiet(fn, *args):
    with contextlib.suppress(*GONE, WebSocketException, AssertionError):
        return fn(*args)
    return None
