"""From this package to the next one, with another door, another protocol of croft-vm and another schema, under a running
guest; and not back."""
import pytest

import hosted
from hosted import QUICK, prompt


@pytest.fixture(autouse=True)
def machine(emulated):
    """(a machine in use keeps its version)"""


def test_upgraded_but_not_downgraded(fresh):
    fresh.create("guest", **QUICK)
    console = fresh.client().console("guest")
    prompt(console)
    console.command("echo from-before >/tmp/kept")
    guest, old = fresh.pid("guest"), fresh.json("vmctl host -o json")["agent"]["version"]

    fresh.install(hosted.package("next", "+next"))
    assert fresh.json("vmctl host -o json")["agent"]["version"] == f"{old}+next"
    fresh.wait_state("guest", "running")
    assert fresh.pid("guest") == guest
    console = fresh.client().console("guest")
    prompt(console)
    assert b"from-before" in console.command("cat /tmp/kept")
    for action in ("pause", "resume"):          # (to a croft-vm of the version before)
        fresh.ok(f"vmctl {action} guest", 20)

    agent = fresh.agent()
    fresh.host.put(hosted.package(), "/root/old.deb")
    status, said = fresh.run("dpkg -i /root/old.deb 2>&1", 90)
    assert status and f"version {old} is older than {old}+next" in said and "virtual machines run on" in said, said
    assert fresh.agent() == agent and fresh.json("vmctl host -o json")["agent"]["version"] == f"{old}+next"
    assert fresh.ok("dpkg-query -W -f '${Version} ${Status}' croft") == f"{old}+next install ok installed"
    assert fresh.pid("guest") == guest and b"from-before" in console.command("cat /tmp/kept")

    fresh.ok("vmctl reboot guest", 60)          # its next run is the new version's
    assert fresh.pid("guest") != guest
