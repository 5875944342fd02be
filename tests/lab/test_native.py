"""LAB=native: the same tests on the machine that they run on, which has KVM, systemd and the package: here the emulated
one. What a machine in use can't be put through is skipped there, each with its reason."""
import io
import os
import re
import tarfile

import lab

# What shows that it works; NATIVE="... uefi agent": all but the browser, for which that host has no Chromium, and longer.
FILES = os.environ.get("NATIVE", "install guest emulation upgrade host_ends boards")


def kit():
    """What the tests consist of, as a tar."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for path in ("tests/run", "tests/lab", "tests/api", "packaging/debian/changelog"):
            tar.add(os.path.join(lab.TOP, path), path, filter=lambda f: None if "__pycache__" in f.name else f)
    return packed.getvalue()


def test_the_same_tests_inside(fresh, emulated):
    fresh.ok("mkdir -p /root/croft && tar -xzf - -C /root/croft", 30, kit())
    names = " ".join(f"lab/{name}" for name in FILES.split())
    status, said = fresh.run(f"cd /root/croft && CI=true LAB=native O=build python3 tests/run {names}", 200)
    print(said[-4000:])
    last = re.search(r"^(\d+) passed, 0 failed, (\d+) skipped$", said, re.M)
    assert status == 0 and last and int(last[1]) >= 12, said[-2000:]
    why = [line for line in said.splitlines() if line.startswith("skipped ")]
    assert len(why) == int(last[2]) and all("no reason given" not in line for line in why), why
