"""The Debian package of this machine's kind: what is in it, and its life from install to purge. dpkg really installs it, on
this system with a layer over it that is thrown away. systemd isn't there: tests/lab has it."""
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, f"{TOP}/tests/api")
import tiny                                             # noqa: E402

LATER = "9.0.0~test"
# What systemd would hand down to QEMU, which is a child of a child of croftd, to its harm.
INHERITED = re.compile(r"^(Private|Protect|ReadOnly|ReadWrite|Inaccessible|TemporaryFileSystem|Bind|Root|Restrict|SystemCall|"
                       r"MemoryDeny|LockPersonality|Device|RuntimeDirectory|StateDirectory|Dynamic|User|Delegate=yes)", re.M)

pytestmark = pytest.mark.skipif(bool(os.environ.get("SAN")), reason="the package is built without sanitizers")


def out(*argv, **how):
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False, **how)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


def build(*arguments):
    env = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    return out("make", "-s", "deb", *arguments, cwd=TOP, env=env).split()[-1]


@pytest.fixture(scope="module", name="deb")
def deb_of_this_tree():
    return build()


@pytest.fixture(scope="module", name="unpacked")
def unpacked_deb(deb, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("unpacked"))
    out("dpkg-deb", "-R", deb, folder)
    return folder


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


class Host:
    """This system with a layer over it. What runs there sees the layer as the root of all, and the processes of all."""
    LAYER = """
    mount -t tmpfs -o mode=755 layer "$1"
    mkdir "$1"/{upper,work,root}
    mount -t overlay overlay -o lowerdir=/,upperdir="$1/upper",workdir="$1/work" "$1/root"
    cd "$1/root"
    for d in dev proc sys; do mount --rbind /$d $d; done
    mount -t tmpfs -o mode=755 run run
    mkdir run/debs run/old
    mount --bind "$2" run/debs
    pivot_root . run/old
    umount -l /run/old
    echo ready
    exec sleep infinity
    """

    def __init__(self, folder, debs):
        self.process = subprocess.Popen(["unshare", "-m", "--propagation", "private", "bash", "-euc", self.LAYER, "-", folder, debs],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/")
        if self.process.stdout.readline() != "ready\n":
            pytest.skip(f"no layer can be laid over this system: {self.process.stderr.read()}")
        assert "overlay" in self.run("stat", "-f", "-c", "%T", "/")      # or dpkg would change the system itself

    def argv(self, *argv):
        return ["nsenter", "-t", str(self.process.pid), "-m", "-r", "--wdns=/", *argv]

    def run(self, *argv, status=0, **env):
        done = subprocess.run(self.argv(*argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=120, env={"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "LC_ALL": "C.UTF-8", **env})
        assert done.returncode == status, f"{argv}: {done.returncode}: {done.stdout}"
        return done.stdout

    def dpkg(self, *argv, **how):
        return self.run("dpkg", "--force-confold", *argv, DEBIAN_FRONTEND="noninteractive", **how)

    def stat(self, path):
        return self.run("stat", "-c", "%U %G %a", path).strip()


@pytest.fixture(name="host")
def throw_away_host(deb, tmp_path):
    host = Host(str(tmp_path), os.path.dirname(deb))
    yield host
    host.process.kill()
    host.process.wait()


@contextlib.contextmanager
def croftd(host, log, **env):
    """With what its unit denies to it and all its children; ends as systemctl stop ends it."""
    unit = host.run("cat", "/lib/systemd/system/croftd.service")
    denied = re.findall(r"CAP_(\w+)", "".join(re.findall(r"^CapabilityBoundingSet=~(.*\n)", unit, re.M)).replace(" ", "\n"))
    assert len(denied) > 10 and "\nNoNewPrivileges=yes\n" in unit
    confined = ["setpriv", "--no-new-privs", "--bounding-set", ",".join(f"-{cap.lower()}" for cap in denied)]
    with open(log, "wb") as f:
        p = subprocess.Popen(host.argv(*confined, "/usr/libexec/croft/croftd", "--listen", "127.0.0.1:0"), stdin=subprocess.DEVNULL,
                             stdout=f, stderr=subprocess.STDOUT, env={**os.environ, **env})
    try:
        deadline = time.monotonic() + 30
        while "Guests run by" not in read(log):
            assert p.poll() is None and time.monotonic() < deadline, read(log)
            time.sleep(0.05)
        yield p
    finally:
        p.send_signal(signal.SIGTERM)
        p.wait(30)


def users_of_children(pid, name):
    return [line.split()[1] for line in out("ps", "-eo", "ppid,user:32,comm").splitlines()
            if line.split()[0] == str(pid) and line.split()[2] == name]


def test_contents(deb):
    found = {}
    for line in out("dpkg-deb", "-c", deb).splitlines():
        mode, owner, _, _, _, path = line.split(maxsplit=5)
        assert owner == "root/root", line
        found[path.removeprefix(".")] = mode
    wanted = {f"/usr/libexec/croft/{p}": "-rwxr-xr-x" for p in ("croftd", "croft-front", "croft-vm")}
    wanted |= {"/usr/bin/vmctl": "-rwxr-xr-x", "/usr/sbin/croftd -> ../libexec/croft/croftd": "lrwxrwxrwx"}
    wanted |= {p: "-rw-r--r--" for p in (
        "/usr/libexec/croft/web.bundle", "/lib/systemd/system/croftd.service", "/lib/systemd/system/croft-guests.service",
        "/usr/lib/sysusers.d/croft.conf", "/usr/lib/tmpfiles.d/croft.conf", "/etc/default/croft",
        "/usr/share/man/man1/vmctl.1.gz", "/usr/share/man/man8/croftd.8.gz",
        "/usr/share/bash-completion/completions/vmctl", "/usr/share/doc/croft/copyright",
        "/usr/share/doc/croft/changelog.gz", "/usr/share/lintian/overrides/croft", "/usr/share/doc/croft/README.Debian")}
    assert {p: m for p, m in found.items() if not p.endswith("/")} == wanted


def test_what_it_needs(deb):
    needs = out("dpkg-deb", "-f", deb, "Depends")
    for package in ("qemu-system-arm (>= 1:7.2)", "qemu-utils", "libc6", "libcrypt1", "libgnutls30", "libjansson4",
                    "libmicrohttpd12", "libseccomp2", "libsmartcols1", "libsqlite3-0", "libsystemd0"):
        assert re.search(rf"(^|, ){re.escape(package)}", needs), f"{package}: {needs}"
    assert out("dpkg-deb", "-f", deb, "Recommends").strip() == "qemu-efi-aarch64"
    assert out("dpkg-deb", "--info", deb, "conffiles").split() == ["/etc/default/croft"]


def test_lintian_has_nothing_to_say(deb):
    folder, name = os.path.split(deb)
    assert read(f"{folder}/{name.split('_')[-1].removesuffix('.deb')}.log.lintian") == ""       # (make deb fails by an error)


def test_scripts(unpacked):
    for name in ("preinst", "postinst", "prerm", "postrm"):
        out("sh", "-n", f"{unpacked}/DEBIAN/{name}")
        text = read(f"{unpacked}/DEBIAN/{name}")
        assert not re.search(r"#[A-Z]+#", text), name
        for stopped in re.findall(r"deb-systemd-invoke +(?:stop|restart|try-restart) +(.*)$", text, re.M):
            assert stopped == "croftd.service || true", f"{name}: {stopped}"


def test_units(unpacked):
    unit = read(f"{unpacked}/lib/systemd/system/croftd.service")
    for line in ("Type=notify", "KillMode=process", "OOMPolicy=continue", "Restart=always", "WatchdogSec=60"):
        assert f"\n{line}\n" in unit
    assert not INHERITED.search(unit), INHERITED.search(unit)
    guests = read(f"{unpacked}/lib/systemd/system/croft-guests.service")
    assert re.search(r"^After=croftd.service network.target", guests, re.M)
    assert re.search(r"^ExecStop=/usr/libexec/croft/croftd .*--stop --patience 900$", guests, re.M)


def test_installed(deb, host):
    host.dpkg("-i", f"/run/debs/{os.path.basename(deb)}")
    ids = host.run("id", "croft") + host.run("id", "croft-vm")
    assert re.search(r"\(croft\) gid=\d+\(croft-front\) groups=\d+\(croft-front\)$", ids, re.M)
    assert host.run("getent", "group", "croft").strip().endswith(":")       # nobody of ours is among the users
    assert host.stat("/var/lib/croft") == "root root 700" and host.stat("/run/croft") == "root root 711"
    for unit in ("croftd", "croft-guests"):
        host.run("test", "-e", f"/etc/systemd/system/multi-user.target.wants/{unit}.service")
    said = host.run("systemd-analyze", "verify", *(f"/lib/systemd/system/{u}.service" for u in ("croftd", "croft-guests")))
    assert "croft" not in said, said
    version = out("dpkg-deb", "-f", deb, "Version").strip()
    assert host.run("croftd", "--version") == f"croftd {version}\n" and host.run("vmctl", "--version") == f"vmctl {version}\n"
    for page in ("vmctl.1", "croftd.8"):
        text = host.run("sh", "-c", f"zcat /usr/share/man/man{page[-1]}/{page}.gz | man -E UTF-8 --warnings -l -")
        assert "NAME" in text and "warning" not in text, text


def test_as_systemd_sees_it(deb, host, tmp_path):
    host.dpkg("-i", f"/run/debs/{os.path.basename(deb)}")
    assert "RestartPreventExitStatus=2" in host.run("cat", "/lib/systemd/system/croftd.service")
    assert "try croftd --help" in host.run("croftd", "--wrong", status=2)
    assert "is no IP address" in host.run("croftd", "--listen", "nowhere:1", status=2)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(f"\0croft-test-{os.getpid()}")
        notify.settimeout(20)
        with croftd(host, f"{tmp_path}-log", NOTIFY_SOCKET=f"@croft-test-{os.getpid()}", WATCHDOG_USEC="1000000"):
            seen = [notify.recv(4096).decode() for _ in range(4)]
    assert "READY=1" in seen and seen.count("WATCHDOG=1") >= 2, seen
    host.run("/usr/bin/python3", "-c", "import sqlite3\ndb = sqlite3.connect('/var/lib/croft/croft.db')\n"
             "db.execute('PRAGMA user_version = 1000')")
    assert "was written by a newer Croft" in host.run("croftd", status=2)


def test_life(deb, host, tmp_path_factory):
    later = f"/run/debs/{os.path.basename(build(f'VERSION={LATER}'))}"
    now, log = f"/run/debs/{os.path.basename(deb)}", str(tmp_path_factory.mktemp("log") / "log")
    host.dpkg("-i", now)
    with croftd(host, log) as p:
        assert "password" in read(log) and "vmctl user set admin" in read(log) and "Log in as" not in read(log)
        assert users_of_children(p.pid, "croft-front") == ["%d" % int(host.run("id", "-u", "croft"))] or \
            users_of_children(p.pid, "croft-front") == ["croft"]
        assert host.run("vmctl", "user", "ls", "-o", "name") == "admin\n"
        kernel = os.path.join(os.path.dirname(log), "tiny.bin")
        with open(kernel, "wb") as f:
            f.write(tiny.IMAGE)
        host.run("vmctl", "file", "upload", kernel, "[local] tiny.bin")
        host.run("vmctl", "create", "t", "memory=64MiB", "kernel=[local] tiny.bin", "display=none", "--start")
        vm = json.loads(host.run("vmctl", "info", "t", "-o", "json"))
        launch = json.loads(host.run("cat", f"/run/croft/vm/{vm['id']}/launch.json"))
    alive = lambda: read(f"/proc/{launch['pid']}/comm").startswith("vm:")      # noqa: E731

    assert alive() and "1 VM runs on" in read(log) and "systemctl stop croft-guests" in read(log)
    host.dpkg("-i", later)
    with croftd(host, log):
        assert host.run("vmctl", "--version") == f"vmctl {LATER}\n"
        assert json.loads(host.run("vmctl", "info", "t", "-o", "json"))["status"]["state"] == "running"
    said = host.dpkg("-i", now, status=1)
    assert "is older than " + LATER in said and "virtual machines run on" in said
    assert host.run("croftd", "--version") == f"croftd {LATER}\n" and alive()
    assert "1 virtual machine(s) run on without the agent" in host.dpkg("-r", "croft") and alive()
    assert "is older than " + LATER in host.dpkg("-i", now, status=1)
    host.dpkg("-i", later)
    assert "1 virtual machine(s) still run" in host.dpkg("-P", "croft", CROFT_PURGE_VMS="yes")
    host.dpkg("-i", later)
    said = host.run("/usr/libexec/croft/croftd", "--stop")
    assert "t: off" in said and not os.path.exists(f"/proc/{launch['pid']}")
    said = host.dpkg("-P", "croft")
    assert "/var/lib/croft is kept" in said and "run on" not in said
    host.run("test", "-e", "/var/lib/croft/datastores/local/tiny.bin")
    host.run("test", "!", "-e", "/etc/default/croft")
    host.dpkg("-i", later)
    host.dpkg("-P", "croft", CROFT_PURGE_VMS="yes")
    host.run("test", "!", "-e", "/var/lib/croft")
