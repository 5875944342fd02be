"""VMs that start with the host: once in each boot, and only those."""
import contextlib
import sqlite3

from croft import croftd


def another_boot(c):
    """The next croftd finds that the host has been restarted meanwhile."""
    c.end()
    with contextlib.closing(sqlite3.connect(f"{c.home}/croft.db")) as db, db:
        assert db.execute("UPDATE settings SET value = 'another' WHERE key = 'boot_id'").rowcount == 1
    c.start()
    return c.client()


def test_vms_start_with_the_host():
    with croftd() as c:
        api = c.client()
        for name, autostart in ("web", True), ("db", True), ("lab", False):
            api.post("/vms", {"name": name, "config": {"engine": "sim", "autostart": autostart}})
        c.end()
        c.start()
        assert {v["status"]["state"] for v in c.client().items("/vms")} == {"off"}, "croftd was restarted, not the host"
        api = another_boot(c)
        api.wait_state("web", "running")
        api.wait_state("db", "running")
        assert api.vm("lab")["status"]["state"] == "off"
        assert "2 VMs are to be started with it" in c.log
        started = [t for t in api.items("/tasks") if t["kind"] == "vm.start"]
        assert {t["target_name"] for t in started} == {"web", "db"} and {t["user"] for t in started} == {"croft"}
        api.post("/vms/web/poweroff")
        c.end()
        c.start()
        assert c.client().vm("web")["status"]["state"] == "off", "once in a boot"
