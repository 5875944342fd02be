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

    # croftd saw a KVM when it started.
    status, said = fresh.run("vmctl start any", 40)
    assert status and "failed to initialize kvm" in said, said
    assert fresh.state("any") == "off"

    fresh.ok("systemctl restart croftd", 40)
    facts = fresh.json("vmctl host -o json")["facts"]
    assert facts["accel"] == "tcg" and not facts["kvm"]["usable"] and "/dev/kvm" in facts["kvm"]["reason"], facts["kvm"]
    assert {limit["what"]: limit["available"] for limit in facts["limits"]}["kvm"] is False

    # A VM that was made for KVM is not emulated behind the user's back.
    for name in ("wants", "any"):
        status, said = fresh.run(f"vmctl start {name}", 40)
        assert status and "there is no /dev/kvm" in said, said

    # One that is made now is, and that is said wherever it is shown.
    fresh.create("new", **QUICK)
    status = fresh.vm("new")["status"]
    assert status["accel"] == "tcg" and "no /dev/kvm" in status["accel_reason"], status
    assert "tcg" in fresh.ok("vmctl info new") and "tcg" in fresh.ok("vmctl ls --columns name,status.accel")
    with pytest.raises(AssertionError, match="new is EMULATED"):
        fresh.pid("new")                # what every test here relies on
