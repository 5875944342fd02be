"""What the host can't do is said before QEMU is started; and a VM stays on cores of one kind. The host is another than
this machine here: croftd keeps what it found out about the host in host.json, for as long as neither changes, and the tests
change that file. What then runs is a real QEMU under this machine's kernel."""
import json
import os
import re

import pytest
import tiny

CPUS = sorted(os.sched_getaffinity(0))
KVM = {"usable": True, "reason": "a virtual CPU has run in a probe", "gic": 3, "gicv2": False, "ipa_bits": 40, "max_vcpus": 512,
       "cpu_models": ["host", "max"]}


def another_host(croft, **facts):
    """Ends croftd, and starts it on a host with other facts. kvm: merged."""
    croft.end()
    path = f"{croft.home}/host.json"
    with open(path, encoding="utf-8") as f:
        cache = json.load(f)
    cache["host"]["kvm"].update(facts.pop("kvm", {}))
    cache["host"].update(facts)
    with open(path, "w", encoding="utf-8") as f:
        json.dump(cache, f)
    croft.start()
    api = croft.client()
    found = api.get("/host")["facts"]
    assert all(found[key] == value for key, value in facts.items()), "host.json was not believed"
    return api


def where(problem):
    return problem["errors"][0]["pointer"]


def kind(name, cpu, capacity):
    return {"name": name, "midr": "0x410fd000", "count": 1, "list": str(cpu), "capacity": capacity, "max_khz": 0}


def cpus_of(pid):
    """Those of all its threads, which must be the same."""
    found = set()
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/status", encoding="ascii", errors="replace") as f:
            found.add(re.search(r"^Cpus_allowed_list:\s+(.*)", f.read(), re.M)[1])
    assert len(found) == 1, found
    return found.pop()


def test_a_vm_stays_on_cores_of_one_kind(fresh):
    if len(CPUS) < 2:
        pytest.skip("this machine has one CPU")
    small, fast = CPUS[0], CPUS[-1]
    api = another_host(fresh, cpu_types=[kind("cortex-a55", small, 400), kind("cortex-a76", fast, 1024)])
    tiny.upload(api)
    api.post("/vms", {"name": "a", "config": tiny.config(core_type="cortex-a76", cpus=2)})
    vm = api.post("/vms/a/start")
    assert vm["status"]["host_cpus"] == str(fast) == cpus_of(vm["status"]["pid"])
    assert vm["status"]["host_cpus_reason"] == \
        "the 1 core of the kind cortex-a76, as core_type says; its 2 virtual CPUs share them"

    vm = api.ok("PATCH", "/vms/a", {"config": {"core_type": "cortex-a55"}})
    assert vm["pending"] == ["/config/core_type"]
    assert vm["status"]["host_cpus"] == str(fast) and "cortex-a76" in vm["status"]["host_cpus_reason"]
    fresh.kill()                                    # QEMU runs on, and the next croftd sees where
    fresh.start()
    api = fresh.client()
    again = api.wait_state("a", "running")
    assert again["status"]["host_cpus"] == str(fast) and "cortex-a76" in again["status"]["host_cpus_reason"]
    assert cpus_of(again["status"]["pid"]) == str(fast)

    api.post("/vms/a/poweroff")
    off = api.vm("a")["status"]
    assert off["host_cpus"] is None and off["host_cpus_reason"] is None
    vm = api.post("/vms/a/start")
    assert vm["status"]["host_cpus"] == str(small) == cpus_of(vm["status"]["pid"])
    api.post("/vms/a/poweroff")

    problem = api.problem(422, "POST", "/vms", {"name": "b", "config": tiny.config(core_type="cortex-x4")})
    assert where(problem) == "/config/core_type" and "cortex-a55, cortex-a76" in problem["hint"]
    api.post("/vms", {"name": "c", "config": tiny.config()})      # emulated, it may run anywhere
    vm = api.post("/vms/c/start")
    assert vm["status"]["host_cpus"] == cpus_of(vm["status"]["pid"]) and vm["status"]["host_cpus_reason"] is None


REFUSED = [     # what is asked for, the field that it is at, a part of the sentence
    ({"gic": "auto", "cpus": 9}, "/config/cpus", "a GICv2 serves at most 8 virtual CPUs, not 9"),
    ({"gic": "3"}, "/config/gic", "this host's KVM has a GICv2, not a GICv3"),
    ({"memory_bytes": 64 << 30}, "/config/memory_bytes", "64 GiB of memory is more than the 63 GiB that 36 address bits"),
    ({"cpu_model": "neoverse-n1"}, "/config/cpu_model", 'a guest sees the host\'s own CPU, not a "neoverse-n1"'),
]


@pytest.fixture(scope="module")
def small(croft):
    """A host with KVM, a GICv2, 36 address bits and much memory."""
    api = another_host(croft, kvm={**KVM, "gic": 2, "max_vcpus": 8, "ipa_bits": 36}, memory_bytes=1 << 40)
    tiny.upload(api)
    return api


@pytest.mark.parametrize("wanted, pointer, sentence", REFUSED)
def test_what_the_host_cannot_do_is_refused_at_creation(small, wanted, pointer, sentence):
    problem = small.problem(422, "POST", "/vms", {"name": "x", "config": tiny.config(accel="kvm", **wanted)})
    assert where(problem) == pointer and sentence in problem["detail"] and problem["hint"], problem
    assert small.request("GET", "/vms/x").status == 404


def test_and_at_a_change(small):
    small.post("/vms", {"name": "p", "config": tiny.config(accel="kvm")})
    for wanted, pointer, sentence in REFUSED[0:1] + REFUSED[2:3]:
        wanted = {key: value for key, value in wanted.items() if key != "gic"}
        problem = small.problem(422, "PATCH", "/vms/p", {"config": wanted})
        assert where(problem) == pointer and sentence in problem["detail"], problem
    assert small.vm("p")["revision"] == 1


def test_and_at_the_start_when_the_host_is_another_one(fresh):
    api = another_host(fresh, kvm=KVM, memory_bytes=1 << 40)
    tiny.upload(api)
    api.post("/vms", {"name": "many", "config": tiny.config(accel="kvm", cpus=9)})
    api.post("/vms", {"name": "large", "config": tiny.config(accel="kvm", memory_bytes=64 << 30)})
    api.post("/vms", {"name": "plain", "config": tiny.config()})
    assert api.vm("plain")["config"]["cpu_model"] == "host"

    def refused(name):
        problem = api.problem(422, "POST", f"/vms/{name}/start", None, Prefer="wait=30")
        status = api.vm(name)["status"]
        assert status["state"] == "off" and status["last_end"]["why"] == "never" and not fresh.qemu(), status
        return where(problem), problem["detail"]

    api = another_host(fresh, kvm={"max_vcpus": 8, "ipa_bits": 36})
    pointer, sentence = refused("many")
    assert pointer == "/config/cpus" and "at most 8 virtual CPUs" in sentence, sentence
    pointer, sentence = refused("large")
    assert pointer == "/config/memory_bytes" and "36 address bits" in sentence, sentence
    api = another_host(fresh, kvm={"gic": 2, "gicv2": True})
    pointer, sentence = refused("plain")
    assert pointer == "/config/gic" and "GICv2" in sentence, sentence
    api = another_host(fresh, kvm={"usable": False, "reason": "there is no /dev/kvm"})
    pointer, sentence = refused("plain")
    assert pointer == "/config/cpu_model" and "there is no /dev/kvm" in sentence, sentence


def test_every_limit_has_its_reason(croft):
    facts = croft.client().get("/host")["facts"]
    limits = {limit["what"]: limit for limit in facts["limits"]}
    assert {"more-than-8-vcpus", "memory-for-one-vm", "uniform-cores", "vhe", "named-cpu-models", "performance-counters", "sve",
            "pointer-authentication", "memory-tagging", "32-bit-kernels", "iommu", "4k-pages"} <= set(limits)
    assert all(len(limit["reason"]) > 5 for limit in limits.values()), limits
