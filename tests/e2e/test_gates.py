"""A gate that is a TCP port of the guest: taken by QEMU long before the guest answers, open only when it does."""
import socket

from croft import GUEST, croftd, wait_for


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_the_next_order_waits_for_a_port():
    with croftd("--demo", GUEST) as c:
        api = c.client()
        api.wait_state("demo", "running")
        api.post("/vms/demo/poweroff")
        port, shut = free_port(), free_port()
        forwards = [{"host_port": port, "guest_port": 80}, {"host_port": shut, "guest_port": 81}]
        api.ok("PATCH", "/vms/demo", {"config": {"autostart": True, "nics": {"net0": {"forwards": forwards}},
                                                 "startup": {"order": 1, "gate": "port", "port": 81, "patience_s": 3600}}})
        api.post("/vms", {"name": "next", "config": {"engine": "sim", "autostart": True, "startup": {"order": 2}}})
        task = api.request("POST", "/host/autostart").json["id"]
        console = api.console("demo")
        console.until(b"demo:~# ", 120)
        console.command("until wget -q -O /dev/null http://127.0.0.1/; do usleep 100000; done", 120)     # its network is up
        console.close()
        with socket.create_connection(("127.0.0.1", shut)):
            pass                                    # which says nothing
        assert api.vm("next")["status"]["state"] == "off", "nobody listens at the port 81"
        api.ok("PATCH", "/vms/demo", {"config": {"startup": {"port": 80}}})
        wait_for("the port is open", lambda: api.get(f"/tasks/{task}")["state"] == "done", 60)
        assert "demo is up" in c.log and api.vm("next")["status"]["state"] == "running"
