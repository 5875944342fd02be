"""The screen: RFB through a WebSocket, as noVNC speaks it. A key that is pressed changes pixels."""
import struct
import time

import websocket

from croft import SLOW, wait_for


class Rfb:
    """Enough of RFB 3.8 to see a screen and to press a key."""

    def __init__(self, ws):
        self.ws, self.data = ws, b""
        assert self.read(12) == b"RFB 003.008\n"
        self.ws.send_binary(b"RFB 003.008\n")
        assert 1 in self.read(self.read(1)[0])          # security: none
        self.ws.send_binary(b"\x01")
        assert self.read(4) == b"\0\0\0\0"
        self.ws.send_binary(b"\x01")
        head = self.read(24)
        self.width, self.height = struct.unpack(">HH", head[:4])
        self.name = self.read(struct.unpack(">I", head[20:])[0])
        self.ws.send_binary(struct.pack(">BBHi", 2, 0, 1, 0))           # raw
        self.ws.send_binary(struct.pack(">B3xBBBBHHHBBB3x", 0, 32, 24, 0, 1, 255, 255, 255, 16, 8, 0))

    def read(self, n):
        while len(self.data) < n:
            self.data += self.ws.recv()
        found, self.data = self.data[:n], self.data[n:]
        return found

    def picture(self):
        """Asks for the whole screen, and returns its pixels."""
        self.ws.send_binary(struct.pack(">BBHHHH", 3, 0, 0, 0, self.width, self.height))
        pixels = {}
        while sum(len(p) for p in pixels.values()) < self.width * self.height * 4:
            assert self.read(1) == b"\0"
            for _ in range(struct.unpack(">xH", self.read(3))[0]):
                x, y, w, h, encoding = struct.unpack(">HHHHi", self.read(12))
                assert encoding == 0
                pixels[x, y] = self.read(w * h * 4)
        return pixels

    def press(self, keysym):
        for down in (1, 0):
            self.ws.send_binary(struct.pack(">BBxxI", 4, down, keysym))


def still(rfb):
    """The picture, when it has stopped changing."""
    before = None
    end = time.monotonic() + 60 * SLOW
    while (now := rfb.picture()) != before:
        assert time.monotonic() < end, "the screen does not come to rest"
        before = now
        time.sleep(1)
    return now


def screen(client):
    ticket = client.post("/vms/demo/console", {"kind": "screen"})
    return Rfb(client.websocket(ticket["url"], subprotocols=["binary"]))


def test_a_key_changes_pixels(demo):
    client = demo.client()
    client.wait_state("demo", "running")
    client.console("demo").until(b"demo:~# ")

    def big():                  # until the driver is loaded, the guest has no picture
        rfb = screen(client)
        if rfb.width >= 1024:
            return rfb
        rfb.ws.close()
    rfb = wait_for("the guest drives its screen", big, 60)
    before = still(rfb)
    assert len(set(before[0, 0])) > 1, "the screen is empty"
    rfb.press(ord("l"))
    rfb.press(ord("s"))
    after = wait_for("pixels change", lambda: (p := rfb.picture()) != before and p, 20)
    assert after != before
    rfb.ws.close()


def test_a_ticket_is_good_once(demo):
    client = demo.client()
    ticket = client.post("/vms/demo/console", {"kind": "screen"})
    rfb = Rfb(client.websocket(ticket["url"]))
    try:
        client.websocket(ticket["url"])
        raise AssertionError("the second use of a ticket was let in")
    except websocket.WebSocketBadStatusException as e:
        assert e.status_code in (401, 403, 404), e
    rfb.ws.close()
