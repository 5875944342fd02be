"""KVM goes away: nobody can take a guest that is emulated for one that is not."""
import pytest

from hosted import QUICK


@pytest.fixture(autouse=True)
def machine(emulated):
    """(a machine in use keeps its KVM)"""


def test_kvm_goes_away(fresh):
    fresh.create("wants", start=False, accel="kvm", **QUICK)
    fresh.create("any", start=False, **QUICK)
    fresh.ok("mv /dev/kvm /dev/kvm.away")

    # croftd has seen a KVM when it started: it does not emulate behind the user's back.
    status, said = fresh.run("vmctl start any", 40)
    assert status and "failed to initialize kvm" in said, said
    assert fresh.state("any") == "off"

    fresh.ok("systemctl restart croftd", 40)
    facts = fresh.json("vmctl host -o json")["facts"]
    assert facts["accel"] == "tcg" and not facts["kvm"]["usable"] and "/dev/kvm" in facts["kvm"]["reason"], facts["kvm"]
    assert {limit["what"]: limit["available"] for limit in facts["limits"]}["kvm"] is False

    status, said = fresh.run("vmctl start wants", 40)
    assert status and "KVM" in said, said

    fresh.ok("vmctl start any", 40)
    status = fresh.vm("any")["status"]
    assert status["accel"] == "tcg" and status["accel_reason"], status
    assert "tcg" in fresh.ok("vmctl info any") and "tcg" in fresh.ok("vmctl ls --columns name,status.accel")
    with pytest.raises(AssertionError, match="any is EMULATED"):
        fresh.pid("any")                # what every test here relies on
