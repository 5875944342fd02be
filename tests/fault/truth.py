"""truth.py: what is true of a croftd's processes, run folders and files, whatever it says itself."""
import contextlib
import fcntl
import os
import struct

from croft import wait_for

ALIVE = ("running", "paused", "stopping", "degraded")


def running(croft, program):
    """pid -> UUID of what runs for this home."""
    found = {}
    for pid, _ in croft.processes():
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                argv = f.read().decode(errors="replace").split("\0")
            uuid = argv[argv.index("-uuid") + 1] if "-uuid" in argv else argv[1] if argv[0].endswith("/croft-vm") else None
            if uuid and ("-uuid" in argv) == (program == "qemu") and os.path.exists(folder(croft, uuid)):
                found[pid] = uuid       # another home may have drawn the same range of uids
    return found


def folder(croft, vm):
    return f"{croft.home}/run/vm/{vm if isinstance(vm, str) else vm['id']}"


def locked(croft, uuid):
    with contextlib.suppress(FileNotFoundError), open(f"{folder(croft, uuid)}/alive", "rb") as f:
        lock = fcntl.fcntl(f, fcntl.F_OFD_GETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
        return struct.unpack_from("h", lock)[0] != fcntl.F_UNLCK
    return False


def settled(croft, *under_way):
    """All tasks but these have ended, and no VM is on its way to a state."""
    api = croft.client()

    def still():
        return api.get("/host")["agent"]["tasks_open"] == len(under_way) and all(
            v["status"]["state"] in (*ALIVE, "off", "suspended") for v in api.items("/vms"))
    try:
        wait_for("tasks and VMs have settled", still, 40)
    except AssertionError:
        print(*((t["id"], t["kind"], t["state"], t["step"], t["target_name"]) for t in api.items("/tasks") if not t["finished"]), sep="\n")
        print(*((v["name"], v["status"]) for v in api.items("/vms")), sep="\n")
        raise
    return {v["id"]: v for v in api.items("/vms")}


def check(croft):
    """Every process has its VM and every VM that is on its one process. Returns the VMs by id."""
    vms = settled(croft)
    wait_for("what ended is gone", lambda: set(running(croft, "qemu").values()) == set(running(croft, "croft-vm").values()), 10)
    pids = list(running(croft, "qemu").values())
    assert len(pids) == len(set(pids)), f"a VM runs twice: {running(croft, 'qemu')}"
    assert sorted(running(croft, "croft-vm").values()) == sorted(pids)
    for uuid, vm in vms.items():
        if vm["config"].get("engine") == "sim":
            continue
        assert (vm["status"]["state"] in ALIVE) == (uuid in pids) == locked(croft, uuid), f"{vm['name']}: {vm['status']}"
        if uuid in pids:
            assert running(croft, "qemu").get(vm["status"]["pid"]) == uuid
    assert set(pids) <= set(vms), f"QEMUs without a VM: {set(pids) - set(vms)}"
    return vms


def check_files(croft, *others):
    """Nothing is left on the datastore or in the run folder of a VM that is no more."""
    vms = {v["id"]: v for v in croft.client().items("/vms") if v["folder"]}
    folders = {v["folder"].removeprefix("[local] ") for v in vms.values()}
    on_disk = {f for f in os.listdir(f"{croft.home}/datastores/local") if f != ".croft-datastore.json"}
    assert on_disk == folders | set(others), (on_disk, folders)
    assert set(os.listdir(f"{croft.home}/run/vm")) <= set(vms)
    for v in vms.values():
        files = set(os.listdir(f"{croft.home}/datastores/local/{v['folder'].removeprefix('[local] ')}"))
        variables = {"uefi-vars.qcow2"} if v["config"]["firmware"] == "uefi" else set()
        variables |= {"memory.croft"} if v["status"]["state"] == "suspended" else set()
        assert files == {".croft-vm", "vm.croft.json"} | {f"{d}.qcow2" for d in v["config"].get("disks", {})} | variables, files


def check_disks(croft):
    """Each disk of a VM is a file of its size. What runs has it open, or it is pending; and has nothing open that is no more."""
    for v in croft.client().items("/vms"):
        if v["config"].get("engine") == "sim":
            continue
        for name, d in v["config"]["disks"].items():
            with open(f"{croft.home}/datastores/local/{d['path'].removeprefix('[local] ')}", "rb") as f:
                (size,) = struct.unpack_from(">Q", f.read(32), 24)
            assert size == d["size_bytes"] or v["pending"], f"{v['name']}: {name} has {size} bytes, not {d['size_bytes']}"
        if v["status"]["state"] in ALIVE:
            with contextlib.suppress(AssertionError):
                wait_for("QEMU has its disks", lambda: not wrong_disks(croft.client().vm(v["name"])), 10)       # noqa: B023
            vm = croft.client().vm(v["name"])
            assert not wrong_disks(vm), (wrong_disks(vm), vm["name"], vm["status"], vm["pending"], vm["pending_reasons"])


def wrong_disks(vm):
    """Those that QEMU has open and the configuration does not have, or the other way round, and that do not wait for anything."""
    opened, folder = set(), f"/proc/{vm['status']['pid']}/fd"
    for fd in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            path = os.path.basename(os.readlink(f"{folder}/{fd}"))
            opened |= {path} if ".qcow2" in path and "uefi" not in path else set()
    pending = {f"{p.split('/')[3]}.qcow2" for p in vm["pending"] if p.startswith("/config/disks/")}
    return (opened ^ {f"{name}.qcow2" for name in vm["config"]["disks"]}) - pending
