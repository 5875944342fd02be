"""lab.py: an ARM host with KVM for the tests: a machine that QEMU emulates, EL2 and all, restored from a snapshot of its
booted self; or, with LAB=native in the environment, the machine that the tests run on.

    host = lab("altra")
    status, output = host.run("vmctl ls", 10)

Called as a program it makes the snapshots of all profiles, or of those that it is given."""
import contextlib
import ctypes
import fcntl
import hashlib
import itertools
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
LAB = os.path.join(TOP, "build/lab")
NATIVE = os.environ.get("LAB") == "native"
NOISE = 3           # how much longer than it should take a thing may take on a busy machine
BOOT_S = 60         # what an emulated host has to boot

# What is emulated: a row each. kernel: which one (see build). hotplug: devices that QEMU can't save, plugged in after every restore.
PROFILES = {
    "altra": dict(machine="gic-version=3", cpu="neoverse-n1", smp="2", memory="2G"),
    "pi4": dict(machine="gic-version=2", cpu="cortex-a72", smp="2", memory="2G"),
    "pi5": dict(machine="gic-version=2", cpu="cortex-a76", smp="2", memory="2G"),
    "numa": dict(machine="gic-version=3", cpu="neoverse-n1", smp="16,sockets=2,cores=8", memory="2G", devices=[
        "-object", "memory-backend-ram,id=ram0,size=1G", "-numa", "node,nodeid=0,cpus=0-7,memdev=ram0",
        "-object", "memory-backend-ram,id=ram1,size=1G", "-numa", "node,nodeid=1,cpus=8-15,memdev=ram1"]),
    "usb": dict(machine="gic-version=3", cpu="neoverse-n1", smp="2", memory="2G", kernel="-usb", devices=[
        "-device", "qemu-xhci,id=xhci"]),
    "dpu": dict(machine="gic-version=3,iommu=smmuv3", cpu="neoverse-n1", smp="2", memory="2G", devices=[
        "-device", "pcie-root-port,id=behind,chassis=1,slot=1", "-device", "nvme-subsys,id=subsystem"], hotplug=[
        dict(driver="nvme", id="nvme", bus="behind", serial="lab", subsys="subsystem", sriov_max_vfs=4,
             sriov_vq_flexible=8, sriov_vi_flexible=4)]),
}
# What every one of them has: the disk it boots from, an empty one, a NIC to the outside, and one that leads nowhere yet.
DEVICES = ["-device", "virtio-blk-pci,drive=root", "-device", "virtio-blk-pci,drive=data",
           "-device", "virtio-net-pci,netdev=out,romfile=", "-device", "virtio-net-pci,netdev=lan,romfile=",
           "-device", "virtio-serial-pci", "-device", "virtserialport,id=agent,chardev=agent,name=agent",
           "-object", "rng-random,id=random,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=random"]
CMDLINE = "console=ttyAMA0 root=/dev/vda rw quiet systemd.show_status=0 mitigations=off audit=0 net.ifnames=0 nokaslr"


class LabError(AssertionError):
    pass


def read(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read()


class Line:
    """Our end of a socket whose other end is a descriptor of QEMU's. Every wait has a deadline."""

    def __init__(self):
        self.sock, self.theirs = socket.socketpair()
        self.buffer = b""

    def more(self, end, what):
        left = end - time.monotonic()
        try:
            if left <= 0:
                raise TimeoutError
            self.sock.settimeout(left)
            data = self.sock.recv(1 << 20)
        except TimeoutError:
            raise LabError(f"{what}: not in time") from None
        if not data:
            raise LabError(f"{what}: QEMU has ended")
        self.buffer += data

    def line(self, end, what):
        while b"\n" not in self.buffer:
            self.more(end, what)
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode(errors="replace")

    def bytes(self, size, end, what):
        while len(self.buffer) < size:
            self.more(end, what)
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data


class Monitor(Line):
    """QMP."""

    def start(self):
        self.events = []
        self.do("qmp_capabilities")

    def message(self, end, what):
        message = json.loads(self.line(end, what))
        if "event" in message:
            self.events.append(message["event"])
        return message

    def do(self, command, seconds=20, **arguments):
        self.sock.settimeout(seconds)
        self.sock.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        end = time.monotonic() + seconds * NOISE
        while True:
            message = self.message(end, f"QMP {command}")
            if "error" in message:
                raise LabError(f"QMP {command}: {message['error']['desc']}")
            if "return" in message:
                return message["return"]

    def human(self, command, seconds=20):
        """A command that QMP itself has not. Says nothing when it went well, mostly."""
        return self.do("human-monitor-command", seconds, **{"command-line": command})

    def wait_event(self, event, seconds):
        end = time.monotonic() + seconds * NOISE
        while event not in self.events:
            self.message(end, f"event {event}")
        self.events.remove(event)


class Native:
    """The machine that the tests run on, which has KVM, systemd and Croft's package."""
    profile, https_port, address = "native", 443, "127.0.0.1"

    def run(self, command, seconds=30, data=b""):
        """A shell command as root -> (exit status, output and errors)."""
        try:
            done = subprocess.run(["bash", "-c", command], input=data, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  cwd="/", timeout=seconds * NOISE)
            return done.returncode, done.stdout.decode(errors="replace")
        except subprocess.TimeoutExpired as e:
            return 124, (e.output or b"").decode(errors="replace")

    def ok(self, command, seconds=30, data=b""):
        """The output of a command that has to succeed."""
        status, output = self.run(command, seconds, data)
        if status:
            raise LabError(f"{command}: status {status}: {output[-4000:]}")
        return output

    def put(self, path, target):
        with open(path, "rb") as f:
            self.ok(f"cat >'{target}'", 60, f.read())

    def get(self, path):
        return self.ok(f"cat '{path}'", 60)

    def wait(self, command, seconds, what=None):
        """Until the command succeeds; its output."""
        end = time.monotonic() + seconds * NOISE
        while True:
            status, output = self.run(command, seconds)
            if not status:
                return output
            if time.monotonic() > end:
                raise LabError(f"{what or command}: not within {seconds * NOISE} s: {output[-2000:]}")
            time.sleep(0.2)

    def console(self):
        return self.run("journalctl -b -n 100 --no-pager")[1]

    def close(self):
        pass


folders = itertools.count(1)


class Emulated(Native):
    """A machine that QEMU emulates. Its disks are copies of a snapshot's and go when it is closed."""

    def __init__(self, profile, disks):
        self.profile, self.row = profile, PROFILES[profile]
        self.folder = f"{LAB}/run/{os.getpid()}-{next(folders)}"
        os.makedirs(self.folder)
        self.ids = itertools.count(1)
        for disk in ("root", "data"):
            if disks:
                shutil.copyfile(f"{disks}-{disk}.qcow2", f"{self.folder}/{disk}.qcow2")
        if not disks:
            create = ["qemu-img", "create", "-q", "-f", "qcow2"]
            subprocess.run([*create, "-b", f"{LAB}/base/root.img", "-F", "raw", f"{self.folder}/root.qcow2"], check=True)
            subprocess.run([*create, f"{self.folder}/data.qcow2", "8G"], check=True)

    def argv(self):
        drive = "if=none,format=qcow2,cache=unsafe,discard=unmap"
        return ["qemu-system-aarch64", "-nodefaults", "-no-user-config", "-display", "none", "-name", f"lab-{self.profile}",
                "-M", f"virt-7.2,virtualization=on,{self.row['machine']}", "-cpu", self.row["cpu"], "-smp", self.row["smp"],
                "-m", self.row["memory"], "-accel", "tcg,thread=multi,tb-size=512",
                "-kernel", f"{LAB}/base/vmlinuz{self.row.get('kernel', '')}",
                "-initrd", f"{LAB}/base/initrd{self.row.get('kernel', '')}.gz", "-append", CMDLINE,
                "-drive", f"{drive},id=root,file={self.folder}/root.qcow2",
                "-drive", f"{drive},id=data,file={self.folder}/data.qcow2",
                "-netdev", "user,id=out,hostfwd=tcp:127.0.0.1:0-:443", "-netdev", "hubport,id=lan,hubid=1",
                "-serial", f"file:{self.folder}/console", *DEVICES, *self.row.get("devices", [])]

    def power_on(self, snapshot=False):
        self.monitor, self.agent = Monitor(), Line()
        fds = [self.monitor.theirs.fileno(), self.agent.theirs.fileno()]
        argv = self.argv() + ["-chardev", f"socket,id=qmp,fd={fds[0]}", "-mon", "chardev=qmp,mode=control",
                              "-chardev", f"socket,id=agent,fd={fds[1]}"] + (["-loadvm", "lab"] if snapshot else [])
        libc = ctypes.CDLL(None)
        with open(f"{self.folder}/qemu.log", "ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=fds,
                                            preexec_fn=lambda: libc.prctl(1, signal.SIGKILL))      # it ends when we do
        self.monitor.theirs.close()
        self.agent.theirs.close()
        try:
            self.monitor.start()
        except (LabError, OSError):
            raise LabError(f"QEMU: {read(f'{self.folder}/qemu.log')}") from None
        self.https_port = int(re.search(r"HOST_FORWARD\S*\s+\d+\s+127\.0\.0\.1\s+(\d+)", self.monitor.human("info usernet"))[1])

    def run(self, command, seconds=30, data=b""):
        number, script = next(self.ids), command.encode()
        end = time.monotonic() + seconds * NOISE + 20
        what = f"{self.profile}: {command.strip().splitlines()[0][:200]}"
        self.agent.sock.settimeout(60)
        self.agent.sock.sendall(f"{number} {seconds * NOISE} {len(script)} {len(data)}\n".encode() + script + data)
        while True:
            answer, status, size = map(int, self.agent.line(end, what).split())
            output = self.agent.bytes(size, end, what)
            if answer == number:            # (else it is what somebody has given up waiting for)
                return status, output.decode(errors="replace")

    def booted(self):
        """Waits until a host that was powered on has done what it starts with."""
        self.run("true", BOOT_S)
        self.ok("systemctl is-system-running --wait || true", BOOT_S)

    def shape(self):
        """What a restored host must not share with its likes: clock, randomness, identity, MAC; then its odd devices.

        QEMU 7.2 doesn't save EL2's timers, by which a kernel with VHE lives. A CPU whose next event was lost waits for
        it for ever; a sleep that ended long ago is due before it, and makes the kernel set the timer anew."""
        mac = "52:54:00:%02x:%02x:%02x" % tuple(secrets.token_bytes(3))
        sched_setaffinity, clock_nanosleep, reseed = 122, 115, 0x5207
        cpus = self.row["smp"].split(",")[0]
        self.ok(f"""perl -e '$past = pack("qq", 0, 1);
                for $cpu (1..{cpus}) {{ $set = pack("Q", 1 << $cpu - 1);
                    syscall({sched_setaffinity}, 0, 8, $set) or syscall({clock_nanosleep}, 1, 1, $past, 0) and die $! }}
                open F, ">/dev/urandom"; syswrite F, join("", <STDIN>); ioctl(F, {reseed}, 0) or die $!'
            date -s @{time.time():.3f} >/dev/null
            id={secrets.token_hex(16)}
            mv "/var/log/journal/$(cat /etc/machine-id)" /var/log/journal/$id      # (journald goes on writing there)
            echo $id >/etc/machine-id
            printf '%s\\n' 'link set eth0 down' 'link set eth0 address {mac}' 'link set eth0 up' \\
                'route replace default via 10.0.2.2' | ip -batch -
            ping -q -c 1 10.0.2.2 >/dev/null        # and QEMU's network hears of it""", 10, secrets.token_bytes(64))
        for device in self.row.get("hotplug", []):
            self.monitor.do("device_add", **device)

    def save(self, disks):
        """Makes a snapshot of the running host. That is its end: its disks become the snapshot's."""
        self.monitor.human("delvm lab")
        said = self.monitor.human("savevm lab", 60)
        if said:
            raise LabError(f"savevm: {said}")
        self.monitor.do("quit")
        self.process.wait(10 * NOISE)
        for disk in ("data", "root"):
            os.replace(f"{self.folder}/{disk}.qcow2", f"{disks}-{disk}.qcow2")

    def soon(self, command):
        """Something that the host will not be there to answer."""
        self.ok(f"(sleep 0.5; {command}) >/dev/null 2>&1 &", 10)

    def reboot(self, seconds=BOOT_S):
        """Reboots and waits until the host is up again."""
        self.monitor.events.clear()
        self.soon("systemctl reboot")
        self.monitor.wait_event("RESET", seconds)
        self.booted()

    def power_cycle(self):
        """As if its plug had been pulled for a moment."""
        self.monitor.events.clear()
        self.monitor.do("system_reset")
        self.monitor.wait_event("RESET", 5)
        self.booted()

    def power_off(self, seconds=BOOT_S):
        """Powers off properly, and waits until it is off."""
        self.soon("systemctl poweroff")
        self.process.wait(seconds * NOISE)

    def console(self):
        path = f"{self.folder}/console"
        return read(path) if os.path.exists(path) else ""

    def close(self):
        process = getattr(self, "process", None)
        if process and process.poll() is None:
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def closed_if_failed(host):
    try:
        yield
    except BaseException:
        print(host.console()[-4000:])
        host.close()
        raise


def key(*what):
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def qemu_version():
    return subprocess.run(["qemu-system-aarch64", "--version"], check=True, capture_output=True, text=True).stdout


def snapshot(profile, stage, inputs, begin, make):
    """The name of a snapshot of a host, which is made unless the same inputs made the one that is there: begun from the
    snapshot begin (or booted), brought to its state by make(host)."""
    name = f"{LAB}/{profile}-{stage}"
    with open(f"{name}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(f"{name}.key") and read(f"{name}.key") == inputs:
            return name
        for file in (f"{name}.key", f"{name}-root.qcow2", f"{name}-data.qcow2"):
            if os.path.exists(file):
                os.unlink(file)
        host = Emulated(profile, begin)
        with closed_if_failed(host):
            host.power_on(snapshot=bool(begin))
            make(host)
            host.save(name)
        host.close()
        with open(f"{name}.key", "w", encoding="ascii") as f:
            f.write(inputs)
    return name


def booted(profile):
    inputs = key(read(f"{LAB}/key"), PROFILES[profile], DEVICES, CMDLINE, qemu_version())
    return snapshot(profile, "booted", inputs, None, Emulated.booted)


def sweep():
    """Removes what runs have left behind that were killed."""
    for folder in os.listdir(f"{LAB}/run") if os.path.isdir(f"{LAB}/run") else []:
        if not os.path.exists(f"/proc/{folder.split('-')[0]}"):
            shutil.rmtree(f"{LAB}/run/{folder}", ignore_errors=True)


def restore(profile, disks):
    """A host as it was when a snapshot was taken, and yet one of its own."""
    sweep()
    host = Emulated(profile, disks)
    with closed_if_failed(host):
        host.power_on(snapshot=True)
        host.shape()
    return host


def lab(profile="altra"):
    """A host without Croft; natively, the machine as it is."""
    return Native() if NATIVE else restore(profile, booted(profile))


if __name__ == "__main__":
    for wanted in sys.argv[1:] or PROFILES:
        start = time.monotonic()
        booted(wanted)
        print(f"{wanted}: {time.monotonic() - start:.1f} s")
