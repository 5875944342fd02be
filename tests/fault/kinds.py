"""kinds.py: each kind of task that Croft knows: how the tests come to one. A kind without a row here fails
test_steps.py: so every new one is killed at each of its steps, and takes part in the load of load.py."""
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


def disks(api, vm):
    return api.vm(vm)["config"]["disks"]


def have_disk(api, vm, name):
    if name not in disks(api, vm):
        api.post(f"/vms/{vm}/disks", {"name": name, "size_bytes": 1 << 20})


def no_more_disk(api, vm="vm"):
    if "more" in disks(api, vm):            # (what it was started with, a running VM keeps)
        api.post(f"/vms/{vm}/poweroff")
        api.ok("DELETE", f"/vms/{vm}/disks/more")
        api.post(f"/vms/{vm}/start")


def disk_to_remove(api, vm="vm"):
    have_disk(api, vm, "less")


def disk_to_grow(api, vm="vm"):
    have_disk(api, vm, "grows")
    grown[vm] = disks(api, vm)["grows"]["size_bytes"] + (1 << 20)


grown = {}


def add_disk(api, vm="vm", name="more", size=1 << 20):
    return api.request("POST", f"/vms/{vm}/disks", {"name": name, "size_bytes": size, "bus": SPARE.get(name, "virtio")})


def remove_disk(api, vm="vm", name="less", size=None):
    return api.request("DELETE", f"/vms/{vm}/disks/{name}")


def grow_disk(api, vm="vm", name="grows", size=None):
    return api.request("POST", f"/vms/{vm}/disks/{name}/grow", {"size_bytes": size or grown[vm]})


SPARE = {"spare1": "virtio", "spare2": "scsi", "spare3": "nvme"}        # disks that a load makes, removes and grows: their buses
LARGE = 16 << 20                                                        # as large as they may become



def sizes(vm):
    return {name: d["size_bytes"] for name, d in vm["config"]["disks"].items()}


def new_disk(vm, choice):
    names = [n for n in SPARE if n not in sizes(vm)]
    return (choice(names), 1 << 20) if names else None


def old_disk(vm, choice):
    names = [n for n in SPARE if n in sizes(vm)]
    return (choice(names), None) if names else None


def small_disk(vm, choice):
    grows = [(n, size + (1 << 20)) for n, size in sizes(vm).items() if n in SPARE and size < LARGE]
    return choice(grows) if grows else None


def is_frozen(vm):
    return vm["status"]["guest"]["frozen"]


def not_frozen(vm, choice):
    return None if is_frozen(vm) else ()


# kind: the state that the VM has before, the request (of an API client and a VM's name, "vm" where nothing is said,
# and what ABOUT says), the state after it was done (None: there is no VM; "maintenance": it ran, and the host is in maintenance)
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

# Other states in which a kind can be asked for. One that leaves the state as it is does so there, too.
ALSO = {"vm.poweroff": ("paused",), "vm.delete": ("suspended",), "vm.disk-add": ("off", "paused"),
        "vm.disk-remove": ("off", "paused"), "vm.disk-grow": ("off", "paused")}

# Kinds that drive all VMs at once: no single client of a load may ask for them. It does so while its clients stand still.
OF_HOST = {kind for kind in KINDS if kind.startswith("host.")}

# Kinds after which the guest, if it runs, runs in another process (besides those after which there is none).
ANEW = {"vm.reboot"}

# Kinds after which the guest boots.
BOOTS = {"vm.start", "vm.reboot", "vm.reset"}

# Kinds that ask the agent in the guest need one; the others have a guest that boots in a blink.
GUESTS = {kind: agent_guest for kind in ("vm.freeze", "vm.thaw", "vm.set-time")}

# What a kind is about, made ready before it is asked for: so that what is asked is one request, the same each time.
READY = {"vm.disk-add": no_more_disk, "vm.disk-remove": disk_to_remove, "vm.disk-grow": disk_to_grow}

# The same for a load, which makes nothing ready: of the VM as it was seen, the further arguments of the request, or None
# where there is nothing that it could be about. Of a disk: its name, and its size when that is done (None: it is gone).
ABOUT = {"vm.disk-add": new_disk, "vm.disk-remove": old_disk, "vm.disk-grow": small_disk,
         "vm.freeze": not_frozen, "vm.set-time": not_frozen}
assert READY.keys() <= ABOUT.keys(), "a kind that needs more than a VM in a state has a row in both"

# What is seen of the VM right after a kind was done, besides its state and its disks.
SEEN = {"vm.freeze": is_frozen, "vm.thaw": lambda vm: not is_frozen(vm)}

# What may be answered though nobody was killed: QEMU lets nothing go that was there at its start, and can neither enlarge
# nor save an NVMe.
REFUSED = {"vm.disk-remove": "keeps the disk", "vm.disk-grow": "NVMe disks cannot grow", "vm.suspend": "is on the bus nvme"}
