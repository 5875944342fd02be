"""The database is damaged: cut off, with flipped bytes, empty, no database, gone. croftd comes up, says what is wrong, keeps
the file, and goes on with what can be read; the VMs are there, from their rows or from what stands on the datastore, and
the guest that runs runs on. CROFT_SEED repeats a run."""
import contextlib
import glob
import os
import random
import shutil
import sqlite3

import pytest
import tiny
from croft import O, croftd, wait_for
from powerloss import read_log

SEED = int(os.environ.get("CROFT_SEED") or random.randrange(10**9))
ALL = bool(os.environ.get("CROFT_POWER"))
SIMS = 40


class House:
    """A home with a VM that runs and one that is off, each with a disk, and many simulated ones."""

    def __init__(self, c, folder):
        self.c, self.db, self.folder = c, f"{c.home}/croft.db", folder
        api = c.client()
        tiny.upload(api)
        for name in "runs", "off":
            api.post("/vms", {"name": name, "config": tiny.config(disks={"data": {"size_bytes": 1 << 20}})})
            api.ok("PATCH", f"/vms/{name}", {"labels": {"kept": "yes"}, "config": {"description": "as it was patched"}})
        for i in range(SIMS):
            api.post("/vms", {"name": f"sim-{i}", "config": {"engine": "sim"}})
        api.post("/users", {"name": "ann", "role": "operator", "password": "a long secret"})
        self.pid = api.post("/vms/runs/start")["status"]["pid"]
        self.ids = {vm["name"]: vm["id"] for vm in api.items("/vms")}
        self.last = max(t["id"] for t in api.items("/tasks"))

    def keep(self, name):
        """What the damage is done to: the files as a croftd leaves them that was killed, or that has ended."""
        self.good = f"{self.folder}/{name}"
        if os.path.isdir(self.good):
            return
        if self.c.process.poll() is not None:
            self.c.start()
        self.c.client().ok("PATCH", "/vms/off", {"labels": {"last": name}})
        {"killed": self.c.kill, "ended": self.c.end}[name]()
        os.mkdir(self.good)
        for path in glob.glob(f"{self.db}*"):
            if not path.endswith("-shm"):
                shutil.copy(path, self.good)

    def damage(self, how):
        """The good files with that done to them."""
        if self.c.process.poll() is None:
            self.c.end()
        for path in glob.glob(f"{self.db}*"):
            os.remove(path)
        for path in glob.glob(f"{self.good}/*"):
            shutil.copy(path, self.c.home)
        how(self.db)
        kept = {}
        for path in self.db, f"{self.db}-wal":
            with contextlib.suppress(FileNotFoundError), open(path, "rb") as f:
                kept[path] = f.read()
        self.c.start()
        return kept

    def shown(self, api):
        """Is the guest that runs there, as a VM or as an orphan?"""
        pids = [vm["status"]["pid"] for vm in api.items("/vms?state=running")] + [o["pid"] for o in api.get("/host")["agent"]["orphans"]]
        return pids == [self.pid]

    def check(self, kept, must_tell=None, whole=True):
        """whole: all VMs that have a disk must be there as they were; without, a text in their rows may be another."""
        api = self.c.client()
        wait_for("the guest runs, and is shown", lambda: self.shown(api))
        aside = glob.glob(f"{self.db}.damaged-*")
        if must_tell is not None:
            assert bool(aside) == must_tell, aside
        if whole:
            wait_for("it has brought back what it can", lambda: {"runs", "off"} <= {vm["name"] for vm in api.items("/vms")})
            assert api.wait_state("runs", "running")["status"]["pid"] == self.pid
            for name in "runs", "off":
                vm = api.vm(name)
                assert vm["id"] == self.ids[name] and vm["config"]["disks"]["data"]["path"] == f"[local] {name}/data.qcow2", vm
            api.ok("PATCH", "/vms/off", {"labels": {"works": "again"}})
        problems = api.get("/host")["agent"]["problems"]
        assert bool(problems) >= bool(aside)
        if aside:
            assert "damaged" in self.c.log[self.c.log_start:] and "remove" in problems[0] and self.db in problems[0]
            with open(min(aside, key=len), "rb") as f:
                assert f.read() == kept[self.db], "the damaged file is kept as it was"
            api.post("/vms", {"name": "new", "config": {"engine": "sim"}})
            assert max(t["id"] for t in api.items("/tasks")) > self.last + 1000
        with sqlite3.connect(self.db) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        db.close()
        return {vm["name"] for vm in api.items("/vms")}


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with croftd() as c:
        house = House(c, tmp_path_factory.mktemp("damage"))
        yield house
        house.damage(lambda db: None)


@pytest.fixture(params=["killed", "ended"])
def left(request, house):
    """As a croftd left it: with a log, or all in one file."""
    house.keep(request.param)
    return house


def write(path, at, data):
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(data)


def flip(path, rng, count=1):
    with open(path, "r+b") as f:
        data = bytearray(f.read())
        for _ in range(count):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        f.seek(0)
        f.write(data)


def test_nothing_is_wrong(left):
    kept = left.damage(lambda db: None)
    assert len(left.check(kept, False)) == SIMS + 2


@pytest.mark.parametrize("how", ["empty", "no database", "gone", "page 1"])
def test_all_of_it(left, how):
    def damage(db):
        if how == "gone":
            os.remove(db)
        elif how == "page 1":
            write(db, 0, bytes(4096))
        else:
            with open(db, "wb") as f:
                f.write(b"" if how == "empty" else random.Random(1).randbytes(100_000))
        with contextlib.suppress(FileNotFoundError):
            os.remove(f"{db}-wal")
    kept = left.damage(damage)
    left.check(kept, None if how in ("empty", "gone") else True)
    assert left.c.client().get("/vms/off")["config"]["description"] == "as it was patched", "its descriptor follows its row"


@pytest.mark.parametrize("what", ["cut off", "a byte", "many bytes", "a page"])
def test_some_of_it(left, what):
    rng = random.Random(SEED)
    for i in range(40 if ALL else 4):
        def damage(db):
            files = [path for path in (db, f"{db}-wal") if os.path.exists(path) and os.path.getsize(path)]
            path = rng.choice(files)
            size = os.path.getsize(path)
            if what == "cut off":
                os.truncate(path, rng.randrange(size))
            elif what == "a page":
                write(path, rng.randrange(size // 4096) * 4096, rng.randbytes(4096))
            else:
                flip(path, rng, 1 if what == "a byte" else 30)
        print(f"CROFT_SEED={SEED}: {what}, {i}")
        left.check(left.damage(damage), whole=False)


@pytest.mark.parametrize("left", ["ended"], indirect=True)
def test_a_column_that_has_lost_its_name(left):
    """SQLite's check finds nothing wrong with that; what asks for the column would be refused."""
    def damage(db):
        with contextlib.closing(sqlite3.connect(db)) as sql:
            sql.execute("PRAGMA writable_schema = 1")
            sql.execute("UPDATE sqlite_schema SET sql = replace(sql, 'user TEXT', 'usfr TEXT') WHERE name = 'tokens'")
            sql.commit()
    left.check(left.damage(damage), True)
    assert "its tables are not those that croftd has made" in left.c.log[left.c.log_start:]


def break_log(db, at):
    frames = (os.path.getsize(f"{db}-wal") - 32) // 4120
    write(f"{db}-wal", 32 + frames // 2 * 4120 + at, b"\xaa\x55")


@pytest.mark.parametrize("left", ["killed"], indirect=True)
def test_the_log_in_its_midst(left):
    """SQLite says nothing of it: it takes the log up to there."""
    rng = random.Random(SEED)
    def damage(db):
        break_log(db, rng.randrange(4120))
    for _ in range(40 if ALL else 4):
        print(f"CROFT_SEED={SEED}")
        left.check(left.damage(damage), True)
        assert "its log cannot be read to its end" in left.c.log[left.c.log_start:]


@pytest.mark.parametrize("left", ["killed"], indirect=True)
def test_killed_while_it_salvages(left, tmp_path):
    """At any of the things that it does to the disk: the next one begins anew, or ends it."""
    log, damage = f"{tmp_path}/record", lambda db: break_log(db, 100)
    options = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
    record = {"LD_PRELOAD": os.path.abspath(f"{O}/tests/fault/record.so"), "CROFT_RECORD": log, "CROFT_RECORD_HOME": left.c.home,
              "ASAN_OPTIONS": options}
    open(log, "wb").close()
    left.c.environment = record
    kept = left.damage(damage)
    names = left.check(kept, True) - {"new"}
    last = next(n for n, (what, _, args, _) in enumerate(read_log(log)) if what == "rename" and args[1] == "croft.db.new") + 1
    for at in [*range(1, last, 1 if ALL else 20), *range(last - 8, last + 3)]:
        left.c.environment = {**record, "CROFT_RECORD_DIE": str(at)}
        with pytest.raises(AssertionError, match="croftd did not start"):
            left.damage(damage)
        left.c.environment = {}
        left.c.start()
        assert left.check(kept, True) - {"new"} == names, f"killed at {at} of {last}"


def test_of_a_newer_croft(left):
    """That is no damage: it is left as it is."""
    def newer(db):
        with sqlite3.connect(db) as c:
            c.execute("PRAGMA user_version = 99")
        c.close()
    with pytest.raises(AssertionError, match="written by a newer Croft"):
        left.damage(newer)
    assert left.c.process.wait() == 2 and not glob.glob(f"{left.db}.damaged-*")
    left.damage(lambda db: None)
