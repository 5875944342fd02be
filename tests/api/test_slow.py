"""Clients that are slow, cut in pieces, half closed or silent: each costs itself something, and nobody else."""
import collections
import contextlib
import os
import random
import re
import socket
import threading
import time
import uuid

import pytest
from croft import SLOW, wait_for


@pytest.fixture(scope="module", params=["unix", "tls"])
def client(request, croft):
    """How to get a client of either door: a function."""
    if request.param == "unix":
        return croft.client
    api = croft.client()
    api.post("/users", {"name": "slow", "role": "admin"})
    token = api.post("/tokens", {"name": "t", "user": "slow"})["secret"]
    return lambda: croft.client(tls=True, token=token)


@pytest.fixture
def name():
    return "s" + uuid.uuid4().hex[:8]


@pytest.fixture(autouse=True)
def others_go_on(croft):
    """While a test does its worst, another client asks again and again; and the daemon is the same after it."""
    pid, stop, count = croft.process.pid, threading.Event(), [0]

    def ask():
        other = croft.client(timeout=20)
        while not stop.is_set():
            assert other.request("GET", "/vms").status == 200
            count[0] += 1
    thread = threading.Thread(target=ask)
    thread.start()
    yield
    before = count[0]
    wait_for("the other client goes on", lambda: count[0] > before + 3)
    stop.set()
    thread.join(30 * SLOW)
    assert not thread.is_alive() and croft.process.pid == pid and croft.process.poll() is None


def head(client, method, path, *lines):
    auth = client.headers.get("Authorization")
    lines = ["Host: x", *([f"Authorization: {auth}"] if auth else []), *lines]
    return f"{method} /api/v1{path} HTTP/1.1\r\n{''.join(line + chr(13) + chr(10) for line in lines)}\r\n".encode()


def end_sending(sock):
    """Half of the connection below TLS (SSLSocket.shutdown would forget that it is TLS)."""
    socket.socket.shutdown(sock, socket.SHUT_WR)


def read_answer(sock):
    """(status, body) of one answer."""
    sock.settimeout(30 * SLOW)
    text = b""
    while b"\r\n\r\n" not in text:
        part = sock.recv(65536)
        if not part:
            return None, text
        text += part
    first, _, body = text.partition(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in first.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += sock.recv(65536)
    return int(first.split()[1]), body


def test_split_at_every_byte(client, name):
    c = client()
    body = b'{"name":"%s","config":{"engine":"sim","description":"\xc3\xa4\xf0\x9f\xa6\x9c"}}' % name.encode()
    request = head(c, "POST", "/vms", "Content-Type: application/json", f"Content-Length: {len(body)}", "Prefer: wait=30") + body
    for at in range(1, len(request)):
        sock = c.raw_socket()
        with contextlib.suppress(AttributeError, OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(request[:at])
        sock.sendall(request[at:])
        status, answer = read_answer(sock)
        assert status == (201 if at == 1 else 409), (at, answer)
        sock.close()


def test_byte_by_byte(client, name):
    c = client()
    body = b'{"name":"%s","config":{"engine":"sim"}}' % name.encode()
    sock = c.raw_socket()
    for byte in head(c, "POST", "/vms", "Content-Type: application/json", f"Content-Length: {len(body)}", "Prefer: wait=30") + body:
        sock.sendall(bytes([byte]))
    assert read_answer(sock)[0] == 201
    # The connection is kept; chunks of one byte each do as well.
    for part in (head(c, "PATCH", f"/vms/{name}", "Content-Type: application/json", "Transfer-Encoding: chunked"),
                 *(b"1\r\n%c\r\n" % byte for byte in b'{"labels":{"a":"b"}}'), b"0\r\n\r\n"):
        sock.sendall(part)
    assert read_answer(sock)[0] == 200
    sock.close()


def test_many_requests_in_one_write(client, name):
    c = client()
    sock = c.raw_socket()
    sock.sendall(head(c, "GET", "/vms/nobody") * 50)
    rest = b""
    sock.settimeout(30 * SLOW)
    while rest.count(b"HTTP/1.1 404") < 50:
        part = sock.recv(65536)
        assert part, rest[-500:]
        rest += part
    sock.close()


def test_one_that_never_sends_its_head(client):
    """It is told, or just closed, within the deadline for heads (10 s)."""
    c = client()
    sock = c.raw_socket()
    sock.sendall(b"GET /api/v1/vms HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    sock.settimeout(20 * SLOW)
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while part := sock.recv(65536):
            answer += part
    assert not answer or answer.startswith(b"HTTP/1.1 408 ")
    sock.close()


def test_one_that_drips_its_head(client):
    """A byte a second is no way around that deadline."""
    c = client()
    sock = c.raw_socket()
    start = time.monotonic()
    with contextlib.suppress(OSError):
        for byte in b"GET /api/v1/vms HTTP/1.1\r\nHost: x\r\n" + b"X-A: b\r\n" * 10:
            sock.sendall(bytes([byte]))
            time.sleep(0.5)
    assert time.monotonic() - start < 30 * SLOW
    sock.close()


def test_five_hundred_that_say_nothing(croft, client):
    """They hold connections, but no request of another one."""
    c, silent = client(), []
    for i in range(300):
        with contextlib.suppress(OSError):
            silent.append(c.raw_socket())
            silent[-1].sendall(b"GET /api/v1/vms HTTP/1.1\r\n"[:i % 24])
    local = croft.client()
    for _ in range(50):
        assert local.request("GET", "/vms").status == 200
    for s in silent:
        s.close()


def test_one_that_does_not_read(client):
    """Its answers fill its socket: it gets no more until it reads, and then all of them."""
    c = client()
    api = client()
    for i in range(30):
        api.request("POST", "/vms", {"name": f"much-{i}", "labels": {f"l{k}": "x" * 250 for k in range(40)}, "config": {"engine": "sim"}})
    sock = c.raw_socket()
    count = 60
    sent = threading.Thread(target=lambda: sock.sendall(head(c, "GET", "/vms?name=much-*") * count))
    sent.start()
    for _ in range(20):
        assert api.request("GET", "/vms").status == 200
    total, seen = 0, b""
    sock.settimeout(30 * SLOW)
    answers = 0
    while answers < count:
        part = sock.recv(1 << 20)
        assert part
        total += len(part)
        seen = seen[-20:] + part
        answers += seen.count(b'"next":null}') - (seen[:20].count(b'"next":null}'))
    sent.join()
    assert total > 60 * 300_000
    sock.close()


def test_half_closed_after_the_request(client):
    """A client may say all it has to say, close its side, and wait for the answer."""
    c = client()
    sock = c.raw_socket()
    sock.sendall(head(c, "GET", "/host", "Connection: close"))
    end_sending(sock)
    status, body = read_answer(sock)
    assert status in (200, None) and (status is None or b'"facts"' in body)
    sock.close()


def test_half_closed_in_the_midst(client):
    c = client()
    for request in (b"GET /api/v1/vms HTT", head(c, "POST", "/vms", "Content-Type: application/json", "Content-Length: 100") + b'{"name"',
                    head(c, "PUT", "/datastores/local/files/half", "Content-Length: 5000000") + b"x" * 1000, b""):
        sock = c.raw_socket()
        sock.sendall(request)
        end_sending(sock)
        status, _ = read_answer(sock)
        assert status is None or status >= 400
        sock.close()


def test_reset_at_every_stage(croft, client, name):
    """Ten times at each place, all at once; no descriptor and no request stays."""
    api = croft.client()

    def opened():
        """What croftd and its fronts have open: how many of each kind."""
        found = collections.Counter()
        for pid in [croft.process.pid] + [p for p, n in croft.processes() if n == "croft-front"]:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    found[pid, re.sub(r"\d+", "N", os.readlink(f"/proc/{pid}/fd/{fd}"))] += 1
        return found

    api.request("GET", "/vms")
    before = opened()
    for stage in (b"", b"G", head(client(), "GET", "/vms"), head(client(), "GET", "/events?wait=60&after=999999"),
                  head(client(), "GET", "/events", "Accept: text/event-stream"),
                  head(client(), "POST", "/vms", "Content-Type: application/json", "Content-Length: 1000") + b"{",
                  head(client(), "PUT", f"/datastores/local/files/{name}", "Content-Length: 9000000") + b"x" * 100000):
        for _ in range(10):
            sock = client().raw_socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.sendall(stage)
            sock.close()
    try:
        wait_for("all is given back", lambda: opened().total() <= before.total() + 3, 20)
    except AssertionError as e:
        raise AssertionError(f"{e}: {opened() - before} more than before") from None


JUNK = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00" * 1000, b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 1000,
    b"GET /api/v1/vms HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /api/v1/vms HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"POST /api/v1/vms HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
    b"POST /api/v1/vms HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    b"GET /api/v1/vms HTTP/1.1\r\n" + b"X-A: b\r\n" * 20000 + b"\r\n", b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /api/v1/vms HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 200000 + b"\r\n\r\n", b"GET /api/v1/vms HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET http://evil/ HTTP/1.1\r\nHost: x\r\n\r\n"]


@pytest.mark.parametrize("junk", JUNK, ids=range(len(JUNK)))
def test_what_is_no_request(client, junk):
    sock = client().raw_socket()
    with contextlib.suppress(ConnectionError, socket.timeout, OSError):
        sock.sendall(junk)
        end_sending(sock)
    sock.settimeout(20 * SLOW)
    answer = b""
    with contextlib.suppress(ConnectionError):
        while part := sock.recv(65536):
            answer += part
    assert not answer or answer.startswith(b"HTTP/1.1 4") or answer.startswith((b"HTTP/1.1 50", b"HTTP/1.0 4")), answer[:100]
    sock.close()


def test_noise(client):
    """A thousand connections of random bytes, some of them almost a request."""
    noise = random.Random(7)
    base = head(client(), "POST", "/vms", "Content-Type: application/json", "Content-Length: 20") + b'{"name":"x","a":[1]}'
    for _ in range(150):
        data = bytearray(base)
        for _ in range(noise.randrange(1, 12)):
            data[noise.randrange(len(data))] = noise.randrange(256)
        sock = client().raw_socket()
        with contextlib.suppress(OSError):
            sock.sendall(bytes(data[:noise.randrange(len(data))]))
        sock.close()


def test_tls_that_is_none(croft):
    """Plain HTTP, half a handshake and noise at the TLS port."""
    noise = random.Random(8)
    hello = bytes.fromhex("16030100050100000100")
    for data in (b"GET / HTTP/1.0\r\n\r\n", hello, hello[:3], b"\x16\x03\x01\xff\xff" + b"x" * 70000, *(noise.randbytes(200) for _ in range(100))):
        sock = socket.create_connection(("127.0.0.1", croft.port))
        with contextlib.suppress(OSError):
            sock.sendall(data)
        if len(data) % 2:
            sock.close()
        else:
            sock.settimeout(20 * SLOW)
            try:
                end_sending(sock)
            except OSError:         # the server has had enough of it already
                sock.close()
                continue
            with contextlib.suppress(ConnectionError):
                while sock.recv(65536):
                    pass
            sock.close()
    assert croft.client(tls=True).request("GET", "/vms").status == 401
