"""A user's own system: a cloud image (qcow2) and an installation CD (ISO) are uploaded, and booted by UEFI."""
import socket

import pytest

from croft import GUEST, SLOW, wait_for


@pytest.fixture(scope="module", autouse=True)
def folders(croft):
    for name in ("images", "iso"):
        croft.client().post(f"/datastores/local/folders/{name}")


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def upload(client, source, target):
    with open(f"{GUEST}/{source}", "rb") as f:
        data = f.read()
    answer = client.request("PUT", f"/datastores/local/files/{target}", data, {"Content-Type": "application/octet-stream"})
    assert answer.status == 201, answer
    assert answer.json["size_bytes"] == len(data)


def greeting(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 2 * SLOW) as s:
            s.settimeout(2 * SLOW)
            return s.recv(100)
    except OSError:
        return b""


def test_cloud_image_with_a_forwarded_ssh_port(croft, api):
    upload(api, "uefi.qcow2", "images/uefi.qcow2")
    port = free_port()
    vm = api.post("/vms", {"name": "own", "start": True, "config": {
        "memory_bytes": 512 << 20, "display": "none",
        "disks": {"disk0": {"source": "[local] images/uefi.qcow2", "size_bytes": 1 << 30}},
        "nics": {"net0": {"forwards": [{"host_port": port, "guest_port": 22}]}}}})
    assert vm["config"]["firmware"] == "uefi"
    console = api.console("own")
    console.until(b"uefi login:", 120)
    console.until(b"uefi:~# ")
    assert b"1048576 vda" in console.command("cat /proc/partitions")          # 1 GiB, as asked for
    assert wait_for("port 22 answers", lambda: greeting(port), 30).startswith(b"SSH-2.0-croft-demo")

    api.post("/vms/own/shutdown")               # by ACPI
    api.wait_state("own", "off", 60)
    assert len(api.items("/datastores/local/files?path=images")) == 1
    api.ok("DELETE", "/vms/own")
    api.problem(404, "GET", "/vms/own")


def test_cd(croft, api):
    upload(api, "uefi.iso", "iso/uefi.iso")
    api.post("/vms", {"name": "fromcd", "start": True, "config": {
        "memory_bytes": 512 << 20, "display": "none",
        "disks": {"disk0": {"size_bytes": 64 << 20}},
        "cdroms": {"cd0": {"iso": "[local] iso/uefi.iso"}}}})
    console = api.console("fromcd")
    console.until(b"cd login:", 120)
    console.until(b"cd:~# ")
    assert b"mounted" in console.command("for i in 1 2 3 4 5 6 7 8 9; do mount -t iso9660 /dev/sr0 /mnt && break; sleep 1; done;"
                                         " cat /mnt/.disk/info && echo mou''nted", 60)
    # What the guest writes to its disk is there after its next start.
    console.command("echo kept-on-disk | dd of=/dev/vda conv=fsync", 30)
    api.post("/vms/fromcd/poweroff")
    api.wait_state("fromcd", "off")
    api.post("/vms/fromcd/start")
    console = api.console("fromcd")
    console.until(b"cd login:", 120)
    console.until(b"cd:~# ")
    assert b"kept-on-disk" in console.command("head -c 12 /dev/vda")
    api.post("/vms/fromcd/poweroff")
    api.ok("DELETE", "/vms/fromcd")


@pytest.mark.parametrize("content", [b"", b"QFI\xfb" + b"\xff" * 600, b"#!/bin/sh\n" * 100], ids=["empty", "junk", "script"])
def test_what_is_no_qcow2_is_refused(croft, api, content):
    answer = api.request("PUT", "/datastores/local/files/images/bad.qcow2?replace=true", content,
                         {"Content-Type": "application/octet-stream"})
    assert answer.status in (200, 201, 422), answer
    answer = api.request("POST", "/vms", {"name": "bad", "config": {"disks": {"disk0": {"source": "[local] images/bad.qcow2"}}}},
                         {"Prefer": "wait=60"})
    assert 400 <= answer.status < 500 and answer.json["detail"], answer
    api.problem(404, "GET", "/vms/bad")
