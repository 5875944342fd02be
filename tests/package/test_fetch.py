"""packaging/guest/fetch: two recipes of make that need packages at once don't meet in apt, which would refuse the second."""
import fcntl
import os
import select
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, f"{TOP}/tests/api")
from croft import wait_for                              # noqa: E402

# An apt-get that says that it has begun and goes on when it is told to.
APT_GET = """#!/bin/sh
echo begun >&3
read -r _ <&4
echo "apt-get was here" >&2
exit 100
"""


class Fetch:
    """A fetch that is under way."""

    def __init__(self, tmp_path):
        (began, say_began), (wait, self.go) = os.pipe(), os.pipe()
        path = f"{tmp_path}/bin:{os.environ['PATH']}"
        self.began = os.fdopen(began)
        self.process = subprocess.Popen(["bash", "-c", f'exec 3>&{say_began} 4<&{wait} "$0" "$@"', f"{TOP}/packaging/guest/fetch",
                                         f"{tmp_path}/state", "some-package"],
                                        stderr=subprocess.PIPE, text=True, env=dict(os.environ, PATH=path), pass_fds=(say_began, wait))
        os.close(say_began)
        os.close(wait)

    def has_begun(self):
        return bool(select.select([self.began], [], [], 0)[0])

    def waits(self):
        """Whether a process of it waits for a lock. (Locks are shown where their owner is: here that is the test.)"""
        with open("/proc/locks", encoding="ascii") as f:
            return any(self.family(int(line.split()[5])) for line in f if " -> FLOCK " in line)

    def family(self, pid):
        """flock is a child of the script, or the script itself."""
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as f:
                return self.process.pid in (pid, int(f.read().rsplit(")", 1)[1].split()[1]))
        except OSError:
            return False

    def end(self):
        os.close(self.go)
        return self.process.communicate(timeout=10)[1]


def test_one_at_a_time(tmp_path):
    for name in ("bin", "state"):
        (tmp_path / name).mkdir()
    (tmp_path / "bin/apt-get").write_text(APT_GET)
    (tmp_path / "bin/apt-get").chmod(0o755)
    with open(tmp_path / "state/fetching", "w", encoding="ascii") as another:
        fcntl.flock(another, fcntl.LOCK_EX)
        fetch = Fetch(tmp_path)
        wait_for("it waits, or has begun", lambda: fetch.waits() or fetch.has_begun(), 20)
        assert not fetch.has_begun(), f"it did not wait for the other: {fetch.end()}"
    assert fetch.began.readline() == "begun\n"
    assert "apt-get was here" in fetch.end()
