"""A guest's life under KVM: it boots, is typed into, hears every power action, and has neither rights nor more than its
share."""
import pytest

from hosted import QUICK, prompt


@pytest.fixture(scope="module")
def guest(croft):
    croft.create("guest", **QUICK)
    console = croft.client().console("guest")
    prompt(console)
    yield console
    console.close()


def test_boots_by_kvm(croft, guest):
    croft.pid("guest")
    assert b"KVM: hypervisor services detected" in guest.command("dmesg | grep -i smccc")
    assert b"aarch64" in guest.command("uname -m")


def test_typed_into_from_outside(croft, guest):
    assert b"3628800" in guest.command("echo $((1*2*3*4*5*6*7*8*9*10))")


def test_console_inside(croft, guest):
    """vmctl console on the host itself: what is typed is answered."""
    said = croft.ok("""mkfifo /tmp/typed; exec 3<>/tmp/typed
        vmctl console guest </tmp/typed >/tmp/said & console=$!
        for i in $(seq 40); do
            echo 'echo $((6*7))x$((6*7))' >&3; sleep 0.5; grep -aq 42x42 /tmp/said && break
        done
        kill $console; cat /tmp/said""", 30)
    assert "demo:~#" in said and "42x42" in said, said


def status_of(croft, pid):
    return dict(line.split(":\t", 1) for line in croft.ok(f"cat /proc/{pid}/status").splitlines())


def test_confinement(croft, guest):
    """What a guest that broke out of QEMU would be, as the kernel sees it."""
    pid = croft.pid("guest")
    keeper = int(status_of(croft, pid)["PPid"])
    assert croft.ok(f"cat /proc/{keeper}/comm").strip() == "croft-vm"
    host = croft.json("vmctl host -o json")["agent"]
    uids = range(host["uid_base"], host["uid_base"] + host["uid_count"])
    for process in (pid, keeper):
        status = status_of(croft, process)
        for kind in ("Inh", "Prm", "Eff", "Amb"):
            assert int(status[f"Cap{kind}"], 16) == 0, f"{status['Name']}: Cap{kind}"
        assert set(status["Uid"].split()) == set(status["Gid"].split()) or status["Name"].startswith("croft"), status
        assert "0" not in status["Uid"].split() + status["Gid"].split()
        assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2", status["Name"]
    assert int(status_of(croft, pid)["Uid"].split()[0]) in uids
    own = croft.ok(f"readlink /proc/{pid}/ns/mnt /proc/1/ns/mnt").split()
    assert own[0] != own[1], "QEMU sees this host's mounts"
    assert croft.ok(f"ls -A /proc/{pid}/root/").split() == "bin dev lib proc sbin usr".split()
    assert croft.ok(f"ls -A /proc/{pid}/root/dev").split() == "full kvm null random urandom zero".split()
    assert croft.run(f"touch /proc/{pid}/root/usr/lab")[0], "QEMU's /usr can be written"
    held = croft.ok(f"find /proc/{pid}/fd -lname '/*' -printf '%l\\n'")
    assert "croft.db" not in held and "/tls/" not in held, held


def test_its_scope(croft, guest):
    """One scope a guest, below machine.slice, with croft-vm and QEMU in it and nothing else."""
    pid, uuid = croft.pid("guest"), croft.vm("guest")["id"]
    scope = f"/machine.slice/croft-vm-{uuid}.scope"
    assert croft.ok(f"cat /proc/{pid}/cgroup").strip() == f"0::{scope}"
    inside = {int(p) for p in croft.ok(f"cat /sys/fs/cgroup{scope}/cgroup.procs").split()}
    assert inside == {pid, int(status_of(croft, pid)["PPid"])}
    assert croft.json("vmctl host -o json")["facts"]["scope_problem"] is None


def used(croft, scope, seconds=4):
    """Percent of one CPU that a scope has used."""
    said = croft.ok(f"""cd /sys/fs/cgroup{scope}
        for i in 1 2; do cat /proc/uptime; grep usage_usec cpu.stat; [ $i = 2 ] || sleep {seconds}; done""", 20).split()
    (t0, u0), (t1, u1) = ((float(said[i]), int(said[i + 3])) for i in (0, 4))
    return (u1 - u0) / 10000 / (t1 - t0)


def test_its_limits_hold(croft, guest):
    scope = f"/machine.slice/croft-vm-{croft.vm('guest')['id']}.scope"
    guest.command("while :; do :; done & echo")
    free = used(croft, scope)
    croft.ok("vmctl set guest cpu_limit_percent=20 cpu_weight=50", 20)
    assert croft.wait(f"grep 20000 /sys/fs/cgroup{scope}/cpu.max", 5).split() == ["20000", "100000"]
    assert croft.ok(f"cat /sys/fs/cgroup{scope}/cpu.weight").strip() == "50"
    limited = used(croft, scope)
    croft.ok("vmctl set guest cpu_limit_percent=0 cpu_weight=100", 20)
    croft.wait(f"grep max /sys/fs/cgroup{scope}/cpu.max", 5)
    again = used(croft, scope)
    assert free > 50 and again > 50 and limited < 25, f"{free:.0f} %, limited to 20: {limited:.0f} %, then {again:.0f} %"
    guest.command("kill %1; kill $!")


def test_power(croft, guest):
    """Every power action, said on the host."""
    first = croft.pid("guest")
    croft.ok("vmctl pause guest", 20)
    assert croft.state("guest") == "paused"
    croft.ok("vmctl resume guest", 20)
    assert b"still" in guest.command("echo still")

    croft.ok("vmctl reset guest", 20)
    prompt(guest)
    assert croft.pid("guest") == first

    croft.ok("vmctl shutdown guest", 40)
    assert croft.state("guest") == "off" and croft.vm("guest")["status"]["last_end"]["why"] == "guest-shutdown"
    assert croft.run(f"ls -d /proc/{first} /sys/fs/cgroup/machine.slice/croft-vm-*")[0], "a process or a scope is left"

    croft.ok("vmctl start guest", 20)
    console = croft.client().console("guest")
    prompt(console)
    croft.ok("vmctl reboot guest", 60)
    assert croft.pid("guest") != first
    croft.ok("vmctl poweroff guest", 20)
    croft.wait_state("guest", "off")
    assert croft.vm("guest")["status"]["last_end"]["why"] == "poweroff"
