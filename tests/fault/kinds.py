"""kinds.py: each kind of task that Croft knows: how the tests come to one. A kind without a row here fails
test_steps.py: so every new one is killed at each of its steps, and takes part in the chaos."""

import itertools

DISKS = {"system": {"source": "[local] base.qcow2"}, "data": {"size_bytes": 64 << 20}}


def ask(verb, body=None):
    return lambda api: api.request("POST", f"/vms/vm/{verb}", body)


def create(api):
    return api.request("POST", "/vms", {"name": "vm", "config": {"disks": DISKS, "memory_bytes": 256 << 20}})


fresh = itertools.count()


def add_disk(api):
    return api.request("POST", "/vms/vm/disks", {"name": f"more{next(fresh)}", "size_bytes": 1 << 20})


def remove_disk(api):
    api.post("/vms/vm/disks", {"name": "less", "size_bytes": 1 << 20})
    return api.request("DELETE", "/vms/vm/disks/less")


def grow_disk(api):
    disk, d = next(iter(api.get("/vms/vm")["config"]["disks"].items()), (None, None))
    if not disk:
        disk, d = "grows", {"size_bytes": 1 << 20}
        api.post("/vms/vm/disks", {"name": disk, **d})
    return api.request("POST", f"/vms/vm/disks/{disk}/grow", {"size_bytes": d["size_bytes"] + (1 << 20)})


# kind: the state that the VM has before, the request, the state after it was done (None: there is no VM)
KINDS = {
    "vm.create": (None, create, "off"),
    "vm.delete": ("off", lambda api: api.request("DELETE", "/vms/vm"), None),
    "vm.start": ("off", ask("start"), "running"),
    "vm.shutdown": ("running", ask("shutdown"), "off"),
    "vm.reboot": ("running", ask("reboot"), "running"),
    "vm.poweroff": ("running", ask("poweroff"), "off"),
    "vm.reset": ("running", ask("reset"), "running"),
    "vm.pause": ("running", ask("pause"), "paused"),
    "vm.resume": ("paused", ask("resume"), "running"),
    "vm.disk-add": ("running", add_disk, "running"),
    "vm.disk-remove": ("running", remove_disk, "running"),
    "vm.disk-grow": ("running", grow_disk, "running"),
}
