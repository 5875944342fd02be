"""Five thousand simulated VMs: created by many clients at once, listed, powered on and off, deleted."""
import re
import threading
import time

import croft as library
from croft import SLOW

COUNT = 5000 // SLOW
CLIENTS = 16


def pss_mib(croft):
    """Memory of croftd and its fronts, shared pages divided among those who share them."""
    total = 0
    for pid in [croft.process.pid] + [pid for pid, name in croft.processes() if name == "croft-front"]:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
            total += int(re.search(r"^Pss:\s+(\d+)", f.read(), re.M)[1])
    return total / 1024


def all_at_once(croft, what):
    """what(client, i) for every VM, by many clients. Returns the seconds that it took."""
    failures, numbers, lock = [], iter(range(COUNT)), threading.Lock()

    def run():
        client = croft.client()
        while True:
            with lock:
                i = next(numbers, None)
            if i is None or failures:
                return
            answer = what(client, i)
            if answer.status >= 300:
                failures.append((i, answer))
    threads = [threading.Thread(target=run) for _ in range(CLIENTS)]
    start = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures, failures[:3]
    return time.monotonic() - start


def ask(method, path, body=None):
    return lambda client, i: client.request(method, path.format(i=i), body and {**body, "name": f"vm-{i:04}"}, {"Prefer": "wait=60"})


def test_five_thousand(croft, capsys, monkeypatch):
    monkeypatch.setattr(library, "judge", None)     # (each answer was judged elsewhere; here they are many)
    api = croft.client(timeout=120)
    told = [f"idle {pss_mib(croft):.1f} MiB"]
    seconds = all_at_once(croft, ask("POST", "/vms", {"labels": {"rack": "7"}, "config": {"engine": "sim", "nics": {"eth0": {}}}}))
    told.append(f"{COUNT} created in {seconds:.1f} s, {pss_mib(croft):.1f} MiB")

    start = time.monotonic()
    whole = api.get("/vms?limit=10000")
    told.append(f"listed in {(time.monotonic() - start) * 1000:.0f} ms")
    assert [vm["name"] for vm in whole["items"]] == [f"vm-{i:04}" for i in range(COUNT)] and whole["next"] is None
    assert len({vm["id"] for vm in whole["items"]}) == COUNT
    assert len({vm["config"]["nics"]["eth0"]["mac"] for vm in whole["items"]}) == COUNT
    assert [vm["name"] for vm in api.items("/vms?limit=300")] == [f"vm-{i:04}" for i in range(COUNT)]

    told.append(f"all started in {all_at_once(croft, ask('POST', '/vms/vm-{i:04}/start')):.1f} s, {pss_mib(croft):.1f} MiB")
    assert api.get("/host")["agent"]["vms_running"] == COUNT
    assert len(api.items("/vms?state=running")) == COUNT
    told.append(f"all powered off in {all_at_once(croft, ask('POST', '/vms/vm-{i:04}/poweroff')):.1f} s")
    assert api.get("/host")["agent"]["vms_running"] == 0

    # Started again, they are all there, soon.
    croft.end()
    start = time.monotonic()
    croft.start()
    told.append(f"started with {COUNT} VMs in {(time.monotonic() - start) * 1000:.0f} ms")
    assert len(croft.client(timeout=120).items("/vms")) == COUNT

    told.append(f"all deleted in {all_at_once(croft, ask('DELETE', '/vms/vm-{i:04}')):.1f} s, {pss_mib(croft):.1f} MiB")
    api = croft.client()
    assert api.items("/vms") == [] and api.get("/host")["agent"]["tasks_open"] == 0
    with capsys.disabled():
        print("\n" + "\n".join(told))
