"""Who may come in: sessions, tokens, users, local users, and the lock-out of those who guess."""
import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from croft import croftd

SECRET = "correct horse battery"


def rows(croft, sql):
    with sqlite3.connect(f"{croft.home}/croft.db") as db:
        return db.execute(sql).fetchall()


@pytest.fixture
def user(api):
    """Makes users, and removes them after the test."""
    made = []

    def make(name, role="viewer", password=SECRET):
        made.append(name)
        return api.post("/users", {"name": name, "role": role, "password": password})
    yield make
    for name in made:
        api.request("DELETE", f"/users/{name}")


@pytest.fixture
def token(api):
    """Makes tokens: a client that comes with one."""
    def make(user="admin", **how):
        made = api.post("/tokens", {"name": "test", "user": user, **how})
        client = api.croft.client(tls=True, token=made["secret"])
        client.id = made["id"]
        return client
    return make


@pytest.fixture(scope="module", autouse=True)
def something_to_see(croft):
    """Events that every role sees."""
    api = croft.client()
    api.post("/vms", {"name": "seen", "config": {"engine": "sim"}})
    api.ok("DELETE", "/vms/seen")


class Following(threading.Thread):
    """An established stream of events. Its own thread, since keep-alives never let a reader time out."""

    def __init__(self, client):
        super().__init__(daemon=True)
        self.stream, self.begun = client.events(after=0), threading.Event()
        self.start()
        assert self.begun.wait(20)

    def run(self):
        for _ in self.stream:
            self.begun.set()


def following(client):
    return Following(client)


def ends(stream):
    """Whether it is ended by the other side."""
    stream.join(20)
    return not stream.is_alive()


# ---- sessions

def test_login_sets_a_strict_cookie(croft):
    client = croft.client(tls=True)
    answer = client.request("POST", "/session", {"name": "admin", "password": croft.password})
    assert answer.status == 201
    name, _, value = answer.headers["Set-Cookie"].partition("=")
    value, *attributes = value.split("; ")
    assert name == "__Host-croft" and len(value) == 43
    assert sorted(attributes) == ["HttpOnly", "Max-Age=604800", "Path=/", "SameSite=Strict", "Secure"]
    assert answer.json["user"] == "admin" and "access.manage" in answer.json["permissions"]
    assert answer.headers["Cache-Control"] == "no-store"
    whole = "\n".join(rows(croft, "SELECT group_concat(hash) FROM sessions")[0])
    assert value not in whole


def test_whoami(croft, user):
    user("whoami", "operator")
    client = croft.client(tls=True)
    client.problem(401, "GET", "/session")
    client.login("whoami", SECRET)
    me = client.get("/session")
    assert (me["user"], me["role"], me["via"]) == ("whoami", "operator", "session")
    assert "vm.power" in me["permissions"] and "vm.create" not in me["permissions"]
    denied = client.problem(403, "GET", "/users")
    assert denied["permission"] == "access.manage" and "whoami" in denied["detail"]


def test_logout_ends_the_session_and_its_streams(croft):
    client = croft.client(tls=True)
    client.login()
    other = croft.client(tls=True)
    other.headers = dict(client.headers)
    stream = following(other)
    answer = client.request("DELETE", "/session")
    assert answer.status == 204 and "Max-Age=0" in answer.headers["Set-Cookie"]
    assert ends(stream)
    assert client.problem(401, "GET", "/session")["detail"] == "the session is over"


def test_a_session_is_for_our_own_pages_alone(croft):
    client = croft.client(tls=True)
    client.login()
    for origin in ("https://evil.example", "null", "", f"http://127.0.0.1:{croft.port}", None):
        client.headers.pop("Origin")
        if origin is not None:
            client.headers["Origin"] = origin
        client.problem(403, "POST", "/tokens", {"name": "stolen"})
        client.headers["Origin"] = ""
    client.get("/session")


def test_a_stale_cookie_is_no_hindrance_to_login(croft):
    client = croft.client(tls=True)
    client.headers["Cookie"] = "__Host-croft=" + "A" * 43
    client.problem(401, "GET", "/vms")
    client.login()
    client.get("/vms")


def test_sessions_survive_a_restart(fresh):
    client = fresh.client(tls=True)
    client.login()
    secret = fresh.client().post("/tokens", {"name": "ci", "user": "admin"})["secret"]
    fresh.kill()
    fresh.start()
    assert client.get("/session")["via"] == "session"
    assert fresh.client(tls=True, token=secret).get("/session")["via"] == "token"
    assert fresh.log.count("with the password") == 1


# ---- tokens

def test_a_tokens_secret_is_told_once(croft, api):
    made = api.post("/tokens", {"name": "once", "user": "admin", "role": "viewer"}, Idempotency_Key="once-1")
    again = api.post("/tokens", {"name": "once", "user": "admin", "role": "viewer"}, Idempotency_Key="once-1")
    assert made["secret"].startswith("croft_") and "secret" not in again and again["id"] == made["id"]
    assert all("secret" not in t for t in api.items("/tokens"))
    with open(f"{croft.home}/croft.db", "rb") as db, open(f"{croft.home}/croft.db-wal", "rb") as wal:
        assert made["secret"][6:].encode() not in db.read() + wal.read()


def test_a_token_has_at_most_its_role(croft, api, user, token):
    user("limited", "operator")
    client = token("limited", role="viewer")
    me = client.get("/session")
    assert (me["user"], me["role"], me["via"]) == ("limited", "viewer", "token")
    assert client.problem(422, "POST", "/tokens", {"name": "more", "role": "operator"})["errors"][0]["pointer"] == "/role"
    assert client.post("/tokens", {"name": "same"})["role"] == "viewer"
    assert client.problem(403, "POST", "/tokens", {"name": "x", "user": "admin"})["permission"] == "access.manage"
    assert {t["user"] for t in client.items("/tokens")} == {"limited"}
    operator = token("limited")
    client.problem(403, "DELETE", f"/tokens/{operator.id}")
    api.ok("PATCH", "/users/limited", {"role": "viewer"})
    assert operator.get("/session")["role"] == "viewer"


def test_a_deleted_token_ends_with_its_streams(api, token):
    client = token(role="viewer")
    stream = following(client)
    other = token(role="viewer")
    api.ok("DELETE", f"/tokens/{client.id}")
    assert ends(stream)
    assert "deleted" in client.problem(401, "GET", "/vms")["detail"]
    other.get("/vms")
    api.problem(404, "DELETE", f"/tokens/{client.id}")


def test_a_token_expires_with_its_streams(api, token):
    in_2_s = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2.5))
    client = token(expires=in_2_s)
    assert ends(following(client))
    assert "has expired at " + in_2_s[:19] in client.problem(401, "GET", "/vms")["detail"]
    past = api.problem(422, "POST", "/tokens", {"name": "x", "user": "admin", "expires": "2020-01-01T00:00:00Z"})
    assert past["errors"][0]["pointer"] == "/expires"


def test_a_long_poll_of_a_deleted_token_tells_nothing(api, token, user):
    client = token(role="admin")
    last = api.get("/events?limit=1000")["next"]
    answers = []
    poll = threading.Thread(target=lambda: answers.append(client.request("GET", f"/events?after={last}&kinds=user.*&wait=60")))
    poll.start()        # it does not wait for the deletion of its own token, but for what comes then
    time.sleep(0.3)
    api.ok("DELETE", f"/tokens/{client.id}")
    user("unseen")
    poll.join(30)
    assert not poll.is_alive() and answers[0].status == 401 and b"unseen" not in answers[0].body


def test_root_says_for_whom(api):
    problem = api.problem(422, "POST", "/tokens", {"name": "x"})
    assert problem["errors"][0]["pointer"] == "/user" and "admin" in problem["hint"]


# ---- users

def test_users_come_and_go(croft, api):
    made = api.request("POST", "/users", {"name": "carol", "password": SECRET})
    assert made.status == 201 and made.headers["Location"] == f"/api/v1/users/{made.json['id']}"
    assert made.json["role"] == "viewer" and made.json["has_password"] and "password" not in made.json
    assert api.get(f"/users/{made.json['id']}") == api.get("/users/carol") == made.json
    taken = api.problem(409, "POST", "/users", {"name": "carol"})
    assert taken["errors"][0]["pointer"] == "/name"
    assert "carol" in [u["name"] for u in api.items("/users?limit=1")]
    api.ok("DELETE", "/users/carol")
    api.problem(404, "GET", "/users/carol")
    kinds = [(e["kind"], e["user"]) for e in api.get("/events?limit=1000")["items"] if e["target"] == made.json["id"]]
    assert kinds == [("user.created", "root"), ("user.deleted", "root")]
    assert not rows(croft, "SELECT * FROM users WHERE name = 'carol'")


@pytest.mark.parametrize("body, pointer", [
    ({"name": "x", "password": "7 bytes"}, "/password"), ({"name": "x", "password": "x" * 257}, "/password"),
    ({"name": "../x"}, "/name"), ({"name": ""}, "/name"), ({}, "/name"), ({"name": "x", "role": "root"}, "/role"),
    ({"name": "fd9cc563-8d16-42f2-9a2e-9c13f2472387"}, "/name"), ({"name": "x", "admin": True}, "/admin"),
])
def test_a_wrong_user_is_told_where(api, body, pointer):
    assert api.problem(422, "POST", "/users", body)["errors"][0]["pointer"] == pointer


def test_revisions_of_users(api, user):
    user("dave")
    tag = api.request("GET", "/users/dave").etag
    changed = api.request("PATCH", "/users/dave", {"role": "operator"}, {"If-Match": tag})
    assert changed.status == 200 and changed.etag != tag and changed.json["role"] == "operator"
    api.problem(412, "PATCH", "/users/dave", {"role": "viewer"}, If_Match=tag)
    api.problem(412, "DELETE", "/users/dave", If_Match=tag)
    assert api.request("GET", "/users/dave", headers={"If-None-Match": changed.etag}).status == 304


def test_a_new_password_or_role_ends_sessions(croft, api, user):
    user("erin", "viewer")
    for change in ({"password": SECRET + "!"}, {"role": "operator"}):
        client = croft.client(tls=True)
        client.login("erin", SECRET)
        stream = following(client)
        api.ok("PATCH", "/users/erin", change)
        assert ends(stream)
        croft.client(tls=True).problem(401, "GET", "/session", Cookie=client.headers["Cookie"])
        api.ok("PATCH", "/users/erin", {"password": SECRET})
    api.ok("PATCH", "/users/erin", {"password": None})
    assert not api.get("/users/erin")["has_password"]
    assert croft.client(tls=True).request("POST", "/session", {"name": "erin", "password": SECRET}).status == 401


def test_a_new_role_ends_what_tokens_follow(api, user, token):
    user("grace", "operator")
    client = token("grace")
    stream = following(client)
    api.ok("PATCH", "/users/grace", {"role": "viewer"})
    assert ends(stream)
    assert client.get("/session")["role"] == "viewer"


def test_a_user_takes_tokens_and_sessions_along(croft, api, user, token):
    user("frank", "operator")
    client, session = token("frank"), croft.client(tls=True)
    session.login("frank", SECRET)
    streams = following(client), following(session)
    api.ok("DELETE", "/users/frank")
    assert all(map(ends, streams))
    client.problem(401, "GET", "/vms")
    session.problem(401, "GET", "/vms")
    assert not [t for t in api.items("/tokens") if t["user"] == "frank"]


def test_ones_own_password(croft, user):
    user("heidi")
    client, other = croft.client(tls=True), croft.client(tls=True)
    client.login("heidi", SECRET)
    other.login("heidi", SECRET)
    wrong = client.problem(422, "POST", "/session/password", {"old": "a wrong one", "new": SECRET + "2"})
    assert wrong["errors"][0]["pointer"] == "/old"
    client.ok("POST", "/session/password", {"old": SECRET, "new": SECRET + "2"})
    client.get("/session")                      # the session that did it goes on
    other.problem(401, "GET", "/session")
    croft.client(tls=True).login("heidi", SECRET + "2")
    assert croft.client(tls=True).request("POST", "/session", {"name": "heidi", "password": SECRET}).status == 401


def test_one_admin_is_always_left(croft, api, user):
    api.problem(409, "DELETE", "/users/admin")
    api.problem(409, "PATCH", "/users/admin", {"role": "viewer"})
    user("second", "admin")
    answers = []
    both = [threading.Thread(target=lambda n=n: answers.append(croft.client().request("PATCH", f"/users/{n}", {"role": "viewer"})))
            for n in ("admin", "second")]
    for t in both:
        t.start()
    for t in both:
        t.join()
    assert sorted(a.status for a in answers) == [200, 409]
    assert len([u for u in api.items("/users") if u["role"] == "admin"]) == 1
    api.ok("PATCH", "/users/second", {"role": "admin"})
    api.ok("PATCH", "/users/admin", {"role": "admin"})


def test_no_secret_reaches_disk_events_or_log(croft, api):
    word = "a-very-secret-word"
    api.post("/users", {"name": "ivan", "password": word}, Idempotency_Key="ivan-1")
    api.post("/users", {"name": "ivan", "password": word}, Idempotency_Key="ivan-1")
    api.ok("PATCH", "/users/ivan", {"password": word + "2"})
    croft.client(tls=True).login("ivan", word + "2")
    api.ok("DELETE", "/users/ivan")
    assert word not in json.dumps(api.get("/events?limit=1000")) + croft.log
    request = 'POST /api/v1/users?\n' + json.dumps({"name": "ivan", "password": word}, separators=(",", ":"))
    kept = rows(croft, "SELECT request FROM idempotency WHERE key = 'ivan-1'")      # nor what a guess could be tried against
    assert kept and hashlib.sha256(request.encode()).hexdigest() != kept[0][0]
    with open(f"{croft.home}/croft.db", "rb") as db, open(f"{croft.home}/croft.db-wal", "rb") as wal:
        assert word.encode() not in db.read() + wal.read()


# ---- guessing

def guess(croft, name, n=1, password="a wrong one"):
    client = croft.client(tls=True)
    return [client.request("POST", "/session", {"name": name, "password": password}) for _ in range(n)]


@pytest.mark.parametrize("name", ["judy", "nobody-of-that-name", "not even a name!"])
def test_guessing_locks_the_pair(croft, user, name):
    if name == "judy":
        user(name)
    answers = guess(croft, name, 7)
    assert [a.status for a in answers] == [401] * 5 + [429] * 2
    assert 890 < int(answers[-1].headers["Retry-After"]) <= 900
    assert guess(croft, name, 1, SECRET)[0].status == 429
    assert [a.status for a in guess(croft, "admin", 1, croft.password)] == [201]


def test_an_answer_does_not_tell_whether_the_user_exists(croft, user):
    user("karl")
    real, ghost = (guess(croft, name)[0] for name in ("karl", "karla"))
    assert {k: v for k, v in real.json.items() if k != "request_id"} == {k: v for k, v in ghost.json.items() if k != "request_id"}


def test_a_locked_address_locks_nobody_out_who_is_in():
    """50 failures lock the address, for new logins only."""
    with croftd() as c:
        api, session = c.client(), c.client(tls=True)
        session.login()
        token = c.client(tls=True, token=api.post("/tokens", {"name": "t", "user": "admin"})["secret"])
        statuses = [a.status for n in range(12) for a in guess(c, f"user{n}", 5)]
        assert statuses == [401] * 50 + [429] * 10
        assert guess(c, "admin", 1, c.password)[0].status == 429
        assert session.get("/session")["via"] == "session"
        assert token.get("/session")["via"] == "token"
        assert api.get("/session")["via"] == "local"


def test_a_crowd_of_guessers_delays_nobody_else(croft):
    """More logins at once than may wait: some get 503 at once; what needs no hash goes on."""
    def one(n):
        statuses.append(croft.client(tls=True).request("POST", "/session", {"name": f"crowd{n}", "password": "x"}).status)
    statuses = []
    crowd = [threading.Thread(target=one, args=(n,)) for n in range(30)]
    for t in crowd:
        t.start()
    local = croft.client()
    start = time.monotonic()
    local.get("/session")
    assert time.monotonic() - start < 2
    for t in crowd:
        t.join()
    assert len(statuses) == 30 and set(statuses) <= {401, 429, 503} and 401 in statuses


# ---- the unix socket

LOCAL = """
import json, os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect("/proc/self/fd/" + sys.argv[1])
s.sendall(b"GET " + sys.argv[2].encode() + b" HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
sys.stdout.buffer.write(b"".join(iter(lambda: s.recv(65536), b"")))
"""


def as_user(croft, uid, groups=(), path="/api/v1/session"):
    """(status, JSON) of a GET by a local user. The socket goes by descriptor, since the test's home is root's."""
    fd = os.open(croft.socket, os.O_PATH)
    try:
        out = subprocess.run([sys.executable, "-c", LOCAL, str(fd), path], pass_fds=(fd,), user=uid, group=uid, extra_groups=groups,
                             stdout=subprocess.PIPE, check=True, timeout=60).stdout
    finally:
        os.close(fd)
    head, _, body = out.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A croftd that sees names of ours: a mount namespace with its own passwd and group."""
    folder = tmp_path_factory.mktemp("named")
    (folder / "passwd").write_text("root:x:0:0::/:/bin/sh\nalice:x:51001:51001::/:/bin/sh\nbob:x:51002:51002::/:/bin/sh\n"
                                   "ev|l:x:51003:51003::/:/bin/sh\n")
    (folder / "group").write_text("root:x:0:\ncroft:x:51999:\n")
    with croftd() as c:
        c.end()
        binds = " && ".join(f"mount --bind {folder}/{f} /etc/{f}" for f in ("passwd", "group"))
        # In a chroot / is no mount point, and can't be made private: a copy of the tree on /proc can.
        command = f"""if mount --make-rprivate / 2>/dev/null; then in=; else
            mount --make-private /proc && mount --rbind / /proc && in="chroot /proc"; fi
            exec $in /bin/sh -c 'mount --make-rprivate / && {binds} && exec "$@"' sh "$@" """
        real = subprocess.Popen

        def inside(argv, **how):
            if argv[0].endswith("/croftd"):
                argv = ["/usr/bin/unshare", "-m", "--propagation", "unchanged", "/bin/sh", "-c", command, "sh", *argv]
            return real(argv, **how)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(subprocess, "Popen", inside)
            c.start()
        yield c


CROFT = 51999


def test_root_is_admin(named):
    me = named.client().get("/session")
    assert (me["user"], me["role"], me["via"], me["expires"]) == ("root", "admin", "local", None)


def test_a_member_of_croft_is_the_croft_user_of_that_name(named):
    status, problem = as_user(named, 51001, [CROFT])
    assert status == 403
    assert problem["detail"] == "the local user alice (uid 51001) is in the group croft, but no Croft user has that name"
    api = named.client()
    api.post("/users", {"name": "alice", "role": "operator"})
    status, me = as_user(named, 51001, [CROFT])
    assert (status, me["user"], me["role"], me["via"]) == (200, "alice", "operator", "local")
    assert as_user(named, 51001, [CROFT], "/api/v1/users")[0] == 403
    api.ok("DELETE", "/users/alice")
    assert as_user(named, 51001, [CROFT])[0] == 403


def test_others_are_told_the_way_in(named):
    for uid, groups, detail in (
            (51002, (), "the local user bob (uid 51002) is not in the group croft"),
            (51004, [CROFT], "the local uid 51004 has no name on this host"),
            (51003, (), "the local user ev?l (uid 51003) is not in the group croft")):
        status, problem = as_user(named, uid, groups)
        assert (status, problem["detail"]) == (403, detail)
        assert "usermod -aG croft" in problem["hint"]


def test_a_connection_knows_when_its_user_changes(named):
    """Kept alive, it has the role of now; what it follows ends."""
    api = named.client()
    api.post("/users", {"name": "alice", "role": "operator"})
    fd = os.open(named.socket, os.O_PATH)
    code = f"""
import http.client, json, os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect("/proc/self/fd/{fd}")
c = http.client.HTTPConnection("x")
c.sock = s
for line in sys.stdin:
    c.request("GET", "/api/v1/session")
    r = c.getresponse()
    print(r.status, json.loads(r.read()).get("role"), flush=True)
"""
    alice = subprocess.Popen([sys.executable, "-c", code], pass_fds=(fd,), user=51001, group=51001, extra_groups=[CROFT],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask():
        alice.stdin.write("\n")
        alice.stdin.flush()
        return alice.stdout.readline().split()
    try:
        assert ask() == ["200", "operator"]
        api.ok("PATCH", "/users/alice", {"role": "viewer"})
        assert ask() == ["200", "viewer"]
        api.ok("DELETE", "/users/alice")
        assert ask() == ["403", "None"]
    finally:
        os.close(fd)
        alice.stdin.close()
        alice.wait(30)
