"""The package on a host with systemd: it is installed by dpkg, and the agent serves at once."""

def test_the_package_installs(croft):
    if croft.host.profile != "native":
        said = croft.ok("cat /root/install.log")
        assert "Setting up croft" in said and "rror" not in said, said
    assert croft.ok("dpkg-query -W -f '${Status}' croft") == "install ok installed"
    assert croft.ok("systemctl --failed --no-legend --plain") == ""
    assert not croft.run("systemctl is-enabled -q croftd croft-guests && systemctl is-active -q croftd croft-guests")[0]

def test_the_agent_runs_under_its_unit(croft):
    unit = dict(line.split("=", 1) for line in croft.ok(
        "systemctl show croftd -p Type,WatchdogUSec,NotifyAccess,KillMode,Restart,OOMPolicy,MainPID,ControlGroup").splitlines())
    assert unit["Type"] == "notify" and unit["KillMode"] == "process" and unit["OOMPolicy"] == "continue"
    assert unit["Restart"] == "always" and unit["WatchdogUSec"] == "1min"
    processes = croft.ok(f"cd /sys/fs/cgroup{unit['ControlGroup']} && for p in $(cat cgroup.procs); do cat /proc/$p/comm; done")
    assert sorted(set(processes.split())) == ["croft-front", "croftd"]
    assert croft.ok("journalctl -u croftd -b -p err --no-pager -o cat") in ("", "-- No entries --\n")

def test_the_front_is_confined(croft):
    """What stands between the network and this host: no user's uid, no capability, a filter, an empty root."""
    front = croft.json("vmctl host -o json")["agent"]["front_pid"]
    status = dict(line.split(":\t", 1) for line in croft.ok(f"cat /proc/{front}/status").splitlines())
    assert "0" not in status["Uid"].split() and status["Groups"].strip() == ""
    for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb"):
        assert int(status[f"Cap{kind}"], 16) == 0, kind
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    assert croft.ok(f"ls -A /proc/{front}/root/") == ""

def test_https_from_outside(croft):
    answer = croft.client().get("/host")
    assert answer["facts"]["accel"] == "kvm" and answer["facts"]["systemd"]
    assert answer["agent"]["home"] == "/var/lib/croft"

def test_nobody_gets_in_without_a_password(croft):
    from croft import Client
    assert Client(croft, tls=True).request("GET", "/vms").status == 401
    refused = Client(croft, tls=True).request("POST", "/session", {"name": "admin", "password": "admin"})
    assert refused.status in (401, 403), refused
