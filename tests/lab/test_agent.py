"""croftd dies in every way there is under a running guest, systemd brings it back, and the guest has not noticed."""
import pytest

from hosted import QUICK, prompt

DROP_IN = "/run/systemd/system/croftd.service.d"


@pytest.fixture(scope="module")
def guest(croft):
    croft.create("guest", **QUICK)
    console = croft.client().console("guest")
    prompt(console)
    console.command("echo from-before >/tmp/kept")
    console.close()
    return croft.pid("guest")


def back(croft, before, seconds=15):
    """Waits for another croftd, which answers."""
    croft.wait(f"p=$(systemctl show -P MainPID croftd) && [ $p != 0 ] && [ $p != {before} ] && systemctl is-active -q croftd", seconds)
    return croft.agent()


def unharmed(croft, guest):
    croft.wait_state("guest", "running")
    assert croft.pid("guest") == guest, "another process"
    console = croft.client().console("guest")
    prompt(console)                        # from the history
    assert b"from-before" in console.command("cat /tmp/kept")
    console.close()
    assert croft.ok("ls /sys/fs/cgroup/machine.slice | grep -c croft-vm").strip() == "1"


@pytest.mark.parametrize("how", ["kill -KILL", "kill -SEGV"])
def test_killed_and_crashed(croft, guest, how):
    before = croft.agent()
    croft.ok(f"{how} {before}")
    back(croft, before)
    unharmed(croft, guest)


def test_restarted(croft, guest):
    before = croft.agent()
    croft.ok("systemctl restart croftd", 40)
    assert croft.agent() != before
    unharmed(croft, guest)


def test_away_for_a_while(croft, guest):
    croft.ok("systemctl stop croftd", 40)
    assert croft.run("vmctl ls", 10)[0], "somebody answers"
    assert croft.ok(f"cat /proc/{guest}/comm")
    croft.start()
    unharmed(croft, guest)


def test_hanging(croft, guest):
    """systemd's watchdog ends a croftd that stands still."""
    croft.ok(f"""mkdir -p {DROP_IN}; printf '[Service]\\nWatchdogSec=10\\n' >{DROP_IN}/lab.conf
        systemctl daemon-reload; systemctl restart croftd""", 60)
    try:
        before = croft.agent()
        croft.ok(f"kill -STOP {before}")
        back(croft, before, 40)
        assert "Watchdog timeout" in croft.ok("journalctl -b -u croftd --no-pager -o cat -n 50")
        unharmed(croft, guest)
    finally:
        croft.ok(f"rm -r {DROP_IN}; systemctl daemon-reload; systemctl restart croftd", 40)     # (its watchdog, too, is as it was)


def test_its_front_dies(croft, guest):
    front = croft.json("vmctl host -o json")["agent"]["front_pid"]
    croft.ok(f"kill -KILL {front}")
    croft.wait(f"""vmctl host -o json | grep '"front_pid"' | grep -vE ': (0|{front})[,$]'""", 10)
    unharmed(croft, guest)
