"""kinds.py: each kind of task that Croft knows: how the tests come to one. A kind without a row here fails
test_steps.py: so every new one is killed at each of its steps, and takes part in the chaos."""

DISKS = {"system": {"source": "[local] base.qcow2"}, "data": {"size_bytes": 64 << 20}}


def ask(verb, body=None):
    return lambda api, vm="vm": api.request("POST", f"/vms/{vm}/{verb}", body)


def create(api, vm="vm"):
    return api.request("POST", "/vms", {"name": vm, "config": {"disks": DISKS, "memory_bytes": 256 << 20}})


def delete(api, vm="vm"):
    return api.request("DELETE", f"/vms/{vm}")


# kind: the state that the VM has before, the request (of an API client and a VM's name, which is "vm" where nothing
# is said), the state after it was done (None: there is no VM)
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
    "vm.suspend": ("running", ask("suspend"), "suspended"),
    "vm.wake": ("suspended", ask("start"), "running"),
    "vm.discard": ("suspended", ask("discard"), "off"),
}
