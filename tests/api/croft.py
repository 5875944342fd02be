"""croft.py: what the API and end-to-end tests stand on: a real croftd with a home of its own, clients that speak HTTP to
it over its unix socket and over TLS, consoles through WebSockets, and events. The fixtures are at the end."""
import contextlib
import http.client
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import tempfile
import time

import pytest
import websocket

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
O = os.path.join(TOP, os.environ.get("O", "build"))
GUEST = os.path.join(TOP, "build/guest")
SLOW = 5 if os.environ.get("SAN") else 1        # a sanitizer build may take so much longer
judge = None                                    # called with method, path and Answer of every request
SANITIZER = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error: ")


def wait_for(what, condition, seconds=10):
    """Calls condition until it gives something true, and returns that."""
    end = time.monotonic() + seconds * SLOW
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"{what}: not within {seconds * SLOW} s"
        time.sleep(0.02)


marks = itertools.count(random.randrange(10**6, 10**8), 2)      # no two commands on one console end alike


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def etag(self):
        return self.headers["ETag"]

    def __repr__(self):
        return f"{self.status} {self.body[:2000].decode(errors='replace')}"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Client:
    """One kept-alive connection. Over TLS it needs a token, or a cookie from login()."""

    def __init__(self, croft, tls=False, token=None, timeout=70):
        self.croft, self.tls, self.headers, self.timeout = croft, tls, {}, timeout * SLOW
        if token:
            self.headers["Authorization"] = f"Bearer {token}"
        self.http, self.used = self.connection(), time.monotonic()

    def connection(self):
        if self.tls:
            return http.client.HTTPSConnection("127.0.0.1", self.croft.port, timeout=self.timeout, context=self.croft.tls_context())
        return UnixConnection(self.croft.socket, self.timeout)

    def raw_socket(self):
        """A connected socket, with TLS where the client has it, for tests that write HTTP themselves."""
        connection = self.connection()
        connection.connect()
        return connection.sock

    def request(self, method, path, body=None, headers=None):
        """body: bytes as they are, anything else as JSON. A path without /api/v1 gets it."""
        if not path.startswith(("/api", "http")):
            path = "/api/v1" + path
        headers = {**self.headers, **(headers or {})}
        if body is not None and not isinstance(body, (bytes, bytearray)):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/merge-patch+json" if method == "PATCH" else "application/json")
        if time.monotonic() - self.used > 5:
            self.http.close()           # the server may be about to end a connection that was idle; the next use opens it
        for again in (True, False):
            try:
                self.used = time.monotonic()
                self.http.request(method, path, body, headers)
                answer = Answer(self.http.getresponse())
                break
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                self.http.close()       # a kept connection may have ended meanwhile; an idempotent request is sent again
                if not again or method != "GET":
                    raise
        if judge:
            judge(method, path, answer)
        return answer

    def get(self, path, **headers):
        return self.ok("GET", path, None, **headers)

    def post(self, path, body=None, **headers):
        return self.ok("POST", path, body, **headers)

    def ok(self, method, path, body=None, **headers):
        """The JSON of a successful answer; header names may have _ for -. Tasks are waited for (Prefer: wait)."""
        headers = {k.replace("_", "-"): v for k, v in headers.items()}
        if method != "GET":
            headers.setdefault("Prefer", "wait=60")
        answer = self.request(method, path, body, headers)
        assert 200 <= answer.status < 300, f"{method} {path}: {answer}"
        return answer.json if answer.body else None

    def problem(self, status, method, path, body=None, **headers):
        """The problem document of an answer that must be one with that status."""
        answer = self.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        assert answer.status == status, f"{method} {path}: {answer}"
        assert answer.headers.get_content_type() == "application/problem+json", answer.headers
        return answer.json

    def items(self, path):
        """All objects of a list, page after page."""
        found, cursor = [], None
        while True:
            page = self.get(path + (("&" if "?" in path else "?") + f"after={cursor}" if cursor else ""))
            found += page["items"]
            cursor = page["next"]
            if not cursor:
                return found

    def login(self, name="admin", password=None):
        answer = self.request("POST", "/session", {"name": name, "password": password or self.croft.password})
        assert answer.status == 201, answer
        self.headers["Cookie"] = answer.headers["Set-Cookie"].split(";")[0]
        self.headers["Origin"] = "https://127.0.0.1" + (f":{self.croft.port}" if self.croft.port != 443 else "")    # as browsers do
        return answer.json

    def vm(self, name):
        return self.get(f"/vms/{name}")

    def wait_state(self, name, state, seconds=30):
        """Waits for it to be created, too."""
        def there():
            answer = self.request("GET", f"/vms/{name}")
            return answer.status == 200 and answer.json["status"]["state"] == state and answer.json
        return wait_for(f"{name} is {state}", there, seconds)

    def websocket(self, path, **options):
        ws = websocket.create_connection(f"ws://127.0.0.1:{self.croft.port}{path}", socket=self.raw_socket(),
                                         header=self.headers, suppress_origin=True, **options)
        ws.settimeout(30 * SLOW)
        return ws

    def console(self, vm, kind="serial"):
        ticket = self.post(f"/vms/{vm}/console", {"kind": kind})
        return Console(self.websocket(ticket["url"]))

    def events(self, after=None, query="", passing=False):
        """Follows the events (SSE), from now on: a generator of (id, kind, data). Close it to leave. With passing also
        what has no number (id None)."""
        connection = self.connection()
        headers = {**self.headers, "Accept": "text/event-stream"}
        if after is not None:
            headers["Last-Event-ID"] = str(after)
        connection.request("GET", f"/api/v1/events{query}", headers=headers)
        response = connection.getresponse()
        assert response.status == 200, Answer(response)
        return self.read_events(connection, response, passing)

    @staticmethod
    def read_events(connection, response, passing=False):
        with contextlib.closing(connection):
            event = {}
            for line in iter(response.readline, b""):
                name, _, value = line.decode().rstrip("\r\n").partition(": ")
                if name:
                    event[name] = value
                elif event:
                    if "data" in event and ("id" in event or passing):
                        yield event.get("id"), event.get("event"), json.loads(event["data"])
                    event = {}


class Console:
    """A serial console. seen holds all that came."""

    def __init__(self, ws):
        self.ws, self.seen, self.at = ws, b"", 0

    def until(self, wanted, seconds=60):
        """Reads until wanted has come after what was read before, and returns what came up to its end."""
        end = time.monotonic() + seconds * SLOW
        while (found := self.seen.find(wanted, self.at)) < 0:
            left = end - time.monotonic()
            assert left > 0, f"the console did not say {wanted!r} within {seconds * SLOW} s, but {self.seen[-2000:]!r}"
            self.ws.settimeout(left)
            try:
                data = self.ws.recv()
            except websocket.WebSocketTimeoutException:
                continue
            self.seen += data.encode() if isinstance(data, str) else data
        start, self.at = self.at, found + len(wanted)
        return self.seen[start:self.at]

    def type(self, text):
        self.ws.send_binary(text.encode())

    def command(self, line, seconds=30):
        """Types a shell command and returns what it printed. The echo of the line is told apart from the answer."""
        mark = next(marks)
        self.type(f"{line}; echo END$(({mark} + 1))\n")
        return self.until(f"END{mark + 1}".encode(), seconds).rpartition(b"END")[0]

    def close(self):
        self.ws.close()


class Croft:
    """A croftd. start() may be called again after stop(), kill() or crash: it is the same home."""

    def __init__(self, home, *arguments):
        self.home, self.arguments = home, arguments
        self.socket, self.log_path = f"{home}/croft.sock", f"{home}.log"
        self.process = self.port = self.password = None
        self.log_start = 0
        self.program, self.environment = f"{O}/croftd", {}

    def start(self, *arguments):
        self.log_start = len(self.log)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [self.program, "--home", self.home, "--listen", f"127.0.0.1:{self.port or 0}", *self.arguments, *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **self.environment})
        wait_for("croftd serves", lambda: "serves https://" in self.log[self.log_start:] or self.process.poll() is not None, 20)
        assert self.process.poll() is None, f"croftd did not start: {self.log}"
        self.port = int(re.search(r"serves https://[^ ]*:(\d+)", self.log[self.log_start:])[1])
        if found := re.search(r"with the password (\S+)", self.log):
            self.password = found[1]
        if "--demo" in self.arguments:
            wait_for("the demo VM is there", lambda: "the VM demo was created" in self.log, 20)
        return self

    @property
    def log(self):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def client(self, **how):
        return Client(self, **how)

    def tls_context(self):
        context = ssl.create_default_context(cafile=f"{self.home}/tls/certificate.pem")
        context.check_hostname = False
        return context

    def end(self):
        """As Ctrl-C: croftd ends, its VMs run on."""
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(30 * SLOW)
        assert status == 0, f"croftd ended with {status}: {self.log[-3000:]}"

    def kill(self):
        self.process.kill()
        self.process.wait()

    def uids(self):
        with contextlib.closing(sqlite3.connect(f"{self.home}/croft.db")) as db:
            first = int(db.execute("SELECT value FROM settings WHERE key = 'uid_base'").fetchone()[0])
        return range(first, first + 65536)

    def processes(self):
        """(pid, name) of what runs under a uid of this home: fronts, croft-vm, QEMU."""
        found, uids = [], self.uids()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as f:
                    status = f.read()
                if int(re.search(r"^Uid:\s+(\d+)", status, re.M)[1]) in uids and "State:\tZ" not in status:
                    found.append((int(pid), re.search(r"^Name:\s+(.*)", status, re.M)[1]))
        return found

    def qemu(self):
        return [pid for pid, name in self.processes() if name.startswith("vm:")]        # as QEMU names itself

    def popen_stop(self, *arguments):
        return subprocess.Popen([f"{O}/croftd", "--home", self.home, "--stop", *arguments], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")

    def stop(self, *arguments):
        """As make stop: shuts the VMs down, ends croftd. Returns what it printed."""
        with self.popen_stop(*arguments) as p:
            text, _ = p.communicate(timeout=60 * SLOW)
        assert p.returncode == 0, text
        if self.process:
            self.process.wait(10 * SLOW)
        return text

    def finish(self):
        """The end of every test: nothing may be left running, and no sanitizer may have spoken."""
        self.stop()
        wait_for(f"no process is left: {self.processes()}", lambda: not self.processes(), 5)
        assert not SANITIZER.search(self.log), self.log
        shutil.rmtree(self.home)


@contextlib.contextmanager
def croftd(*arguments):
    folder = tempfile.mkdtemp(prefix="croft-test-")         # mode 0700, as below /root
    c = Croft(f"{folder}/home", *arguments)
    try:
        yield c.start()
        c.finish()
        shutil.rmtree(folder)
    except BaseException:
        if c.process:
            c.kill()
            for pid, _ in c.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        print(f"--- croftd's log ({folder})\n{c.log[-8000:]}")
        raise


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows what its croftd said."""
    outcome = yield
    if call.when == "call" and call.excinfo:
        for c in item.funcargs.values():
            if isinstance(c, Croft):
                outcome.get_result().sections.append(("croftd's log", c.log[-6000:]))


@pytest.fixture(scope="module")
def croft():
    """One croftd without VMs for all tests of a file."""
    with croftd() as c:
        yield c


@pytest.fixture
def fresh():
    """A croftd for this test alone."""
    with croftd() as c:
        yield c


@pytest.fixture(scope="module")
def demo():
    """One croftd with the demo guest for all tests of a file."""
    with croftd("--demo", GUEST) as c:
        yield c


@pytest.fixture
def api(croft):
    """A local client, the administrator."""
    return croft.client()
