"""tiny.py: a real guest of 228 bytes that boots in a blink: says "R", echoes what it reads, powers off at 'q' or at its
power button, and needs no CPU meanwhile. Its source is in tests/fixtures/tiny/tiny.S."""
import contextlib
import os
import struct

WORDS = """
14000010 00000000 00080000 00000000 00001000 00000000 0000000a 00000000 00000000 00000000 00000000 00000000 00000000
00000000 644d5241 00000000 d2a12013 d2808294 f2a12074 d5380402 d3586c42 b40001e2 d2a10003 52800261 b9000061 d2a10163
12800001 b9008061 52a10001 b9010061 d2801fe1 d5184601 d2800021 d518cce1 d51be321 d5033fdf 52800a40 b9000260 b9400281
350001c1 b9401a61 372000e1 b9400260 12001c00 7101c41f 54000100 b9000260 17fffff7 b4fffec2 d2a00041 d51be301 d503207f
17fffff2 52800100 72b08000 d4000002 14000000"""
IMAGE = b"".join(struct.pack("<I", int(word, 16)) for word in WORDS.split())
TALKS = IMAGE.replace(struct.pack("<I", 0x372000e1), struct.pack("<I", 0xd503201f))   # it waits for nothing: NULs without end
DEAF = IMAGE.replace(struct.pack("<I", 0x350001c1), struct.pack("<I", 0xd503201f))    # it never looks at its power button


def upload(api, name="tiny.bin", image=IMAGE):
    """Puts the guest's kernel on the datastore, once."""
    if api.request("GET", f"/datastores/local/files/{name}").status == 404:
        answer = api.request("PUT", f"/datastores/local/files/{name}", image)
        assert answer.status == 201, answer


def put_discs(croft):
    """a.iso and b.iso, of 1 MiB each, on the datastore."""
    for name in ("a.iso", "b.iso"):
        with open(f"{croft.home}/datastores/local/{name}", "wb") as f:
            f.write(os.urandom(1 << 20))


def config(**more):
    return {"firmware": "kernel", "kernel": {"image": "[local] tiny.bin"}, "memory_bytes": 64 << 20, "display": "none",
            "on_crash": "off", **more}      # a test that kills it means it


def up(api, name):
    """The guest has come so far that it hears its power button: it echoes."""
    with contextlib.closing(api.console(name)) as console:
        console.type("x")               # what it has said while its croft-vm was dead is lost
        console.until(b"x", 5)
    return True
