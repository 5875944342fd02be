"""hosted.py: Croft on a host of lab.py, as its package installs it; used as its users do: by vmctl there, over HTTPS from
here."""
import hashlib
import json
import os
import re
import ssl
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "api"))
import lab                                              # noqa: E402
from croft import Client                                # noqa: E402

PASSWORD = "a-host-of-the-lab"
HOME = "/var/lib/croft"
FILES = ("vmlinuz", "initrd.gz", "uefi.qcow2")          # what is uploaded once: [local] lab/NAME
QUICK = dict(memory="192MiB", display="none", nic="none", kernel="[local] lab/vmlinuz", initrd="[local] lab/initrd.gz",
             cmdline="console=ttyAMA0 quiet nokaslr mitigations=off")     # (see build)
UEFI = dict(memory="512MiB", display="none", nic="none", image="[local] lab/uefi.qcow2")


def package(folder="deb", more="", arch="arm64"):
    """The package that make check-arm has built of this tree, or (next) of the one that comes after it."""
    version = re.search(r"\((.*)\)", lab.read(f"{lab.TOP}/packaging/debian/changelog"))[1]
    return f"{lab.TOP}/build/{folder}/croft_{version}{more}_{arch}.deb"


class Croft:
    """Croft on a host. port, password and tls_context() are what croft.Client wants of it."""

    def __init__(self, host):
        self.host, self.password, self.made = host, PASSWORD, []
        self.run, self.ok, self.wait = host.run, host.ok, host.wait

    @property
    def port(self):
        return self.host.https_port

    def tls_context(self):
        context = ssl.create_default_context(cadata=self.host.get(f"{HOME}/tls/certificate.pem"))
        context.check_hostname = False
        return context

    def client(self):
        client = Client(self, tls=True)
        client.login()
        return client

    def install(self, deb):
        """Installs a package with dpkg. What dpkg said."""
        self.host.put(deb, "/root/croft.deb")
        return self.ok("dpkg -i /root/croft.deb 2>&1", 90)

    def furnish(self, files=FILES):
        """What tests find there: admin's password, and the guests' files on the datastore."""
        self.ok("vmctl user set admin password=-", 20, f"{PASSWORD}\n{PASSWORD}\n".encode())
        self.ok("vmctl folder create '[local] lab'", 20)
        for name in files:
            self.ok(f"vmctl file upload /opt/guest/{name} '[local] lab/{name}'", 60)

    def start(self):
        self.ok("systemctl start croftd", 30)
        return self

    def create(self, name, start=True, **config):
        words = " ".join(f"{key}='{value}'" for key, value in config.items())
        self.ok(f"vmctl create {name} {words} {'--start' if start else ''}", 40)
        self.made.append(name)

    def vm(self, name):
        return self.json(f"vmctl info {name} -o json")

    def json(self, command):
        return json.loads(self.ok(command, 20))

    def state(self, name):
        return self.vm(name)["status"]["state"]

    def wait_state(self, name, state, seconds=20):
        self.wait(f"""vmctl info {name} -o json | grep -q '"state": "{state}"'""", seconds, f"{name} is {state}")

    def pid(self, name):
        """The guest's process, which must be one that runs by KVM: QEMU says so (query-kvm), and the kernel does."""
        vm = self.vm(name)["status"]
        assert vm["accel"] == "kvm", f"{name} is EMULATED: {vm['accel_reason']}"
        descriptors = self.ok(f"ls -l /proc/{vm['pid']}/fd")
        assert "anon_inode:kvm-vm" in descriptors and "anon_inode:kvm-vcpu:0" in descriptors, f"{name} does not run by KVM: {descriptors}"
        return vm["pid"]

    def agent(self):
        """croftd's main process, as systemd knows it."""
        return int(self.ok("systemctl show -P MainPID croftd"))

    def clean(self):
        """Ends what tests have left on a machine that stays."""
        for name in self.made:
            self.run(f"vmctl rm {name} --force --yes", 30)


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def installed(profile):
    """A host of that profile with this tree's package, croftd stopped: its snapshot's name."""
    deb = package()

    def make(host):
        host.shape()
        croft = Croft(host)
        host.ok("cat >/root/install.log", 10, croft.install(deb).encode())
        croft.furnish()
        host.ok("systemctl stop croftd", 30)
        host.ok("echo 1 >/proc/sys/vm/drop_caches; qemu-system-aarch64 --version; vmctl --version", 30)     # what tests begin with

    inputs = lab.key(lab.read(f"{lab.booted(profile)}.key"), digest(deb), PASSWORD, FILES, lab.read(__file__))
    return lab.snapshot(profile, "installed", inputs, f"{lab.LAB}/{profile}-booted", make)


def furnished(host):
    return not host.run("vmctl file list local --path lab", 20)[0]


def hosted(profile="altra"):
    """Croft, running on a host of its own; natively, the one that this machine has."""
    host = lab.Native() if lab.NATIVE else lab.restore(profile, installed(profile))
    with lab.closed_if_failed(host):
        croft = Croft(host).start()
        if not furnished(host):
            croft.furnish()
    return croft


def prompt(console, name="demo"):
    """Waits for the shell of a guest that boots."""
    console.until(f"{name} login:".encode())
    console.until(f"{name}:~# ".encode())
    return console
