"""Many VMs, many changes, many who follow, some of whom never read: memory stays bounded, and nobody who reads misses a
thing. LOAD=whole: 5,000 VMs for a minute; make bench has the figures."""
import os
import subprocess
import threading
import time

import croft as library
import pytest
from croft import O, SLOW
from test_sim_5000 import pss_mib

WHOLE = os.environ.get("LOAD") == "whole"
VMS, SECONDS, RATE = (5000, 60, 200) if WHOLE else (300, 5, 200 // SLOW)
CLIENTS, NEVER_READ = 80, 20
GROWTH_MIB = 24 * SLOW


class Reader(threading.Thread):
    """Follows, leaves every second, and comes back with the number of its last event."""

    def __init__(self, croft, start):
        super().__init__()
        self.croft, self.numbers, self.resets, self.visits, self.until = croft, [start], 0, 0, None

    def run(self):
        while self.until is None or self.numbers[-1] < self.until:
            self.visits += 1
            stream, end = self.croft.client(timeout=20).events(after=self.numbers[-1]), time.monotonic() + 1
            for number, kind, _ in stream:
                self.resets += kind == "reset"
                self.numbers.append(int(number))
                if time.monotonic() > end or (self.until and self.numbers[-1] >= self.until):
                    break
            stream.close()


def switch(croft, names, stop):
    """Power for one after the other, on and off: several events each."""
    client = croft.client()
    while not stop.is_set():
        for name in names:
            for verb in ("start", "poweroff"):
                assert client.request("POST", f"/vms/{name}/{verb}", None, {"Prefer": "wait=20"}).status == 200
            if stop.is_set():
                return


@pytest.fixture
def crowd(croft):
    """The VMs."""
    def make(numbers):
        client = croft.client()
        for i in numbers:
            assert client.request("POST", "/vms", {"name": f"vm-{i:04}", "config": {"engine": "sim"}}, {"Prefer": "wait=60"}).status == 201
    threads = [threading.Thread(target=make, args=(range(k, VMS, 16),)) for k in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return [f"vm-{i:04}" for i in range(VMS)]


def newest(api):
    """The number of the last event there is."""
    found, after = True, 0
    while found:
        page = api.get(f"/events?after={after}&limit=1000")
        found, after = page["items"], page["next"]
    return after


def test_a_crowd(croft, crowd, capsys, monkeypatch):
    monkeypatch.setattr(library, "judge", None)     # (each answer was judged elsewhere; here they are many)
    api = croft.client()
    before, stop = pss_mib(croft), threading.Event()
    reader = Reader(croft, newest(api))
    power = threading.Thread(target=switch, args=(croft, crowd[:50], stop))
    reader.start()
    power.start()
    fan = subprocess.run([f"{O}/tests/bench/fan", croft.socket, "-", str(CLIENTS), str(NEVER_READ), str(SECONDS), str(RATE)],
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=60 + 3 * SECONDS, check=False)
    after = pss_mib(croft)
    stop.set()
    power.join()
    reader.until = newest(api)
    api.ok("PATCH", f"/vms/{crowd[0]}", {"labels": {"the": "end"}})     # it wakes the reader
    reader.join()
    assert fan.returncode == 0
    events, delivered, resets, left_out, _, p50, p99, asked = map(float, fan.stdout.split())
    with capsys.disabled():
        print(f"\n{VMS} VMs, {events:.0f} events/s to {CLIENTS} readers ({delivered:.0f}/s) and {NEVER_READ} who never read, GET p50 {p50:.1f} "
              f"ms, p99 {p99:.1f} ms of {asked:.0f}; {before:.1f} MiB, then {after:.1f} MiB; a reader came {reader.visits} times")
    assert resets == left_out == 0 and delivered
    assert not reader.resets and reader.visits >= 3
    assert reader.numbers == list(range(reader.numbers[0], reader.numbers[0] + len(reader.numbers)))
    assert after - before < GROWTH_MIB
    assert api.get("/host")["agent"]["tasks_open"] == 0
