"""LAB=native: the same tests on the machine that they run on, which has KVM, systemd and the package: here the emulated
one. What a machine in use can't be put through is skipped there, each with its reason."""
import io
import os
import re
import tarfile

import pytest

import lab

# All files but the browser's, for which that host has no Chromium: "install guest uefi agent emulation upgrade host_ends boards"
FILES = os.environ.get("NATIVE")


def kit():
    """What the tests consist of, as a tar."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for path in ("tests/run", "tests/lab", "tests/api", "packaging/debian/changelog"):
            tar.add(os.path.join(lab.TOP, path), path, filter=lambda f: None if "__pycache__" in f.name else f)
    return packed.getvalue()


@pytest.mark.skipif(not FILES, reason='takes minutes: NATIVE="install guest" make check-arm ONLY=lab/native')
def test_the_same_tests_inside(fresh, emulated):
    fresh.ok("mkdir -p /root/croft && tar -xzf - -C /root/croft", 30, kit())
    names = " ".join(f"lab/{name}" for name in FILES.split())
    status, said = fresh.run(f"cd /root/croft && CI=true LAB=native O=build python3 tests/run {names}", 200)
    print(said[-4000:])
    last = re.search(r"^(\d+) passed, 0 failed, (\d+) skipped$", said, re.M)
    assert status == 0 and last and int(last[1]) >= 1, said[-2000:]
    why = [line for line in said.splitlines() if line.startswith("skipped ")]
    assert len(why) == int(last[2]) and all("no reason given" not in line for line in why), why
