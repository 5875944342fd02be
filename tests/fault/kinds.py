"""kinds.py: each kind of task that Croft knows: how the tests come to one. A kind without a row here fails
test_steps.py: so every new one is killed at each of its steps, and takes part in the chaos."""

DISKS = {"system": {"source": "[local] base.qcow2"}, "data": {"size_bytes": 64 << 20}}


def ask(verb, body=None):
    return lambda api: api.request("POST", f"/vms/vm/{verb}", body)


def create(api):
    return api.request("POST", "/vms", {"name": "vm", "config": {"disks": DISKS, "memory_bytes": 256 << 20}})


def startup(api):
    api.ok("PATCH", "/vms/vm", {"config": {"autostart": True}})
    return api.request("POST", "/host/startup")


# kind: the state that the VM has before, the request, the state after it was done (None: there is no VM;
# "maintenance": it ran, and the host is in maintenance)
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
    "host.autostart": ("off", startup, "running"),
    "host.maintenance": ("running", lambda api: api.request("POST", "/host/maintenance", {"action": "poweroff"}), "off"),
    "host.restore": ("maintenance", lambda api: api.request("DELETE", "/host/maintenance"), "running"),
}
