"""kinds.py: each kind of task that Croft knows: how the tests come to one. A kind without a row here fails
test_steps.py: so every new one is killed at each of its steps, and takes part in the chaos."""
import itertools

import agent_guest

DISKS = {"system": {"source": "[local] base.qcow2"}, "data": {"size_bytes": 64 << 20}}


def ask(verb, body=None):
    return lambda api, vm="vm": api.request("POST", f"/vms/{vm}/{verb}", body)


def create(api, vm="vm"):
    return api.request("POST", "/vms", {"name": vm, "config": {"disks": DISKS, "memory_bytes": 256 << 20}})


def delete(api, vm="vm"):
    return api.request("DELETE", f"/vms/{vm}")


def startup(api, vm="vm"):
    if not api.vm(vm)["config"]["autostart"]:
        api.ok("PATCH", f"/vms/{vm}", {"config": {"autostart": True}})
    return api.request("POST", "/host/autostart")


def maintenance(api, vm="vm"):
    return api.request("POST", "/host/maintenance", {"action": "poweroff"})


def restore(api, vm="vm"):
    return api.request("DELETE", "/host/maintenance")


fresh = itertools.count()


def add_disk(api, vm="vm"):
    return api.request("POST", f"/vms/{vm}/disks", {"name": f"more{next(fresh)}", "size_bytes": 1 << 20})


def remove_disk(api, vm="vm"):
    api.post(f"/vms/{vm}/disks", {"name": "less", "size_bytes": 1 << 20})
    return api.request("DELETE", f"/vms/{vm}/disks/less")


def grow_disk(api, vm="vm"):
    disk, d = next(iter(api.get(f"/vms/{vm}")["config"]["disks"].items()), (None, None))
    if not disk:
        disk, d = "grows", {"size_bytes": 1 << 20}
        api.post(f"/vms/{vm}/disks", {"name": disk, **d})
    return api.request("POST", f"/vms/{vm}/disks/{disk}/grow", {"size_bytes": d["size_bytes"] + (1 << 20)})


# kind: the state that the VM has before, the request (of an API client and a VM's name, which is "vm" where nothing
# is said), the state after it was done (None: there is no VM; "maintenance": it ran, and the host is in maintenance)
KINDS = {
    "vm.create": (None, create, "off"),
    "vm.delete": ("off", delete, None),
    "vm.start": ("off", ask("start"), "running"),
    "vm.shutdown": ("running", ask("shutdown"), "off"),
    "vm.reboot": ("running", ask("reboot"), "running"),
    "vm.poweroff": ("running", ask("poweroff"), "off"),
    "vm.reset": ("running", ask("reset"), "running"),
    "vm.pause": ("running", ask("pause"), "paused"),
    "vm.resume": ("paused", ask("resume"), "running"),
    "host.autostart": ("off", startup, "running"),
    "host.maintenance": ("running", maintenance, "off"),
    "host.restore": ("maintenance", restore, "running"),
    "vm.freeze": ("running", ask("guest/freeze"), "running"),
    "vm.thaw": ("running", ask("guest/thaw"), "running"),
    "vm.set-time": ("running", ask("guest/set-time"), "running"),
    "vm.disk-add": ("running", add_disk, "running"),
    "vm.disk-remove": ("running", remove_disk, "running"),
    "vm.disk-grow": ("running", grow_disk, "running"),
    "vm.suspend": ("running", ask("suspend"), "suspended"),
    "vm.wake": ("suspended", ask("start"), "running"),
    "vm.discard": ("suspended", ask("discard"), "off"),
}

# Kinds that drive all VMs at once: no single client of a load may ask for them.
OF_HOST = {kind for kind in KINDS if kind.startswith("host.")}

# Kinds after which the guest, if it runs, runs in another process (besides those after which there is none).
ANEW = {"vm.reboot"}

# Kinds that ask the agent in the guest need one; the others have a guest that boots in a blink.
GUESTS = {kind: agent_guest for kind in ("vm.freeze", "vm.thaw", "vm.set-time")}
