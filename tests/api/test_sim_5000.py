"""Five thousand simulated VMs: created, listed, powered on and off, there again after a restart of croftd, deleted."""
import os
import threading

COUNT = 5000 if not os.environ.get("SAN") else 500


def in_parallel(croft, work, names, threads=8):
    """Calls work(client, name) for all names, from so many clients at once."""
    failed = []

    def run(part):
        client = croft.client()
        for name in part:
            try:
                work(client, name)
            except AssertionError as e:
                failed.append(str(e))
    runs = [threading.Thread(target=run, args=(names[i::threads],)) for i in range(threads)]
    for r in runs:
        r.start()
    for r in runs:
        r.join()
    assert not failed, failed[:3]


def listed(client, query=""):
    return client.get(f"/vms?limit=10000{query}")["items"]


def power(state):
    return lambda client, name: client.post(f"/vms/{name}/{state}")


def test_five_thousand(croft):
    names = [f"sim-{i:05}" for i in range(COUNT)]
    client = croft.client()
    in_parallel(croft, lambda c, name: c.post("/vms", {"name": name, "config": {"engine": "sim"}}), names)
    assert [vm["name"] for vm in listed(client)] == names
    assert len({vm["id"] for vm in listed(client)}) == COUNT

    in_parallel(croft, power("start"), names)
    assert len(listed(client, "&state=running")) == COUNT
    assert client.get("/host")["agent"]["vms_running"] == COUNT
    in_parallel(croft, power("poweroff"), names)
    assert len(listed(client, "&state=off")) == COUNT

    pages, after = [], None         # page by page it is the same list
    while True:
        page = client.get(f"/vms?limit=700{'&after=' + after if after else ''}")
        pages += page["items"]
        after = page["next"]
        if not after:
            break
    assert [vm["name"] for vm in pages] == names

    croft.end()
    croft.start()
    client = croft.client()
    assert [vm["name"] for vm in listed(client)] == names
    in_parallel(croft, lambda c, name: c.ok("DELETE", f"/vms/{name}"), names)
    assert listed(client) == []
    assert client.get("/host")["agent"]["tasks_open"] == 0
