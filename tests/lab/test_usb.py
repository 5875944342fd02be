"""USB devices of the host in guests: they come, go and come back as they are plugged into the emulated host from outside."""
import itertools

import pytest

import conftest
import lab
from hosted import QUICK, prompt

numbers = itertools.count(1)


@pytest.fixture(scope="module")
def croft():
    if lab.NATIVE:
        pytest.skip("nobody plugs a USB device into a machine that is in use")
    yield from conftest.given("usb")


def plug(croft, port, serial="LAB1"):
    """A USB stick into a port of the host; its name outside."""
    name = f"stick{next(numbers)}"
    croft.host.monitor.do("blockdev-add", **{"driver": "null-co", "node-name": name, "size": 32 << 20, "read-zeroes": True})
    croft.host.monitor.do("device_add", driver="usb-storage", id=name, drive=name, bus="xhci.0", port=str(port), serial=serial)
    return name


def unplug(croft, name):
    croft.host.monitor.do("device_del", id=name)


def wait_stick(croft, vm, state):
    croft.wait(f"""vmctl info {vm} -o json | python3 -c '
import json, sys
stick = json.load(sys.stdin)["status"]["usb"][0]
print(stick)
sys.exit(stick["state"] != "{state}")'""", 20, f"the stick of {vm} is {state}")
    return croft.vm(vm)["status"]["usb"][0]


def disks(console, there):
    """Waits in the guest until its USB disk has come or gone."""
    test = "-e" if there else "! -e"
    said = console.command(f"for i in $(seq 150); do [ {test} /sys/block/sda ] && break; sleep 0.2; done; ls /sys/block", 60)
    assert (b"sda" in said.splitlines()[-1]) == there, said


def test_it_comes_and_goes_and_comes_back(croft):
    croft.create("guest", **QUICK, **{"usb.stick.vendor": "46f4", "usb.stick.product": "0001", "usb.stick.serial": "LAB1"})
    console = prompt(croft.client().console("guest"))
    assert wait_stick(croft, "guest", "absent")["port"] is None
    other = plug(croft, 2, "LAB2")
    stick = plug(croft, 1)
    assert wait_stick(croft, "guest", "plugged")["port"].endswith("-1")
    disks(console, True)
    devices = {d["serial"]: d for d in croft.json("vmctl usb -o json")}
    assert devices["LAB1"]["vm"] == "guest" and devices["LAB2"]["vm"] is None and devices["LAB1"]["kind"] == "storage"

    unplug(croft, stick)
    wait_stick(croft, "guest", "absent")
    disks(console, False)
    stick = plug(croft, 3)          # another port, the same stick
    assert wait_stick(croft, "guest", "plugged")["port"].endswith("-3")
    disks(console, True)
    console.close()
    unplug(croft, stick)
    unplug(croft, other)
    wait_stick(croft, "guest", "absent")


def test_it_belongs_to_one_vm_and_outlives_croftd(croft):
    stick = plug(croft, 1)
    before = wait_stick(croft, "guest", "plugged")
    croft.create("second", **{**QUICK, "memory": "128MiB"}, **{"usb.stick.port": before["port"]})
    assert wait_stick(croft, "second", "taken")["vm"] == "guest"
    croft.ok("systemctl kill -s KILL croftd; systemctl restart croftd", 60)
    croft.wait_state("guest", "running")
    assert wait_stick(croft, "guest", "plugged")["address"] == before["address"]
    croft.ok("vmctl set guest usb.stick=null", 20)
    assert wait_stick(croft, "second", "plugged")["vm"] == "second"
    croft.ok("vmctl poweroff second; vmctl poweroff guest", 30)
    unplug(croft, stick)
