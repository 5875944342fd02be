"""A guest that UEFI boots from a disk, under KVM."""
from hosted import prompt, UEFI


def test_boots_by_uefi(croft):
    croft.create("own", **UEFI)
    console = croft.client().console("own")
    prompt(console, "uefi")
    croft.pid("own")
    assert b"KVM: hypervisor services detected" in console.command("dmesg | grep -i smccc")
    assert b"EFI v2" in console.command("dmesg | grep -i 'efi v'")
    croft.ok("vmctl shutdown own", 60)          # by ACPI
    assert croft.vm("own")["status"]["last_end"]["why"] == "guest-shutdown"
