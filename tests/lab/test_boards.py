"""Other kinds of ARM hosts: what Croft says of them is so, and a guest boots by KVM."""
import pytest

import hosted
import lab
from hosted import QUICK, prompt


def laid_out(profile):
    """The package's files without dpkg, which test_install.py has tried: a host in a fifth of the time."""
    croft = hosted.Croft(lab.lab(profile))
    with lab.closed_if_failed(croft.host):
        croft.host.put(hosted.package(), "/root/croft.deb")
        croft.ok("""dpkg-deb --fsys-tarfile /root/croft.deb | tar -x -C / --keep-directory-symlink
            systemd-sysusers croft.conf; systemd-tmpfiles --create croft.conf""", 40)
        croft.start().furnish(["vmlinuz", "initrd.gz"])
    return croft


def boots(croft, **config):
    croft.create("guest", **{**QUICK, **config})
    console = croft.client().console("guest")
    prompt(console)
    croft.pid("guest")
    return console


@pytest.fixture
def host(request):
    if lab.NATIVE:
        pytest.skip("this machine is what it is")
    croft = laid_out(request.param)
    yield croft
    croft.host.close()


def facts(croft):
    found = croft.json("vmctl host -o json")["facts"]
    assert found["accel"] == "kvm", found["accel_reason"]
    return found


def small_board(croft, core, mode):
    found = facts(croft)
    kvm = found["kvm"]
    assert (kvm["gic"], kvm["max_vcpus"], kvm["mode"]) == (2, 8, mode)
    assert [t["name"] for t in found["cpu_types"]] == [core]
    status, said = croft.run(f"vmctl create large cpus=9 memory=192MiB kernel='{QUICK['kernel']}'", 20)
    assert status and "8" in said and "GICv2" in said, said
    boots(croft)


@pytest.mark.parametrize("host", ["pi4"], indirect=True)
def test_pi4(host):
    small_board(host, "cortex-a72", "nvhe")


@pytest.mark.parametrize("host", ["pi5"], indirect=True)
def test_pi5(host):
    small_board(host, "cortex-a76", "vhe")


@pytest.mark.parametrize("host", ["numa"], indirect=True)
def test_numa(host):
    found = facts(host)
    assert found["cpus"] == 16 and [n["cpus"] for n in found["nodes"]] == [8, 8]
    assert found["kvm"]["gic"] == 3 and found["kvm"]["max_vcpus"] > 16
    console = boots(host, cpus=2)
    assert b"\r\n2\r\n" in console.command("nproc")


@pytest.mark.parametrize("host", ["dpu"], indirect=True)
def test_dpu(host):
    found = facts(host)
    assert found["smmu"]
    nvme = host.wait("ls -d /sys/bus/pci/drivers/nvme/0000:*", 20, "the NVMe is there").strip()
    host.ok(f"echo 0 >{nvme}/sriov_drivers_autoprobe; echo 4 >{nvme}/sriov_numvfs", 20)
    assert len(host.ok(f"ls -d {nvme}/virtfn*").split()) == 4
    assert len(host.ok(f"ls -d {nvme}/virtfn*/iommu_group").split()) == 4
    boots(host)
