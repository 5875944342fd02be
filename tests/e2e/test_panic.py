"""A guest whose kernel panics, told by the panic device: kept for inspection, or ended and started again."""
from croft import wait_for

DEVICE = "/sys/bus/pci/devices/0000:00:06.2"


def panic(api):
    """As a guest's driver does it: a 1 to the device's first byte."""
    console = api.console("demo")
    console.type("\n")
    console.until(b"demo:~# ")
    assert b"0x1b360011" in console.command(f"echo $(cat {DEVICE}/vendor)$(cut -c3- {DEVICE}/device)")
    console.command(f"echo 1 >{DEVICE}/enable; at=$(head -1 {DEVICE}/resource | cut -d' ' -f1)")
    console.type("devmem $at 8 1\n")
    console.until(b"$at 8 1")                       # it is there: nothing of it is lost when we leave
    return console


def test_a_panicked_guest(demo):
    api = demo.client()
    api.wait_state("demo", "running")
    console = api.console("demo")
    console.until(b"demo:~# ")
    console.close()
    api.ok("PATCH", "/vms/demo", {"config": {"on_crash": "keep"}})
    panic(api).close()
    kept = api.wait_state("demo", "paused")["status"]
    assert "panicked" in kept["note"] and kept["pid"]
    demo.kill()
    demo.start()                                    # and the next croftd knows it, too
    api = demo.client()
    assert "panicked" in api.wait_state("demo", "paused")["status"]["note"]

    api.ok("PATCH", "/vms/demo", {"config": {"on_crash": "restart"}})
    api.post("/vms/demo/resume")                    # (this one's kernel does not know that it has panicked)
    api.wait_state("demo", "running")
    panic(api).close()
    wait_for("it was started again", lambda: (s := api.vm("demo")["status"])["state"] == "running" and s["pid"] != kept["pid"], 30)
    assert api.vm("demo")["status"]["last_end"]["why"] == "guest-panic"
