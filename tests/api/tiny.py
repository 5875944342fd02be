"""tiny.py: a real guest of 200 bytes that boots in a blink: says "R", echoes what it reads, powers off at 'q' or at its
power button. Its source is in tests/fixtures/tiny/tiny.S."""
import struct

WORDS = """
14000010 00000000 00080000 00000000 00001000 00000000 0000000a 00000000 00000000 00000000 00000000 00000000 00000000
00000000 644d5241 00000000 d2a12013 d2808294 f2a12074 52800a40 b9000260 b9400281 35000121 b9401a61 3727ffa1 b9400260
12001c00 7101c41f 54000060 b9000260 17fffff7 52800100 72b08000 d4000002 14000000"""
IMAGE = b"".join(struct.pack("<I", int(word, 16)) for word in WORDS.split())
TALKS = IMAGE.replace(struct.pack("<I", 0x3727ffa1), struct.pack("<I", 0xd503201f))   # it waits for nothing: NULs without end
DEAF = IMAGE.replace(struct.pack("<I", 0x35000121), struct.pack("<I", 0xd503201f))    # it never looks at its power button


def upload(api, name="tiny.bin", image=IMAGE):
    """Puts the guest's kernel on the datastore, once."""
    if api.request("GET", f"/datastores/local/files/{name}").status == 404:
        answer = api.request("PUT", f"/datastores/local/files/{name}", image)
        assert answer.status == 201, answer


def config(**more):
    return {"firmware": "kernel", "kernel": {"image": "[local] tiny.bin"}, "memory_bytes": 64 << 20, "display": "none",
            "on_crash": "off", **more}      # a test that kills it means it
