"""vmctl against a real croftd: what it prints, how it ends, at a terminal and in a script, here and over TLS."""
import contextlib
import hashlib
import json
import os
import pty
import re
import select
import signal
import ssl
import subprocess
import time

import pytest
from croft import GUEST, O, SLOW, TOP, wait_for

GOLDEN = f"{TOP}/tests/golden/vmctl.txt"
OK, FAILED, USAGE, NOT_FOUND, DENIED, CONFLICT, TIMEOUT, CONNECT, TASK_FAILED, TASK_CANCELLED = range(10)


class Vmctl:
    """Runs vmctl for a croftd, with a home of its own for what it remembers."""

    def __init__(self, croft, folder):
        self.croft = croft
        self.env = {"PATH": os.environ["PATH"], "HOME": str(folder), "CROFT_HOME": croft.home, "LANG": "C.UTF-8", "COLUMNS": "120"}

    def __call__(self, *words, status=OK, stdin="", **env):
        """stdout of a vmctl that ends with this status; what it said on stderr is in .said."""
        run = subprocess.run([f"{O}/vmctl", *words], input=stdin, capture_output=True, text=True, timeout=90 * SLOW,
                             env={**self.env, **env}, start_new_session=True)
        self.said = run.stderr
        assert run.returncode == status, f"{words}: {run.returncode}, not {status}\n{run.stdout}{run.stderr}"
        return run.stdout

    def json(self, *words):
        return json.loads(self(*words, "-o", "json"))

    @contextlib.contextmanager
    def terminal(self, *words, **env):
        pid, fd = pty.fork()
        if not pid:
            os.execve(f"{O}/vmctl", ["vmctl", *words], {**self.env, **env})
        t = Terminal(pid, fd)
        try:
            yield t
        finally:
            if t.status is None:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            os.close(fd)


class Terminal:
    def __init__(self, pid, fd):
        self.pid, self.fd, self.text, self.status = pid, fd, "", None

    def read(self, seconds):
        if select.select([self.fd], [], [], seconds)[0]:
            with contextlib.suppress(OSError):      # EIO: the other side has ended
                self.text += os.read(self.fd, 65536).decode(errors="replace")

    def until(self, wanted, seconds=20):
        end = time.monotonic() + seconds * SLOW
        while wanted not in self.text:
            assert time.monotonic() < end, f"no {wanted!r} in {self.text!r}"
            self.read(0.2)

    def type(self, text):
        os.write(self.fd, text.encode())

    def end(self, seconds=20):
        """The exit status."""
        end = time.monotonic() + seconds * SLOW
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.read(0.1)
                self.status = os.waitstatus_to_exitcode(status)
                return self.status
            assert time.monotonic() < end, f"vmctl goes on: {self.text!r}"
            self.read(0.1)


@pytest.fixture
def vmctl(croft, tmp_path):
    return Vmctl(croft, tmp_path)


@pytest.fixture
def sim(vmctl):
    """Makes simulated VMs, and removes them after the test."""
    made = []

    def make(name, *words):
        made.append(name)
        vmctl("create", name, "engine=sim", *words)
        return name
    yield make
    for name in made:
        with contextlib.suppress(AssertionError):
            vmctl("rm", "--force", "--yes", name)


def fingerprint(croft):
    with open(f"{croft.home}/tls/certificate.pem", encoding="ascii") as f:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(f.read())).hexdigest()


# ---- wrong input: a golden file that reads like a document

WRONG = """
# What isn't a command
vmctl strat demo
vmctl frobnicate
vmctl user crate bob
vmctl ls --colums name
vmctl ls -o yaml
vmctl ls a b
vmctl wait web --for runing
vmctl wait web --timeout soon
vmctl completion tcsh

# What isn't there
vmctl info nope
vmctl start nope
vmctl console nope
vmctl task wait 4711
vmctl task cancel x
vmctl file download nope.iso
vmctl file ls nope
vmctl user set nope role=admin

# A VM that can't be
vmctl create
vmctl create bad/name engine=sim
vmctl create new memry=1GiB
vmctl create new cpus=two
vmctl create new cpus=1000
vmctl create new memory=lots
vmctl create new memory=1
vmctl create new firmware=bios
vmctl create new --memory
vmctl create new disk=big
vmctl create new image=debian.iso
vmctl create new forward=22
vmctl create new nic=nowhere
vmctl create new firmware=kernel
vmctl create web engine=sim

# What a VM's state doesn't allow
vmctl shutdown web
vmctl pause web
vmctl resume web
vmctl set web machine=virt-8.0
vmctl set web disks.d.slot=4
vmctl set web colour=blue
vmctl set web cpus=0
vmctl rm web

# Users and tokens
vmctl user create admin
vmctl user create eve password=secret
vmctl user create eve role=god
vmctl token create t user=nobody

# Other hosts
vmctl login
vmctl ls --host example.org:notaport
vmctl ls --host 127.0.0.1:1
vmctl ls --socket /nowhere/croft.sock
vmctl ls --host 127.0.0.1 --socket /x

# Requests of one's own
vmctl api GET /nope
vmctl api POST /vms --data {
vmctl api FLY /vms
"""


def test_the_messages_for_wrong_input(vmctl, sim):
    sim("web")
    lines = ["Wrong input, and what vmctl says. `make golden-accept` writes this file anew.", ""]
    for line in WRONG.strip().splitlines():
        if not line.startswith("vmctl"):
            lines.append(line)
            continue
        run = subprocess.run([f"{O}/vmctl", *line.split()[1:]], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                             env=vmctl.env, timeout=60 * SLOW, start_new_session=True)
        assert run.returncode, f"{line}: that went well: {run.stdout}"
        said = re.sub(r'"request_id": "[^"]*"', '"request_id": "..."', run.stderr).replace(vmctl.croft.home, "HOME")
        lines += [f"$ {line}", *(f"  {x}" for x in said.rstrip().splitlines()), f"  [{run.returncode}]"]
        assert "vmctl: " in run.stderr and len(run.stderr.splitlines()) <= 4, run.stderr
    text = "\n".join(lines) + "\n"
    if os.environ.get("GOLDEN_ACCEPT"):
        with open(GOLDEN, "w", encoding="utf-8") as f:
            f.write(text)
    with open(GOLDEN, encoding="utf-8") as f:
        assert text == f.read(), "tests/golden/vmctl.txt says something else; GOLDEN_ACCEPT=1 writes it anew"


# ---- help

def test_alone_it_shows_the_ten_commands_that_matter(vmctl):
    text = vmctl()
    assert len(re.findall(r"^  vmctl ", text, re.M)) == 10
    for command in re.findall(r"^  vmctl (\S+)", text, re.M):
        assert vmctl("help", command).startswith(f"vmctl {command} ")
        assert vmctl(command, "--help") == vmctl("help", command)


def test_help_and_man_page_know_every_command_and_every_field(vmctl):
    document = vmctl.json("api", "/openapi.json")
    everything = vmctl("help")
    for command in re.findall(r"^  ([a-z][a-z-]*) ", everything, re.M):
        assert vmctl("help", command).startswith(f"vmctl {command}")
    create = vmctl("help", "create")
    for field, schema in document["components"]["schemas"]["VmConfig"]["properties"].items():
        assert re.search(rf"^  {field.removesuffix('_bytes')}\b", create, re.M), field
    assert re.search("^  image ", create, re.M) and not re.search("^  image ", vmctl("help", "set"), re.M)     # see vmctl disk
    man = vmctl("__man")
    assert man.startswith(".TH VMCTL 1") and ".SH EXIT STATUS" in man
    assert vmctl("help", "exit-codes").count("\n") == 10


def test_completion(vmctl, sim):
    sim("compl-1")
    sim("compl-2")
    assert vmctl("__complete", "--", "sta").split() == ["start"]
    assert vmctl("__complete", "--", "start", "compl").split() == ["compl-1", "compl-2"]
    assert "memory=" in vmctl("__complete", "--", "create", "x", "mem").split()
    assert vmctl("__complete", "--", "create", "x", "firmware=").split() == ["firmware=uefi", "firmware=kernel"]
    assert "create" in vmctl("__complete", "--", "user", "").split()
    for shell in ("bash", "zsh", "fish"):
        assert "__complete" in vmctl("completion", shell)
    check = subprocess.run(["bash", "-n"], input=vmctl("completion", "bash"), text=True, capture_output=True)
    assert check.returncode == 0, check.stderr


# ---- VMs

def test_the_life_of_a_vm(vmctl):
    assert vmctl("create", "web", "engine=sim", "cpus=2", "--memory", "1GiB", "labels.env=prod", "disk=10GiB") == "web: off\n"
    assert vmctl("ls", "web", "--no-headers").split() == ["web", "off", "2", "1", "GiB"]
    vm = vmctl.json("info", "web")
    assert vm["config"]["memory_bytes"] == 1 << 30 and vm["labels"] == {"env": "prod"}
    assert vm["config"]["disks"]["disk0"]["size_bytes"] == 10 << 30 and list(vm["config"]["nics"]) == ["nic0"]
    assert vmctl("start", "web") == "web: running\n"
    assert vmctl("pause", "web") == "web: paused\n"
    assert vmctl("resume", "web") == "web: running\n"
    assert vmctl("set", "web", "cpus=3", "description=the web") == "web: running\n"
    assert "next start: cpus" in vmctl.said
    assert vmctl("shutdown", "web", "timeout=30") == "web: off\n"
    assert vmctl("ls", "-o", "name", "w*").split() == ["web"]
    assert vmctl("ls", "--label", "env:prod", "-o", "name").split() == ["web"]
    assert json.loads(vmctl("ls", "-o", "jsonl"))["name"] == "web"
    vmctl("rm", "web", status=USAGE)        # nobody is there to be asked
    vmctl("rm", "web", "--yes")
    assert vmctl.json("ls") == []


def test_several_at_once_end_with_the_worst(vmctl, sim):
    sim("a")
    sim("b")
    assert vmctl("start", "a", "b") == "a: running\nb: running\n"
    assert vmctl("poweroff", "a", "nope", "b", status=NOT_FOUND) == "a: off\nb: off\n"


def test_no_wait_gives_the_task(vmctl, sim):
    sim("a")
    task = json.loads(vmctl("start", "a", "--no-wait", "-o", "json"))
    assert task["kind"] == "vm.start"
    vmctl("task", "wait", str(task["id"]))
    assert vmctl.json("task", "get", str(task["id"]))["state"] == "done"
    assert "vm.start" in vmctl("task", "ls", "--target", "a")


def test_a_start_that_fails(vmctl):
    vmctl("create", "broken", "kernel=nowhere", "display=none", "--start", status=TASK_FAILED)
    assert "nowhere" in vmctl.said and "is created, but doesn't run" in vmctl.said
    vmctl("start", "broken", status=TASK_FAILED)
    vmctl("rm", "broken", "-y")


def test_wait(vmctl, sim):
    sim("a")
    assert vmctl("wait", "a") == "a: off\n"
    started = time.monotonic()
    vmctl("wait", "a", "--for", "running", "--timeout", "1", status=TIMEOUT)
    assert 0.9 < time.monotonic() - started < 10 * SLOW
    waiting = subprocess.Popen([f"{O}/vmctl", "wait", "a", "--for", "running,paused"], env=vmctl.env, stdout=subprocess.PIPE, text=True)
    time.sleep(0.5)
    vmctl("start", "a")
    assert waiting.communicate(timeout=20 * SLOW)[0] == "a: running\n" and waiting.returncode == OK
    waiting = subprocess.Popen([f"{O}/vmctl", "wait", "a"], env=vmctl.env, stderr=subprocess.PIPE, text=True)
    time.sleep(0.5)
    vmctl("rm", "--force", "-y", "a")
    waiting.communicate(timeout=20 * SLOW)
    assert waiting.returncode in (OK, NOT_FOUND)        # it was off for a moment, before it was deleted


def test_events(vmctl, sim):
    following = subprocess.Popen([f"{O}/vmctl", "events", "--follow", "--kinds", "vm.*", "-o", "jsonl"], env=vmctl.env,
                                 stdout=subprocess.PIPE, text=True)
    time.sleep(0.5)
    sim("a")
    event = json.loads(following.stdout.readline())
    assert event["kind"].startswith("vm.") and event["data"]["name"] == "a"
    following.terminate()
    following.wait()
    listed = [json.loads(x) for x in vmctl("events", "--kinds", "vm.*", "-o", "jsonl").splitlines()]
    assert event["seq"] in [x["seq"] for x in listed]
    assert len(vmctl("events", "-n", "2").splitlines()) == 2
    assert all(x["seq"] > event["seq"] for x in map(json.loads, vmctl("events", "--after", str(event["seq"]), "-o", "jsonl").splitlines()))


def test_events_go_on_after_a_restart(fresh, tmp_path):
    vmctl = Vmctl(fresh, tmp_path)
    following = subprocess.Popen([f"{O}/vmctl", "events", "-f", "--kinds", "vm.*", "-o", "jsonl"], env=vmctl.env, stdout=subprocess.PIPE, text=True)
    time.sleep(0.5)
    vmctl("create", "a", "engine=sim")
    assert json.loads(following.stdout.readline())["data"]["name"] == "a"
    fresh.kill()
    fresh.start()
    vmctl("create", "b", "engine=sim")
    while json.loads(following.stdout.readline())["data"]["name"] != "b":
        pass
    following.terminate()
    following.wait()


# ---- files

def test_files(vmctl, tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "disk.img").write_bytes(data)
    vmctl("folder", "mkdir", "iso")
    assert "[local] iso/disk.img" in vmctl("file", "upload", f"{tmp_path}/disk.img", "[local] iso/")
    vmctl("file", "upload", f"{tmp_path}/disk.img", "iso/disk.img", status=CONFLICT)
    assert "--replace" in vmctl.said
    vmctl("file", "upload", "--replace", f"{tmp_path}/disk.img", "iso/disk.img")
    vmctl("file", "download", "[local] iso/disk.img", f"{tmp_path}/back")
    assert (tmp_path / "back").read_bytes() == data
    assert [x["name"] for x in vmctl.json("file", "ls", "iso")] == ["disk.img"]
    vmctl("file", "rm", "iso", "-y", status=CONFLICT)
    vmctl("file", "rm", "iso/disk.img", "-y")
    vmctl("file", "rm", "iso", "-y")
    vmctl("file", "download", "iso/disk.img", f"{tmp_path}/gone", status=NOT_FOUND)
    assert not (tmp_path / "gone").exists() and not (tmp_path / "gone.part").exists()


def test_an_empty_file_and_odd_names(vmctl, tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    for name in ("empty", "with blank", "per%cent", "qu?ery#x", "ä€", "-dash"):
        vmctl("file", "upload", f"{tmp_path}/empty", "--", name)
        assert name in [x["name"] for x in vmctl.json("file", "ls")]
        vmctl("file", "rm", "-y", "--", name)


# ---- users, tokens, other hosts

def test_users(vmctl):
    vmctl("user", "create", "bob", "role=operator", "password=-", stdin="correct horse battery\n")
    assert vmctl.json("user", "get", "bob")["has_password"] is True
    vmctl("user", "set", "bob", "role=viewer")
    assert vmctl.json("user", "get", "bob")["role"] == "viewer"
    token = vmctl("token", "create", "ci", "user=bob", "role=viewer").strip()
    where = f"https://127.0.0.1:{vmctl.croft.port}"
    pin = ("--host", where, "--fingerprint", fingerprint(vmctl.croft))
    assert json.loads(vmctl("whoami", "-o", "json", *pin, CROFT_TOKEN=token))["user"] == "bob"
    vmctl("user", "ls", *pin, CROFT_TOKEN=token, status=DENIED)
    assert "access.manage" in vmctl.said
    vmctl("user", "rm", "bob", "-y")
    vmctl("whoami", *pin, CROFT_TOKEN=token, status=DENIED)


def test_maintenance(vmctl, sim):
    sim("kept", "--start")
    vmctl("maintenance", "on", "action=poweroff")
    status = vmctl("maintenance", "status")
    assert re.search(r"^on: +yes$", status, re.M) and re.search(r"^by: +root$", status, re.M), status
    assert re.search(r"on: +yes", vmctl("host"))
    vmctl("maintenance", "off")
    assert re.search(r"^on: +no$", vmctl("maintenance", "status"), re.M)
    vmctl("poweroff", "kept")


def test_login_at_another_host(vmctl, tmp_path):
    where = f"https://127.0.0.1:{vmctl.croft.port}"
    vmctl("ls", "--host", where, status=CONNECT)            # not trusted yet, nobody to be asked
    assert fingerprint(vmctl.croft) in vmctl.said
    vmctl("ls", "--host", where, "--fingerprint", "0" * 64, status=CONNECT)
    vmctl("login", "--host", where, "--fingerprint", fingerprint(vmctl.croft), stdin="wrong\n", status=DENIED)
    vmctl("login", "--host", where, stdin=f"{vmctl.croft.password}\n")
    hosts = tmp_path / ".config/croft/hosts.json"
    assert hosts.stat().st_mode & 0o777 == 0o600
    assert vmctl.croft.password not in hosts.read_text()
    assert json.loads(vmctl("whoami", "-o", "json", "--host", where)) ["via"] == "token"
    assert json.loads(vmctl("whoami", "-o", "json", CROFT_HOST=where))["user"] == "admin"
    vmctl("logout", "--host", where)
    vmctl("ls", "--host", where, status=DENIED)
    assert "vmctl login" in vmctl.said
    assert vmctl.json("token", "ls") == []
    known = json.loads(hosts.read_text())                   # another certificate than the one that was trusted
    next(iter(known.values()))["fingerprint"] = "ab" * 32
    hosts.write_text(json.dumps(known))
    vmctl("ls", "--host", where, status=CONNECT)
    assert "another than the one that was trusted" in vmctl.said


def test_login_at_a_terminal(vmctl):
    where = f"https://127.0.0.1:{vmctl.croft.port}"
    with vmctl.terminal("login", "--host", where) as t:
        t.until("Is it the same?")
        assert fingerprint(vmctl.croft) in t.text
        t.type("y\n")
        t.until("Password of admin")
        t.type(vmctl.croft.password + "\n")
        assert t.end() == OK, t.text
        assert vmctl.croft.password not in t.text           # it was not echoed
    vmctl("ls", "--host", where)
    vmctl("logout", "--host", where)


def test_who_can_and_cannot_connect(vmctl, tmp_path):
    vmctl("ls", CROFT_HOME=str(tmp_path), status=CONNECT)
    with open(f"{tmp_path}/croft.sock", "w", encoding="ascii"):
        pass
    vmctl("ls", CROFT_HOME=str(tmp_path), status=CONNECT)
    assert "systemctl status croftd" in vmctl.said


def test_backup_and_restore(vmctl, sim, fresh, tmp_path):
    sim("kept")
    vmctl("backup-config", f"{tmp_path}/backup.json")
    assert (tmp_path / "backup.json").stat().st_mode & 0o777 == 0o600
    other = Vmctl(fresh, tmp_path)
    other("restore-config", f"{tmp_path}/backup.json")
    assert [x["name"] for x in other.json("ls")] == ["kept"]
    (tmp_path / "torn.json").write_text('{"format": 1, ')
    other("restore-config", f"{tmp_path}/torn.json", status=USAGE)
    assert "backup-config" in other.said


# ---- the console, at a terminal and in a script

@pytest.fixture(scope="module")
def guest(demo):
    return demo


@pytest.mark.skipif(not os.path.exists(f"{GUEST}/initrd.gz"), reason="make guest")
def test_the_console(guest, tmp_path):
    vmctl = Vmctl(guest, tmp_path)
    with vmctl.terminal("console", "demo") as t:
        t.until("Ctrl-] leaves it")
        t.until("demo:~#", 120)
        t.type("echo $((6*7))x\n")
        t.until("42x")
        t.type("\x1d")
        assert t.end() == OK, t.text
    with vmctl.terminal("console", "demo") as t:            # it has kept what was said, also of the boot
        t.until("42x")
        assert "Linux version" in t.text
        t.type("\x1d")
        assert t.end() == OK
    script = subprocess.Popen([f"{O}/vmctl", "console", "demo", "--timeout", str(10 * SLOW)], env=vmctl.env, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE)
    script.stdin.write(b"echo $((7*8))y\n")
    script.stdin.close()
    script.stdin = None
    assert b"56y" in script.communicate(timeout=60 * SLOW)[0] and script.returncode == OK
    with vmctl.terminal("shutdown", "demo") as t:           # a line of progress
        t.until("vm.shutdown demo: ")
        assert t.end(60) == OK, t.text
        assert "demo: off" in t.text
    with vmctl.terminal("console", "demo") as t:            # off: what it said last, and the one to come
        t.until("Ctrl-] leaves it")
        vmctl("start", "demo")
        t.until("demo:~#", 120)
        t.type("\x1d")
        assert t.end() == OK, t.text
