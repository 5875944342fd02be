"""The browser client, in a Chromium outside."""
import os
import subprocess

from hosted import PASSWORD, QUICK, prompt


def test_a_guest_in_the_browser(croft):
    croft.create("guest", **QUICK)
    prompt(croft.client().console("guest"))
    url = f"https://127.0.0.1:{croft.port}/"
    done = subprocess.run(["node", os.path.join(os.path.dirname(os.path.abspath(__file__)), "client.mjs"), url, PASSWORD],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:]
    croft.wait_state("guest", "running")
    croft.pid("guest")
