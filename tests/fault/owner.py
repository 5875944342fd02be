"""owner.py: a VM of the load as its client believes it to be, and that client, which asks for what the VM's state allows
(the kinds come from kinds.py) and knows from the answers what must be true."""
import contextlib
import http.client
import random
import threading
import time
import uuid

import agent_guest
import tiny
from websocket import WebSocketException
from croft import Client, wait_for
from kinds import ABOUT, ALSO, ANEW, BOOTS, GUESTS, KINDS, OF_HOST, REFUSED, SEEN, sizes
from truth import ALIVE

GONE = (OSError, http.client.HTTPException)
PATIENCE_S = 60
BOOT_S = 180


class Keyed(Client):
    """What changes something bears a key: asked twice, it is done once."""
    key, asked = None, 0

    def request(self, method, path, body=None, headers=None):
        if method in ("POST", "DELETE"):
            self.asked += 1
            headers = {**(headers or {}), "Idempotency-Key": f"{self.key}-{self.asked}"}
        return super().request(method, path, body, headers)


class Machine:
    """guest: the module that knows it; None: the VM is simulated."""

    def __init__(self, name, guest):
        self.name, self.guest = name, guest
        self.seen = 0                       # the epoch in which it was seen as it is here
        self.was_up = False                 # once, whatever it is now
        self.gone()

    def gone(self):
        """There is no VM. state: None; "?": not known, because something was killed."""
        self.id = self.pid = self.state = self.mark = self.disks = self.vm = self.frozen = None
        self.made = self.up = False         # made: by the request of the table, with a guest that cannot boot
        self.boots = self.rests = 0         # since when, until when
        self.maybe = ()                     # see unsure

    def unsure(self, maybe=()):
        """maybe: what it is all the same; (): anything."""
        self.state, self.maybe, self.up, self.disks, self.frozen = "?", maybe, False, None, None


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

    def fit(self, m):
        """The kinds that the VM's state allows, with the further arguments of their requests."""
        for kind, (before, _, _) in KINDS.items():
            if kind in OF_HOST or (m.state != before and m.state not in ALSO.get(kind, ())):
                continue
            if GUESTS.get(kind, m.guest) is not m.guest or (m.made and m.state == "off" and kind in BOOTS):
                continue
            more = ABOUT[kind](m.vm, self.random.choice) if kind in ABOUT else ()
            if more is not None:
                yield kind, more

    def choose(self, m):
        """What was asked for seldom rather than what was often: few VMs have what it needs."""
        fit = list(self.fit(m))
        weights = [(1 + self.load.asked[kind]) ** -2 for kind, _ in fit]
        return self.random.choices(fit, weights)[0] if fit else (None, ())

    def request(self, m, kind, more):
        if kind != "vm.create" or m.made:
            return lambda api: KINDS[kind][1](api, m.name, *more)
        if not m.guest:
            config = {"engine": "sim"}
        elif m.guest is agent_guest:
            config = agent_guest.config(disks={"data": {"source": "[local] data.qcow2"}}, on_crash="off")
        else:
            config = m.guest.config(disks={"root": {"size_bytes": 1 << 20}})
        return lambda api: api.request("POST", "/vms", {"name": m.name, "config": config})

    def act(self, m):
        if time.monotonic() < m.rests:
            self.load.tick.wait(0.02)
            return
        if m.state and self.random.random() < 0.15:
            self.label(m)
            return
        if m.state == "running" and m.guest and not m.up and not self.is_up(m):
            self.refresh(m)
            return
        kind, more = self.choose(m)
        if kind:
            self.do(m, kind, more)
        self.refresh(m)

    def do(self, m, kind, more):
        if kind == "vm.create":
            m.gone()
            m.made = m.guest is tiny and self.random.random() < 0.2
        self.load.asked[kind] += 1
        epoch = m.seen
        answer = self.persist(f"{kind} of {m.name}", self.request(m, kind, more))
        if answer.status == 202:
            self.ended(m, kind, more, answer.headers["Location"], epoch)
        elif epoch == self.load.epoch and m.guest:
            raise AssertionError(f"{kind} of {m.name}, which is {m.state}: {answer}")
        else:
            m.unsure()

    def ended(self, m, kind, more, location, epoch):
        lives = self.load.lives
        task = wait_for(f"{kind} of {m.name} ends", lambda: (t := self.get(location.removeprefix("/api/v1"))).json["finished"] and t.json,
                        PATIENCE_S)
        assert task["kind"] == kind, task
        self.load.ends[kind, task["state"]] += 1
        before, _, after = KINDS[kind]
        if before == after:
            after = m.state
        if task["state"] == "done":
            self.done(m, kind, more, after)
            if kind == "vm.freeze":     # and it stays so for a while, so that something dies meanwhile
                m.frozen, m.rests = lives, time.monotonic() + self.random.uniform(0, 1.5)
        elif task["error"] and kind in REFUSED and REFUSED[kind] in task["error"]["detail"]:
            self.load.troubles[f"{kind}: {REFUSED[kind]}"] += 1
        else:
            # Only a kill may come between: of croftd, and it is told so; of croft-vm, and what it was about ends.
            assert epoch != self.load.epoch, f"{m.name}, {m.state}: {task}"
            which = "VM" if m.guest else "simulated VM"
            self.load.troubles[f"{kind}: {task['error']['detail']}".replace(m.name + " ", which + " ").replace(f'"{m.name}"', which)] += 1
            m.unsure((m.state, after) + ("off",) * (kind in ANEW))
            m.pid = m.pid if after in ALIVE and kind not in ANEW else None

    def done(self, m, kind, more, after):
        if after is None:
            m.gone()
            return
        if kind in BOOTS:
            m.up, m.boots = False, time.monotonic()
        if kind in BOOTS or kind == "vm.thaw" or after not in ALIVE:
            m.frozen = None         # (a suspended one is thawed when it goes on)
        if after not in ALIVE or kind in ANEW:
            m.pid = None
        if kind.startswith("vm.disk-"):
            name, size = more
            m.disks = {n: s for n, s in ((m.disks or {}) | {name: size}).items() if s} if m.disks is not None else None
        m.state = after
        if kind in SEEN:
            epoch = self.load.epoch
            vm = self.look(m)
            assert epoch != self.load.epoch or epoch != m.seen or SEEN[kind](vm), f"{kind} of {m.name} is not seen: {vm['status']}"

    def is_up(self, m):
        """The guest has come so far that it does what it is asked."""
        with contextlib.suppress(*GONE, WebSocketException, AssertionError):
            m.up = m.guest.up(self.load.croft.client(), m.name)
        m.was_up |= m.up
        assert m.up or time.monotonic() - m.boots < BOOT_S, f"{m.name} does not boot"
        return m.up

    def label(self, m):
        mark = str(uuid.uuid4())
        answer = self.persist(f"label {m.name}", lambda api: api.request("PATCH", f"/vms/{m.name}", {"labels": {"mark": mark}}))
        assert answer.status == 200, answer
        m.mark = mark

    def refresh(self, m):
        """What is there must be what was done."""
        epoch, vm = self.load.epoch, self.look(m)
        if not vm:
            assert m.state in (None, "?"), f"{m.name} ({m.state}) is lost"
            m.gone()
            m.seen = epoch
            return
        status = vm["status"]
        assert m.state, f"{m.name} was deleted, and is back: {vm}"
        assert not m.id or m.id == vm["id"], f"{m.name} is another one"
        if m.mark:
            assert vm["labels"].get("mark") == m.mark, f"{m.name} has lost its label"
        if m.guest and m.state != "?" and epoch == self.load.epoch:
            assert status["state"] == m.state or (status["state"], m.state) == ("degraded", "running"), f"{m.name} is not {m.state}: {status}"
        if m.pid:
            assert status["pid"] in (m.pid, 0) and status["state"] != "off", f"{m.name} has ended, and nobody wanted it: {status}"
        assert m.disks is None or sizes(vm) == m.disks, f"the disks of {m.name} are not {m.disks}: {sizes(vm)}"
        m.id, m.disks, m.vm, m.seen = vm["id"], sizes(vm), vm, epoch
        if status["state"] in (*ALIVE, "off", "suspended"):
            m.state = status["state"] if status["state"] != "degraded" else m.state
            assert not m.guest or not m.maybe or m.state in (*m.maybe, "?"), f"{m.name} is not one of {m.maybe}: {status}"
            m.maybe = () if m.state != "?" else m.maybe
        else:
            m.state = "?"           # on its way
        m.pid = status["pid"] or m.pid if m.state in ALIVE and m.guest else None

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
