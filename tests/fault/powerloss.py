"""powerloss.py: what a disk may hold after the power went. record.c wrote down what croftd did to its home; this replays
every prefix of it, with any subset of what was not synced.

The model is stricter than ext4, XFS or btrfs, and it is what the tests assert:
  * a file's bytes are durable up to its last fsync; of what was written since, any sectors of 512 bytes may be there;
  * a name (create, link, rename, unlink, mkdir) is durable after an fsync of its folder, and by nothing else; of what was
    done since, any subset may be there. A rename happens whole or not at all.
What croftd was asked for stands in the same record as marks (Record.step): what was answered before the power went must be
there, what was under way may be there or not, and nothing else may be."""
import collections
import hashlib
import json
import os
import random
import shutil
import sqlite3

SECTOR = 512
UPLOADING = ".croft-upload-"
VOLATILE = ("run", "croft.sock", "lock", "host.json")       # of a home: what a boot, or croftd's start, makes anew


class Op:
    """One thing done to a file (write, truncate) or to folders (link, unlink, rename)."""

    def __init__(self, what, ino, args, data):
        self.what, self.ino, self.args, self.data = what, ino, args, data

    def dirs(self):
        return {int(self.args[0])} | ({int(self.args[2])} if self.what == "rename" else set())

    def name(self, folders):
        """Apply it to {folder: {name: ino}}."""
        here = folders.setdefault(int(self.args[0]), {})
        if self.what == "link":
            here[self.args[1]] = self.ino
        elif self.what == "unlink":
            here.pop(self.args[1], None)
        else:
            if here.get(self.args[1]) == self.ino:
                del here[self.args[1]]
            folders.setdefault(int(self.args[2]), {})[self.args[3]] = self.ino

    def bytes(self, content, rng=None):
        """Apply it to a file's bytes; with rng only some of its sectors arrive."""
        at = int(self.args[0])
        if self.what == "truncate":
            del content[at:]
            content.extend(bytes(at - len(content)))
            return
        if len(content) < at + len(self.data):
            content.extend(bytes(at + len(self.data) - len(content)))
        first = 0
        while first < len(self.data):
            last = min(len(self.data), first + SECTOR - (at + first) % SECTOR)
            if not rng or rng.random() < 0.5:
                content[at + first:at + last] = self.data[first:last]
            first = last


def read_log(path):
    """Its records: (what, ino, args, bytes)."""
    with open(path, "rb") as f:
        while line := f.readline():
            what, ino, size, *args = line.decode().split()
            yield what, int(ino), args, f.read(int(size))


class Disk:
    """What is durable, and what is pending."""

    def __init__(self, root):
        self.root = root
        self.durable = {}                               # ino -> bytearray
        self.now = {}                                   # ino -> bytearray: as the programs see it
        self.folders = {root: {}}                       # ino -> {name: ino}
        self.pending = collections.OrderedDict()        # number -> Op
        self.count = 0

    def feed(self, what, ino, args, data):
        """Returns whether it was a sync of something that was pending."""
        if what == "create":
            self.durable[ino], self.now[ino] = bytearray(), bytearray()
        elif what == "mkdir":
            self.folders[ino] = {}
        elif what in ("link", "unlink", "rename"):
            op = Op(what, ino, args, b"")
            if op.dirs() <= set(self.folders):
                self.add(op)
        elif ino in self.now and what in ("write", "truncate"):
            op = Op(what, ino, args, data)
            op.bytes(self.now[ino])
            self.add(op)
        elif what == "fsync":
            return self.sync(ino)
        return False

    def add(self, op):
        self.pending[self.count] = op
        self.count += 1

    def foreign(self, ino, data):
        """What programs without the library wrote until this sync."""
        if ino in self.now and data and self.now[ino] != data:
            self.feed("truncate", ino, [str(len(data))], b"")
            self.feed("write", ino, ["0"], data)

    def sync(self, ino):
        mine = [n for n, op in self.pending.items() if (ino in op.dirs() if op.what in ("link", "unlink", "rename") else op.ino == ino)]
        for n in mine:
            op = self.pending.pop(n)
            if op.what in ("write", "truncate"):
                op.bytes(self.durable[op.ino])
            else:
                op.name(self.folders)
        return bool(mine)

    def survivors(self, choose, rng=None):
        """(folders, files) of a disk that kept what choose(op) says; with rng the writes are torn."""
        folders = {ino: dict(names) for ino, names in self.folders.items()}
        files = dict(self.durable)
        copied = set()
        for op in self.pending.values():
            if not choose(op):
                continue
            if op.what in ("link", "unlink", "rename"):
                op.name(folders)
            else:
                if op.ino not in copied:
                    copied.add(op.ino)
                    files[op.ino] = bytearray(files[op.ino])
                op.bytes(files[op.ino], rng if rng and rng.random() < 0.3 else None)
        return folders, files

    def states(self, rng, count):
        """(name, folders, files): nothing of what is pending, all of it, names only, bytes only, and count others."""
        yield "nothing", *self.survivors(lambda op: False)
        if self.pending:
            yield "all", *self.survivors(lambda op: True)
            yield "names", *self.survivors(lambda op: op.what not in ("write", "truncate"))
            yield "bytes", *self.survivors(lambda op: op.what in ("write", "truncate"))
        for i in range(count if len(self.pending) > 1 else min(count, len(self.pending))):
            yield f"some {i}", *self.survivors(lambda op: rng.random() < 0.5, rng)


def materialise(root, folders, files, path):
    shutil.rmtree(path, ignore_errors=True)
    todo = [(root, path)]
    while todo:
        ino, at = todo.pop()
        os.mkdir(at, 0o700)
        for name, child in folders.get(ino, {}).items():
            if (ino == root and name in VOLATILE) or name.endswith("-shm"):
                continue
            if child in folders:
                todo.append((child, f"{at}/{name}"))
            else:
                with open(f"{at}/{name}", "wb") as f:
                    f.write(files.get(child, b""))


# ---- facts: what a home says

ROWS = {        # what of the database is compared; {fact: value}
    "vm": "SELECT name, json_array(labels, config, folder, revision) FROM vms",
    "user": "SELECT name, json_array(role, revision, password) FROM users",
    "token": "SELECT name, role FROM tokens",
    "datastore": "SELECT name, id FROM datastores",
    "task": "SELECT id, CASE WHEN finished IS NULL THEN 'open' ELSE state END FROM tasks",
    "upload": "SELECT id, durable FROM uploads",
}


def facts(home):
    found = {}
    with sqlite3.connect(f"file:{home}/croft.db", uri=True, timeout=20) as db:
        assert db.execute("PRAGMA quick_check").fetchall() == [("ok",)], "the database is damaged"
        for kind, sql in ROWS.items():
            found.update({(kind, name): value for name, value in db.execute(sql)})
    db.close()
    store = f"{home}/datastores/local"
    for folder, names, files in os.walk(store):
        for name in names:
            found["folder", os.path.relpath(f"{folder}/{name}", store)] = "there"
        for name in files:
            if name.removeprefix(".tmp-") in files and name.startswith(".tmp-"):
                continue                        # file.h: the next who publishes, or deletes, clears it away
            with open(f"{folder}/{name}", "rb") as f:
                data = f.read(found.get(("upload", name.removeprefix(UPLOADING)), -1))
            if name == "vm.croft.json":         # follows its row, later: it is a whole one, that is all
                data = json.loads(data)["id"].encode()
            found["file", os.path.relpath(f"{folder}/{name}", store)] = hashlib.sha256(data).hexdigest()
    return found


def cut_off(found, key):
    """What is left of an upload that was under way: a row, and the bytes that it can go on with."""
    return key[0] == "upload" or ("upload", os.path.basename(key[1]).removeprefix(UPLOADING)) in found


class Record:
    """The marks of a scenario beside what record.c writes. before and after: the facts of each step."""

    def __init__(self, path, home):
        self.path, self.home, self.steps = path, home, []

    def mark(self, what):
        with open(self.path, "ab", buffering=0) as f:
            f.write(f"{what} {len(self.steps)} 0\n".encode())

    def step(self, name, act):
        """act() returns when its answer has come."""
        self.mark("begin")
        answer = act()
        self.mark("end")
        self.steps.append((name, facts(self.home)))
        return answer


class Point:
    """A moment at which the power may go: step k is done, and k + 1 is under way or not."""

    def __init__(self, record, done, under_way, at):
        self.done, self.under_way, self.at = done, under_way, at
        self.before = record.steps[done - 1][1] if done else {}
        self.after = record.steps[done][1] if under_way else self.before
        self.name = f"record {at}, after {record.steps[done - 1][0]}" if done else f"record {at}"
        self.name += f", during {record.steps[done][0]}" if under_way else ""

    def wrong(self, found, settled):
        """What may not be so. settled: a croftd has been there and has ended its tasks."""
        if not self.done:
            return []               # nobody was told of anything yet: it has to come up, that is all
        bad = []
        for key in set(self.before) | set(self.after) | set(found):
            old, new, now = self.before.get(key), self.after.get(key), found.get(key)
            if now == old or now == new:
                continue
            changes = old != new or (self.under_way and old is None)
            if key[0] == "task" and (changes or settled):
                continue
            if changes and (not settled or cut_off(found, key)):
                continue            # half of what is under way: the next croftd's business, or the client's
            bad.append(f"{key}: {now!r}, not {old!r}" + (f" or {new!r}" if new != old else ""))
        return bad


def replay(record, root, rng, count):
    """(point, state's name, folders, files) for all that the disk may hold, in time's order."""
    disk, done, under_way, changed = Disk(root), 0, False, True
    for at, (what, ino, args, data) in enumerate(read_log(record.path)):
        if what in ("begin", "end"):
            if done or what == "end":
                for state in disk.states(rng, 0):
                    yield Point(record, done, under_way, at), *state
            done, under_way = (done, True) if what == "begin" else (done + 1, False)
            if what == "end":
                yield Point(record, done, False, at), *next(iter(disk.states(rng, 0)))
            continue
        if what == "fsync":
            disk.foreign(ino, data)
            if changed:
                for state in disk.states(rng, count):
                    yield Point(record, done, under_way, at), *state
            changed = False
        before = disk.count
        synced = disk.feed(what, ino, args, data)
        changed = changed or disk.count != before or synced
        if synced:
            yield Point(record, done, under_way, at), *next(iter(disk.states(rng, 0)))
