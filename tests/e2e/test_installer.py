"""Debian's own installer, as `make demo-installer` adds it: it asks for a language on the serial console and on the
screen, and a key moves the choice on each."""
import os
import subprocess

import pytest
from croft import O, TOP, wait_for
from test_screen import Rfb, still

FILES = os.path.join(TOP, "build/guest/installer")


@pytest.fixture(scope="module")
def files():
    if not os.path.exists(f"{FILES}/initrd.gz"):
        subprocess.run([f"{TOP}/packaging/guest/installer", FILES, f"{TOP}/build/guest/apt"], check=True)
    return FILES


def add(croft, files):
    return subprocess.run([f"{TOP}/packaging/guest/add-installer", f"{O}/vmctl", files], check=True, text=True,
                          env={**os.environ, "CROFT_HOME": croft.home}, capture_output=True).stdout


def test_asks_for_a_language_on_both(fresh, files):
    assert "vmctl console installer" in add(fresh, files)
    assert "there already" in add(fresh, files)
    client = fresh.client()
    client.wait_state("installer", "running")
    console = client.console("installer")
    console.until(b"English", 240)              # the list of languages
    console.type("\x1b[B")                      # arrow down
    console.until(b"\x1b[", 30)                 # the choice is drawn anew

    client = fresh.client()                     # the first connection has been idle for longer than it is kept
    ticket = client.post("/vms/installer/console", {"kind": "screen"})
    rfb = Rfb(client.websocket(ticket["url"], subprotocols=["binary"]))
    before = still(rfb)
    assert len(set(before[0, 0])) > 1, "the screen is empty"
    rfb.press(0xff54)                           # arrow down
    wait_for("the choice moves on the screen", lambda: rfb.picture() != before, 30)
    rfb.ws.close()
    console.close()
    client.post("/vms/installer/poweroff")
