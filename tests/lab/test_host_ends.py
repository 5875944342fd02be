"""The host is powered off and rebooted: its guests are shut down before, and come back after."""
import pytest

from hosted import QUICK, prompt


@pytest.fixture(autouse=True)
def machine(emulated):
    """(a machine can't reboot itself and go on with its test)"""


def drained(croft):
    """What is known after the host has come up again."""
    said = croft.ok("journalctl -b -1 -u croft-guests --no-pager -o cat")
    for name in ("guest", "idle"):
        assert f"{name}: asked to shut down" in said and f"{name}: off" in said, said
    assert "powered off" not in said, "somebody had to be killed"
    assert croft.state("idle") == "off"
    croft.wait_state("guest", "running")        # autostart
    croft.pid("guest")
    prompt(croft.client().console("guest"))


def test_powered_off_and_rebooted(fresh):
    fresh.create("guest", autostart="true", **QUICK)
    fresh.create("idle", **QUICK)
    for name in ("guest", "idle"):
        prompt(fresh.client().console(name))
    fresh.host.power_off()
    fresh.host.power_on()
    fresh.host.booted()
    drained(fresh)

    fresh.ok("vmctl start idle", 20)
    prompt(fresh.client().console("idle"))
    fresh.host.reboot()
    drained(fresh)
