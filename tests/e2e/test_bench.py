"""What `make bench` measures with, once each and small: a measure that breaks is seen here, not weeks later."""
import importlib.machinery
import importlib.util
import os
import subprocess

from croft import O

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VM = {"firmware": "kernel", "display": "none", "memory_bytes": 64 << 20, "kernel": {"image": "[local] guest"}}


def guest():
    loader = importlib.machinery.SourceFileLoader("bench", f"{TOP}/tests/bench/bench")
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("bench", loader))
    loader.exec_module(module)
    return module.GUEST


def numbers(program, *words):
    done = subprocess.run([f"{O}/tests/bench/{program}", *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return [float(word) for word in done.stdout.split()]


def test_power_on_beside_bare_qemu(croft, api, tmp_path):
    (tmp_path / "guest").write_bytes(guest())
    api.ok("PUT", "/datastores/local/files/guest", guest())
    api.post("/vms", {"name": "power", "config": VM})
    ratio, ours, bare, off = numbers("power", croft.socket, "-", "power", croft.home, tmp_path / "guest", 1)
    assert ratio > 0 and ours > 0 and bare > 0 and off > 0


def test_a_bare_writer():
    assert all(n > 0 for n in numbers("bare", 10, 1000, 1))


def test_those_who_follow(croft):
    events, delivered, resets, left_out, size, *_ = numbers("fan", croft.socket, "-", 10, 0, 1, 0)
    assert events > 0 and delivered > events and size > 100 and not resets and not left_out


def test_calls(croft, api):
    api.post("/vms", {"name": "one", "config": {"engine": "sim"}})
    for words in (("get", "/api/v1/vms/one", 10), ("changed", "/api/v1/vms", "one", 3), ("create", "made-", 3)):
        assert all(n > 0 for n in numbers("load", croft.socket, "-", *words))
