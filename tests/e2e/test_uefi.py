"""UEFI with a memory: what a guest keeps in UEFI variables outlives every end, and the two flash banks cost a VM little."""
import os
import re
import subprocess

import pytest

from croft import GUEST

VARIABLE = "/sys/firmware/efi/efivars/Croft-6f50ac11-1111-4111-8111-000000000001"
MOUNT = "for i in 1 2 3 4 5 6 7 8 9; do mount -t efivarfs none /sys/firmware/efi/efivars && break; sleep 1; done; "


@pytest.fixture(scope="module")
def image(croft):
    with open(f"{GUEST}/uefi.qcow2", "rb") as f:
        croft.client().ok("PUT", "/datastores/local/files/uefi.qcow2", f.read(), Content_Type="application/octet-stream")


def create(api, name):
    api.post("/vms", {"name": name, "config": {
        "memory_bytes": 512 << 20, "display": "none", "disks": {"disk0": {"source": "[local] uefi.qcow2"}}}})


def boot(api, name):
    api.post(f"/vms/{name}/start")
    console = api.console(name)
    console.until(b"uefi login:", 120)
    console.until(b"uefi:~# ")
    return console


def poweroff(api, name):
    api.post(f"/vms/{name}/poweroff")
    api.wait_state(name, "off")


def memory(pid):
    """MiB: that is the process's own (PSS), and that is resident in mappings of 64 MiB, which are the flash banks."""
    with open(f"/proc/{pid}/smaps", encoding="ascii") as f:
        sizes = [int(n) for n in re.findall(r"^(?:Size|Rss|Pss): +(\d+) kB", f.read(), re.M)]
    mappings = list(zip(sizes[0::3], sizes[1::3], sizes[2::3]))
    return sum(m[2] for m in mappings) / 1024, [rss / 1024 for size, rss, _ in mappings if size == 65536]


def store(croft, name):
    return f"{croft.home}/datastores/local/{name}/uefi-vars.qcow2"


def firmware(api, name):
    api.post(f"/vms/{name}/start")
    api.console(name).until(b"BdsDxe: starting", 60)


def test_a_variable_outlives_a_poweroff_and_the_flash_is_small(croft, api, image):
    create(api, "small")
    firmware(api, "small")
    print("at the firmware: PSS %.0f MiB, flash banks %s MiB" % memory(croft.qemu()[0]))
    poweroff(api, "small")

    console = boot(api, "small")
    pss, banks = memory(croft.qemu()[0])
    print("booted: PSS %.0f MiB, flash banks %s MiB" % (pss, banks))
    assert len(banks) == 2 and sum(banks) < 16, banks
    assert b"written" in console.command(MOUNT + f"printf '\\007\\000\\000\\000kept' >{VARIABLE} && echo writ''ten")
    poweroff(api, "small")                      # SIGKILL, at once: nothing of QEMU is written back

    path = store(croft, "small")
    subprocess.run(["qemu-img", "check", "-q", path], check=True)
    assert b"kept" in boot(api, "small").command(MOUNT + f"cat {VARIABLE}")
    poweroff(api, "small")

    # A store as older versions made it, or full of zeros as a suspend leaves it: the start makes it small first.
    os.rename(path, path + ".fine")
    subprocess.run(["qemu-img", "convert", "-S", "0", "-O", "qcow2", path + ".fine", path], check=True)
    assert os.stat(path).st_blocks * 512 > 60 << 20
    firmware(api, "small")
    assert sum(memory(croft.qemu()[0])[1]) < 16 and os.stat(path).st_blocks * 512 < 2 << 20
    poweroff(api, "small")
    assert sorted(os.listdir(os.path.dirname(path))) == [".croft-vm", "disk0.qcow2", "uefi-vars.qcow2", "uefi-vars.qcow2.fine", "vm.croft.json"]
    assert b'"cluster-size": 512' in subprocess.check_output(["qemu-img", "info", "--output=json", path])
    subprocess.run(["qemu-img", "convert", "-O", "raw", path, path + ".fine"], check=True)
    with open(path + ".fine", "rb") as f:
        assert "Croft\0".encode("utf-16-le") + b"kept" in f.read()

    # One that can't be made small is started with as it is: here something has the name of its temporary file.
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", path + ".fine", path], check=True)
    os.unlink(path + ".fine")
    large, in_the_way = os.stat(path).st_ino, f"{os.path.dirname(path)}/.croft-new-{api.vm('small')['id']}"
    os.mkdir(in_the_way)
    firmware(api, "small")
    poweroff(api, "small")
    assert os.stat(path).st_ino == large and "UEFI variables of small are not made small" in croft.log
    os.rmdir(in_the_way)

    # It goes with the VM, as does what a croftd that was killed has left.
    with open(in_the_way, "wb"):
        pass
    api.ok("DELETE", "/vms/small")
    assert not os.path.exists(os.path.dirname(path))


def test_all_vms_share_the_code(croft, api, image):
    """One copy in memory, 2 MiB in all."""
    def code(pid):
        found = [f"/proc/{pid}/fd/{n}" for n in os.listdir(f"/proc/{pid}/fd")
                 if os.readlink(f"/proc/{pid}/fd/{n}").startswith("/memfd:uefi-code")]
        return [os.stat(path).st_ino for path in found]

    for name in ("one", "two"):
        create(api, name)
        api.post(f"/vms/{name}/start")
    one, two = croft.qemu()
    assert len(set(code(one))) == 1 and set(code(one)) == set(code(two)) == set(code(croft.process.pid))
    for name in ("one", "two"):
        poweroff(api, name)
        api.ok("DELETE", f"/vms/{name}")
