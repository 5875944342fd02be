"""Two homes side by side on one machine, and what a second start finds."""
import os
import signal
import subprocess

import pytest

from croft import GUEST, O, croftd


@pytest.fixture
def two():
    with croftd("--demo", GUEST) as a, croftd("--demo", GUEST) as b:
        yield a, b


def test_side_by_side(two):
    a, b = two
    for c in two:
        console = c.client().console("demo") if c.client().wait_state("demo", "running") else None
        console.until(b"demo:~# ", 90)
        console.command(f"echo {c.port} > /tmp/whose")
        console.close()
    assert not set(a.uids()) & set(b.uids())
    assert not {p for p, _ in a.processes()} & {p for p, _ in b.processes()}
    a.stop()
    assert not a.processes()
    assert b.client().vm("demo")["status"]["state"] == "running"
    assert str(b.port).encode() in b.client().console("demo").command("cat /tmp/whose")


def test_a_second_start_finds_what_was_left(fresh):
    client = fresh.client()
    client.post("/vms", {"name": "one", "config": {"engine": "sim"}})
    uids, password, port = fresh.uids(), fresh.password, fresh.port
    with open(f"{fresh.home}/tls/certificate.pem", encoding="ascii") as f:
        certificate = f.read()
    fresh.stop()
    fresh.start()
    assert "password" not in fresh.log[fresh.log_start:]
    assert (fresh.uids(), fresh.port) == (uids, port)
    with open(f"{fresh.home}/tls/certificate.pem", encoding="ascii") as f:
        assert f.read() == certificate
    tls = fresh.client(tls=True)
    tls.login(password=password)
    assert [vm["name"] for vm in tls.items("/vms")] == ["one"]


def test_one_croftd_a_home(fresh):
    second = subprocess.run([f"{O}/croftd", "--home", fresh.home, "--listen", "127.0.0.1:0"], stdin=subprocess.DEVNULL,
                            capture_output=True, text=True, timeout=60)
    assert second.returncode == 1
    assert f"process {fresh.process.pid}" in second.stderr and "make stop" in second.stderr
    assert fresh.client().get("/vms")["items"] == []


def test_no_accounts_are_made(fresh):
    for path in ("/etc/passwd", "/etc/group"):
        with open(path, encoding="utf-8") as f:
            assert "croft" not in f.read()
    assert os.stat(fresh.home).st_mode & 0o777 == 0o700


def test_stop_where_nothing_runs(tmp_path):
    result = subprocess.run([f"{O}/croftd", "--home", f"{tmp_path}/none", "--stop"], stdin=subprocess.DEVNULL,
                            capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and "no VM" in result.stdout, result


def test_a_croftd_that_hangs_keeps_no_guest_from_being_shut_down():
    with croftd("--demo", GUEST) as c:
        c.client().wait_state("demo", "running")
        os.kill(c.process.pid, signal.SIGSTOP)
        result = subprocess.run([f"{O}/croftd", "--home", c.home, "--stop"], stdin=subprocess.DEVNULL,
                                capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, result.stderr
        assert f"process {c.process.pid}) has not ended" in result.stdout and "demo: off" in result.stdout
        assert c.process.wait(5) == -signal.SIGKILL and not c.processes()
