"""agent_guest.py: the demo guest with qemu-guest-agent and ext4 (packaging/guest/agent): up in 3 s, its agent a moment later."""
import contextlib
import os
import subprocess
import tempfile

from croft import GUEST, wait_for


def read(*names):
    parts = []
    for name in names:
        with open(f"{GUEST}/{name}", "rb") as f:
            parts.append(f.read())
    return b"".join(parts)


def upload(api):
    """Puts kernel and initramfs on the datastore, once."""
    for path, data in {"agent-kernel": ["vmlinuz"], "agent-initrd": ["initrd.gz", "agent.gz"]}.items():
        if api.request("GET", f"/datastores/local/files/{path}").status == 404:
            answer = api.request("PUT", f"/datastores/local/files/{path}", read(*data))
            assert answer.status == 201, answer


def upload_disk(api):
    """Puts data.qcow2 on the datastore: 64 MiB of ext4, for a guest to freeze."""
    with tempfile.TemporaryDirectory() as folder:
        raw, image = f"{folder}/data.raw", f"{folder}/data.qcow2"
        with open(raw, "wb") as f:
            f.truncate(64 << 20)
        subprocess.run(["/usr/sbin/mkfs.ext4", "-q", "-L", "data", raw], check=True)
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, image], check=True)
        with open(image, "rb") as f:
            answer = api.request("PUT", f"/datastores/local/files/{os.path.basename(image)}", f.read())
        assert answer.status == 201, answer


def config(**more):
    return {"firmware": "kernel", "memory_bytes": 256 << 20, "display": "none",
            "kernel": {"image": "[local] agent-kernel", "initrd": "[local] agent-initrd", "command_line": "console=ttyAMA0"}, **more}


def guest(api, name):
    return api.vm(name)["status"]["guest"]


def wait_agent(api, name, state="answers", seconds=60):
    """Waits until the VM's agent is in that state."""
    def there():
        facts = guest(api, name)
        return facts["agent"] == state and facts
    return wait_for(f"the agent of {name} is {state}", there, seconds)


def up(api, name):
    """Its agent answers, and its first disk, one of upload_disk, is mounted."""
    if guest(api, name)["agent"] != "answers":
        return False
    with contextlib.closing(api.console(name)) as console:
        return b"MOUNTED" in console.command("grep -q /mnt /proc/mounts || mount -t ext4 /dev/vda /mnt && echo MOUN''TED", 5)


def writes(api, name):
    """What the guest writes to that disk gets there: it is not frozen."""
    with contextlib.closing(api.console(name)) as console:
        return b"WRITTEN" in console.command("echo new >/mnt/file && sync && echo WRI''TTEN", 5)
