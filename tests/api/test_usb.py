"""USB devices of the host, on a host that has none (tests/lab/test_usb.py has some): the list, what is absent, what has to
wait."""
import json
import subprocess
import uuid

import pytest
import tiny
from croft import O


@pytest.fixture(scope="module", autouse=True)
def kernel(croft):
    tiny.upload(croft.client())


@pytest.fixture
def name(api):
    name = "u" + uuid.uuid4().hex[:8]
    yield name
    if api.get(f"/vms/{name}")["status"]["state"] != "off":
        api.post(f"/vms/{name}/poweroff")
    api.ok("DELETE", f"/vms/{name}")


STICK = {"vendor": "0951", "product": "1666"}


def change(api, name, **config):
    return api.ok("PATCH", f"/vms/{name}", {"config": config})


def test_vmctl_lists_them(croft, api):
    run = subprocess.run([f"{O}/vmctl", "--socket", croft.socket, "usb", "-o", "json"], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == api.items("/host/usb")


def test_the_hosts_devices(api):
    for device in api.items("/host/usb"):
        assert device["port"] and len(device["vendor"]) == len(device["product"]) == 4 and not device["vm"]


def test_an_absent_device_is_no_obstacle(croft, api, name):
    api.post("/vms", {"name": name, "config": tiny.config(usb={"stick": STICK}), "start": True})
    vm = api.wait_state(name, "running")
    assert not vm["pending"]
    (stick,) = vm["status"]["usb"]
    assert stick.pop("as_of")
    assert stick == {"name": "stick", "state": "absent", "port": None, "bus": 0, "address": 0, "vm": None, "problem": None}
    vm = change(api, name, usb={"stick": {"product": "1667"}, "modem": {"port": "1-1.2"}})
    assert not vm["pending"] and [u["name"] for u in vm["status"]["usb"]] == ["stick", "modem"]
    croft.kill()
    croft.start()
    vm = api.wait_state(name, "running")
    assert not vm["pending"]
    vm = change(api, name, usb={"stick": None, "modem": None})
    assert not vm["pending"] and not vm["status"]["usb"]
    assert not change(api, name, usb={"stick": STICK})["pending"], "its controller is still there"


def test_without_a_controller_it_waits_for_the_next_start(api, name):
    api.post("/vms", {"name": name, "config": tiny.config(), "start": True})
    api.wait_state(name, "running")
    vm = change(api, name, usb={"stick": STICK})
    assert vm["pending"] == ["/config/usb/stick"]
    assert vm["pending_reasons"] == {"/config/usb/stick": "it was started without a USB controller; it gets one at its next start"}
    assert vm["status"]["usb"][0]["problem"]
    vm = change(api, name, usb={"stick": None})
    assert not vm["pending"] and not vm["pending_reasons"]


def test_a_device_is_told_by_what_it_is_or_by_its_port(api, name):
    problem = api.problem(422, "POST", "/vms", {"name": "x" + name, "config": tiny.config(usb={"stick": {"vendor": "0951"}})})
    assert problem["errors"][0]["pointer"] == "/config/usb/stick"
    api.post("/vms", {"name": name, "config": {"engine": "sim", "usb": {"stick": STICK}}, "start": True})
    assert api.wait_state(name, "running")["status"]["usb"][0]["state"] == "absent"
