"""Suspend with UEFI: the flash banks are part of the memory, and their store is small again from the next start on."""
import os

from test_uefi import MOUNT, VARIABLE, boot, create, image, memory, poweroff, store    # noqa: F401 pylint: disable=unused-import


def test_flash_and_variables_go_along(croft, api, image):      # noqa: F811
    create(api, "u")
    console = boot(api, "u")
    console.command(MOUNT + f"printf '\\007\\000\\000\\000kept' >{VARIABLE}; shell=remembers")
    console.close()
    pss, banks = memory(croft.qemu()[0])
    size = os.stat(store(croft, "u")).st_blocks * 512
    saved = api.post("/vms/u/suspend")["status"]["saved"]
    api.post("/vms/u/start")
    console = api.console("u")
    console.type("\n")
    console.until(b"uefi:~# ")
    assert b"remembers" in console.command("echo $shell") and b"kept" in console.command(f"cat {VARIABLE}")
    after, banks_after = memory(croft.qemu()[0])
    print(f"saved {saved['bytes'] >> 20} MiB; PSS {pss:.0f} -> {after:.0f} MiB, flash banks {banks} -> {banks_after} MiB, "
          f"store {size >> 10} -> {os.stat(store(croft, 'u')).st_blocks >> 1} KiB")
    console.command(f"chattr -i {VARIABLE}; printf '\\007\\000\\000\\000new!' >{VARIABLE}; true")
    console.close()
    poweroff(api, "u")
    console = boot(api, "u")
    value = console.command(MOUNT + f"cat {VARIABLE}")
    assert b"new!" in value or b"kept" in value
    _, banks = memory(croft.qemu()[0])
    size = os.stat(store(croft, "u")).st_blocks * 512
    print(f"started anew: flash banks {banks} MiB, store {size >> 10} KiB")
    assert sum(banks) < 16 and size < 2 << 20, (banks, size)
    console.close()
    poweroff(api, "u")
    api.ok("DELETE", "/vms/u")
