"""agent_guest.py: the demo guest with qemu-guest-agent and ext4 (packaging/guest/agent): up in 3 s, its agent a moment later."""
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
