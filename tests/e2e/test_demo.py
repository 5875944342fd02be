"""The demo guest from its first boot to its last word, over TLS and over the unix socket."""
import time


def test_boots_and_answers_over_the_unix_socket(demo):
    client = demo.client()
    client.wait_state("demo", "running")
    console = client.console("demo")
    console.until(b"Booting Linux")
    console.until(b"demo login:")
    console.until(b"demo:~# ")
    assert b"aarch64" in console.command("uname -m")
    console.close()


def test_answers_over_tls(demo):
    client = demo.client(tls=True)
    client.login()
    console = client.console("demo")
    console.until(b"demo login:")           # from the history
    assert b"3628800" in console.command("echo $((1*2*3*4*5*6*7*8*9*10))")
    console.close()


def test_two_viewers_see_the_same(demo):
    a, b = demo.client().console("demo"), demo.client().console("demo")
    a.until(b"demo login:")
    b.until(b"demo login:")
    a.type("echo se\"\"en-by-both\n")
    a.until(b"\nseen-by-both")
    b.until(b"\nseen-by-both")
    a.close()
    b.close()


def test_survives_the_death_of_croftd(demo):
    client = demo.client()
    console = client.console("demo")
    console.until(b"demo login:")
    console.command("echo before > /tmp/kept")
    console.close()
    before = demo.qemu()
    assert len(before) == 1

    demo.kill()
    time.sleep(0.2)
    assert demo.qemu() == before, "the VM died with croftd"
    demo.start()

    client = demo.client()
    client.wait_state("demo", "running")
    assert demo.qemu() == before, "it was started twice, or anew"
    console = client.console("demo")
    console.until(b"demo login:")           # the history is there
    assert b"before" in console.command("cat /tmp/kept")
    console.close()


def test_survives_the_end_of_croftd(demo):
    before = demo.qemu()
    assert len(before) == 1
    demo.end()
    assert "1 VM runs on" in demo.log and "--stop" in demo.log
    assert demo.qemu() == before
    demo.start()
    demo.client().wait_state("demo", "running")
    assert demo.qemu() == before


def test_power(demo):
    client = demo.client()
    client.post("/vms/demo/pause")
    assert client.vm("demo")["status"]["state"] == "paused"
    client.post("/vms/demo/resume")
    assert client.vm("demo")["status"]["state"] == "running"

    first = demo.qemu()
    client.post("/vms/demo/reset")
    console = client.console("demo")
    console.until(b"Booting Linux")         # of the first boot
    console.until(b"Booting Linux")
    console.until(b"demo:~# ")
    assert demo.qemu() == first

    client.post("/vms/demo/shutdown")       # the guest hears its power button
    client.wait_state("demo", "off", 40)
    assert not demo.qemu()
    assert b"The power button was pressed" in demo.client().console("demo").until(b"was pressed")

    client.post("/vms/demo/start")
    console = client.console("demo")
    console.until(b"demo:~# ")
    client.post("/vms/demo/poweroff")
    client.wait_state("demo", "off")
    assert not demo.qemu()


def test_stop_shuts_the_guest_down(demo):
    client = demo.client()
    client.post("/vms/demo/start")
    client.console("demo").until(b"demo:~# ")
    said = demo.stop()
    assert "demo: asked to shut down" in said and "demo: off" in said and "powered off" not in said
    assert not demo.processes()
    demo.start()
    assert demo.client().vm("demo")["status"]["state"] == "off"
