"""The real qemu-guest-agent in a real guest: what it tells is shown, what it is asked happens, and a guest that was frozen
is thawed whatever becomes of croftd."""
import contextlib
import time

import pytest
from agent_guest import config, guest, upload, upload_disk, wait_agent
from croft import SLOW, croftd, wait_for


@pytest.fixture(scope="module")
def croft():
    """A croftd with the guest and an ext4 disk."""
    with croftd() as c:
        api = c.client()
        upload(api)
        upload_disk(api)
        api.post("/vms", {"name": "vm", "start": True, "config": config(
            disks={"data": {"source": "[local] data.qcow2"}}, nics={"lan": {}})})
        wait_agent(api, "vm")
        with contextlib.closing(api.console("vm")) as console:
            console.until(b"automatic login")
            console.command("mount -t ext4 /dev/vda /mnt && echo old >/mnt/file")
        yield c


@pytest.fixture
def console(croft):
    with contextlib.closing(croft.client().console("vm")) as c:
        yield c


def wait_told(api):
    """All is told: its lease and its disk, too."""
    def told():
        g = guest(api, "vm")
        return g["file_systems"] and any(a["address"] == "10.0.2.15" for a in g["addresses"]) and g
    return wait_for("its address and disk are told", told, 40)


def failed(api, path):
    """The error of a task that must fail."""
    task = api.get(f"/tasks/{api.request('POST', path).json['id']}", Prefer="wait=60")
    assert task["state"] == "failed", task
    return task["error"]


def frozen(api):
    return guest(api, "vm")["frozen"]


def freeze_and_write(api, console, **how):
    """A write to the frozen ext4, in the background of the guest: says when it was done. (The echo is told from the word.)"""
    console.command("echo old >/mnt/file")
    vm = api.post("/vms/vm/guest/freeze", how)
    console.command("(echo new >>/mnt/file; sync; echo WRI''TTEN) & true")
    return vm


def has_not_written(console):
    assert b"new" not in console.command("cat /mnt/file") and b"WRITTEN" not in console.seen[console.at:]


def test_what_the_guest_tells(croft, api):
    facts = wait_told(api)
    assert facts["hostname"] == "demo" and facts["os"] == "Croft test guest" and "arm64" in facts["kernel"] and facts["version"]
    mac = api.vm("vm")["config"]["nics"]["lan"]["mac"]
    assert {"interface": "eth0", "mac": mac, "address": "10.0.2.15", "prefix": 24} in facts["addresses"]
    assert facts["address"] == "10.0.2.15" and not any(a["interface"] == "lo" for a in facts["addresses"])
    disk, = facts["file_systems"]
    assert disk["mountpoint"] == "/mnt" and disk["type"] == "ext4" and 0 < disk["used_bytes"] < disk["total_bytes"] <= 64 << 20
    assert not facts["frozen"] and facts["as_of"]


def test_frozen_writes_wait(api, console):
    assert freeze_and_write(api, console)["status"]["guest"]["frozen"]
    has_not_written(console)
    assert "frozen already" in failed(api, "/vms/vm/guest/freeze")["detail"]
    assert not api.post("/vms/vm/guest/thaw")["status"]["guest"]["frozen"]
    console.until(b"WRITTEN")
    assert b"new" in console.command("cat /mnt/file")
    assert not api.post("/vms/vm/guest/thaw")["status"]["guest"]["frozen"]       # once more is fine


def test_a_freeze_has_an_end(api, console):
    began = time.monotonic()
    freeze_and_write(api, console, timeout_s=1)
    console.until(b"WRITTEN")
    assert time.monotonic() - began > 0.9
    wait_for("it is thawed", lambda: not frozen(api))


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_the_next_croftd_thaws(croft, console, how):
    freeze_and_write(croft.client(), console)
    has_not_written(console)
    console.close()
    if how == "killed":
        croft.kill()
    else:
        croft.end()
    croft.start()
    api = croft.client()
    facts = wait_agent(api, "vm")
    wait_for("it is thawed", lambda: not frozen(api))
    assert facts["agent"] == "answers"
    with contextlib.closing(api.console("vm")) as again:
        assert b"new" in again.command("sync; cat /mnt/file")
    wait_told(api)


def test_the_clock_after_a_pause(api, console):
    console.command("date -s '2020-01-01 00:00:00'")
    vm = api.post("/vms/vm/pause")
    wait_for("it was paused for more than 5 s", lambda: api.get("/host") and time.time() - since(vm) > 6.2, 10)
    api.post("/vms/vm/resume")
    wait_for("the guest's clock is right", lambda: abs(clock(console) - time.time()) < 3 * SLOW)
    console.command("date -s '2021-01-01 00:00:00'")
    api.post("/vms/vm/guest/set-time")
    assert abs(clock(console) - time.time()) < 3 * SLOW


def test_the_clock_of_a_guest_that_was_suspended(api, console):
    console.command("date -s '2020-01-01 00:00:00'")
    api.post("/vms/vm/suspend")
    api.post("/vms/vm/start")
    with contextlib.closing(api.console("vm")) as again:
        wait_for("the guest's clock is right", lambda: abs(clock(again) - time.time()) < 3 * SLOW)
    wait_told(api)


def since(vm):
    """To the second."""
    return time.mktime(time.strptime(vm["status"]["since"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone


def clock(console):
    return int(console.command("date +%s").split()[-1])


def test_an_agent_that_hangs_ends_and_comes_back(api, console):
    console.command("killall -STOP qemu-ga")
    assert failed(api, "/vms/vm/guest/thaw")["type"] == "/problems/timeout"
    assert wait_agent(api, "vm", "silent")["addresses"]             # what was known stays, with its time
    console.command("touch /run/no-agent; killall -9 qemu-ga")
    facts = wait_agent(api, "vm", "absent")
    assert not facts["addresses"] and not facts["os"] and not facts["as_of"]
    problem = api.problem(409, "POST", "/vms/vm/guest/freeze")
    assert "no agent runs" in problem["detail"] and "qemu-guest-agent" in problem["hint"]
    console.command("rm /run/no-agent")
    wait_agent(api, "vm")


def test_events_tell_changes_only(api, console):
    wait_told(api)
    with contextlib.closing(api.events(query="?kinds=vm.changed")) as stream:
        console.command("hostname renamed; dd if=/dev/zero of=/mnt/more bs=1M count=4 2>/dev/null")
        name = wait_for("the new name is told", lambda: (g := guest(api, "vm"))["hostname"] == "renamed" and g, 40)
        assert name["file_systems"]
        _, _, event = next(stream)
        assert event["data"]["status"]["guest"]["hostname"] == "renamed"
    console.command("hostname demo; rm /mnt/more")


def test_an_owner_who_wants_none(croft, api):
    vm = api.ok("PATCH", "/vms/vm", {"config": {"guest_agent": False}})
    assert vm["pending"] == ["/config/guest_agent"] and vm["status"]["guest"]["agent"] == "answers"
    api.post("/vms", {"name": "none", "start": True, "config": config(guest_agent=False)})
    with contextlib.closing(api.console("none")) as console:
        console.until(b"automatic login")
        assert console.command("cat /sys/class/virtio-ports/*/name 2>&1 | grep -c org.qemu").split()[-1] == b"0"
    assert guest(api, "none")["agent"] == "off"
    assert "without a port" in api.problem(409, "POST", "/vms/none/guest/thaw")["detail"]
    api.post("/vms/none/poweroff")
    api.ok("PATCH", "/vms/vm", {"config": {"guest_agent": True}})


def test_shutdown_by_the_agent(croft, api, console):
    """A guest that ignores its power button is told by its agent, after half of the time."""
    console.command("killall -STOP acpid")
    api.post("/vms/vm/shutdown", {"timeout_s": 8})
    assert b"The agent was told" in console.until(b"The agent was told")
    assert api.wait_state("vm", "off")["status"]["last_end"]["why"] == "guest-shutdown"


def test_croftd_stop_by_the_agent(croft, api):
    """The same when the host, or all of this home, is shut down."""
    api.ok("PATCH", "/vms/vm", {"config": {"shutdown": {"timeout_s": 10}}})
    api.post("/vms/vm/start")
    with contextlib.closing(api.console("vm")) as console:
        console.until(b"automatic login")
        wait_agent(api, "vm")
        console.command("killall -STOP acpid")
    said = croft.stop()
    assert "powered off" not in said, said
    api = croft.start().client()
    assert api.vm("vm")["status"]["state"] == "off"
    with contextlib.closing(api.console("vm")) as history:
        assert history.until(b"The agent was told")
