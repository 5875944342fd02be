"""'A first VM' and 'Your own system' of the README, command by command as they stand there, with the tests' images."""
import os
import pty
import re
import select
import shutil
import socket
import subprocess
import time

import pytest
from croft import GUEST, O, SLOW, TOP, wait_for


def commands(title):
    """The indented lines below a heading of the README, without comments."""
    text = open(f"{TOP}/README.md", encoding="utf-8").read()
    part = re.search(rf"^## {title}$(.*?)(?=^## )", text, re.S | re.M).group(1)
    return [re.sub(r"\s+#.*", "", line[4:]) for line in part.splitlines() if line.startswith("    ")]


class User:
    """Somebody in a folder with the images, at a terminal."""

    def __init__(self, croft, folder):
        self.folder = folder
        self.env = {**os.environ, "CROFT_HOME": croft.home, "TERM": "xterm"}

    def argv(self, command):
        return ["bash", "-c", command.replace("build/vmctl", f"{O}/vmctl")]

    def run(self, command):
        p = subprocess.run(self.argv(command), cwd=self.folder, env=self.env, text=True, capture_output=True, timeout=120 * SLOW)
        assert p.returncode == 0, f"{command}: {p.stdout}{p.stderr}"
        return p.stdout

    def console(self, command, *dialog):
        """Runs it at a terminal: waits for each text of @dialog, and types what follows it."""
        pid, fd = pty.fork()
        if pid == 0:
            os.chdir(self.folder)
            os.execvpe("bash", self.argv(command), self.env)
        seen, end = b"", time.monotonic() + 120 * SLOW
        for wanted, typed in dialog:
            while wanted not in seen:
                assert select.select([fd], [], [], end - time.monotonic())[0], f"no {wanted!r} in {seen[-2000:]!r}"
                seen += os.read(fd, 4096)
            seen = seen.split(wanted, 1)[1]
            os.write(fd, typed)
        assert os.waitpid(pid, 0)[1] == 0


@pytest.fixture
def user(croft, tmp_path):
    shutil.copy(f"{GUEST}/uefi.qcow2", tmp_path / "cloud.qcow2")
    shutil.copy(f"{GUEST}/uefi.iso", tmp_path / "install.iso")
    return User(croft, tmp_path)


LEAVE = b"\x1d"


def test_a_first_vm(demo, tmp_path):
    user = User(demo, tmp_path)
    ls, console, create, info, rm = commands("A first VM")
    demo.client().wait_state("demo", "running")
    assert "demo" in user.run(ls)
    user.console(console, (b"demo:~# ", b"echo a$((6*7))b\n"), (b"a42b", LEAVE))
    user.run(create)
    assert "running" in user.run(info)
    user.run(rm + " --yes")                      # at a terminal it asks
    assert "web" not in user.run(ls)


def test_your_own_system(user):
    upload, create, console, ssh, upload_iso, create_iso, console_iso, *changes = commands("Your own system")
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    user.run(upload)
    user.run(create.replace("2222", str(port)))
    user.console(console, (b"uefi:~# ", b"echo a$((6*7))b\n"), (b"a42b", LEAVE))
    assert ssh.startswith("ssh -p 2222")

    def greeting():
        try:
            with socket.create_connection(("127.0.0.1", port), 2 * SLOW) as s:
                s.settimeout(2 * SLOW)
                return s.recv(100).startswith(b"SSH-2.0")
        except OSError:
            return False
    wait_for("the forwarded port answers", greeting, 30)
    user.run(upload_iso)
    user.run(create_iso)
    user.console(console_iso, (b"cd:~# ", b"echo a$((6*7))b\n"), (b"a42b", LEAVE))
    for change in changes:
        assert "next start" not in user.run(change + " 2>&1")
    user.console(console, (b"uefi:~# ", b"until [ $(cat /sys/block/vdb/size) = $((80<<21)) ] && ls /sys/class/net/eth1; do sleep 1; done; "
                                        b"echo c$((6*7))d\n"), (b"c42d", LEAVE))
    user.run("build/vmctl rm mine fresh --force --yes")
