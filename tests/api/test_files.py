"""Files on a datastore: uploaded, resumed after every kind of end, downloaded in parts, listed, deleted, kept where they belong."""
import base64
import contextlib
import hashlib
import os
import socket
import threading
import uuid

import pytest
import tiny
from croft import SLOW, wait_for

FILES = "/datastores/local/files"


@pytest.fixture
def name():
    return "f" + uuid.uuid4().hex[:8]


@pytest.fixture
def store(croft):
    return f"{croft.home}/datastores/local"


def digest(data):
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def content(store, name):
    with open(f"{store}/{name}", "rb") as f:
        return f.read()


def hidden(store, api):
    """Temporary files of uploads that nobody knows of."""
    known = {f".croft-upload-{u['id']}" for u in api.items("/uploads")}
    return [n for n in os.listdir(store) if n.startswith(".croft-upload") and n not in known]


def cut_upload(client, path, data, announced, half=False, **headers):
    """Sends the head and data, and closes the connection (or half of it) in the midst of the body."""
    sock = client.raw_socket()
    lines = "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in {**client.headers, **headers}.items())
    sock.sendall(f"PUT /api/v1{path} HTTP/1.1\r\nHost: x\r\nContent-Length: {announced}\r\n{lines}\r\n".encode() + data)
    if half:
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(20 * SLOW)
        with contextlib.suppress(ConnectionError):
            while sock.recv(65536):
                pass
    sock.close()


def upload_of(client, name):
    return next((u for u in client.items("/uploads") if u["target"] == f"[local] {name}"), None)


# ---- upload

def test_put_and_get(api, name, store):
    data = os.urandom(3_000_000)
    answer = api.request("PUT", f"{FILES}/{name}", data, {"Repr-Digest": digest(data)})
    assert answer.status == 201 and answer.json == {"path": f"[local] {name}", "size_bytes": len(data)}, answer
    assert content(store, name) == data and not hidden(store, api)
    answer = api.request("GET", f"{FILES}/{name}")
    assert answer.status == 200 and answer.body == data and answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Content-Type"] == "application/octet-stream" and "attachment" in answer.headers["Content-Disposition"]
    head = api.request("HEAD", f"{FILES}/{name}")
    assert head.status == 200 and head.headers["Content-Length"] == str(len(data)) and not head.body


def test_over_tls(croft, api, name, store):
    api.post("/users", {"name": name, "role": "vm-admin"})
    client = croft.client(tls=True, token=api.post("/tokens", {"name": "t", "user": name})["secret"])
    data = os.urandom(20_000_000)
    assert client.request("PUT", f"{FILES}/{name}", data).status == 201
    assert content(store, name) == data
    assert client.request("GET", f"{FILES}/{name}").body == data


def test_an_empty_file(api, name, store):
    assert api.request("PUT", f"{FILES}/{name}", b"").status == 201
    assert content(store, name) == b""
    assert api.request("GET", f"{FILES}/{name}").body == b""


def test_without_a_length(api, name, store):
    api.http.request("PUT", f"/api/v1{FILES}/{name}", iter([b"a" * 100000, b"b" * 100000, b"c"]), encode_chunked=True,
                     headers={"Transfer-Encoding": "chunked"})
    response = api.http.getresponse()
    assert response.status == 201, response.read()
    response.read()
    assert content(store, name) == b"a" * 100000 + b"b" * 100000 + b"c"


def test_a_file_of_that_name_stays(api, name, store):
    api.request("PUT", f"{FILES}/{name}", b"first")
    problem = api.problem(409, "PUT", f"{FILES}/{name}", b"second")
    assert name in problem["detail"] and "replace" in problem["hint"]
    assert content(store, name) == b"first" and upload_of(api, name) is None
    assert api.request("PUT", f"{FILES}/{name}?replace=false", b"second").status == 409
    assert api.request("PUT", f"{FILES}/{name}?replace=true", b"second").status == 201
    assert content(store, name) == b"second" and not hidden(store, api)


def test_a_wrong_digest(api, name, store):
    problem = api.problem(422, "PUT", f"{FILES}/{name}", b"data", Repr_Digest=digest(b"other"))
    assert hashlib.sha256(b"data").hexdigest() in problem["detail"] and problem["hint"]
    assert not os.path.exists(f"{store}/{name}")
    assert not hidden(store, api) and upload_of(api, name) is None, "what is wrong is not kept to be resumed"
    assert api.request("PUT", f"{FILES}/{name}", b"data", {"Repr-Digest": digest(b"data")}).status == 201
    for bad in ("sha-256=x", "md5=:AAAA:", "sha-256=:AAAA:", "", "sha-256=:" + "!" * 43 + "=:"):
        api.problem(400, "PUT", f"{FILES}/{name}2", b"data", Repr_Digest=bad)


def test_folders_and_names(api, name):
    problem = api.problem(404, "PUT", f"{FILES}/{name}/x.iso", b"data")
    assert name in problem["detail"]
    assert api.request("POST", f"/datastores/local/folders/{name}").status == 204
    assert api.request("POST", f"/datastores/local/folders/{name}").status == 409
    for file in ("x.iso", "with%20blank.iso", "%C3%A4%C3%B6.iso", "a%2Bb&c.iso", "100%25.iso"):
        assert api.request("PUT", f"{FILES}/{name}/{file}", b"data").status == 201, file
        assert api.request("GET", f"{FILES}/{name}/{file}").body == b"data"
    names = [e["name"] for e in api.items(f"{FILES}?path={name}")]
    assert names == sorted(["x.iso", "with blank.iso", "äö.iso", "a+b&c.iso", "100%.iso"], key=str.encode)


@pytest.mark.parametrize("path", ["..%2fx", "%2e%2e/x", "a/%2e%2e/%2e%2e/x", "%2fetc%2fpasswd", "a%2f%2fb", "./x", "x/", ".croft-x",
                                  ".croft-datastore.json", "a/.croft-vm", "x%0ay", "x%00y", "%ff", "a" * 300, "/".join("a" * 600)])
def test_paths_that_lead_out(api, store, path):
    for method, at in (("PUT", FILES), ("GET", FILES), ("DELETE", FILES), ("POST", "/datastores/local/folders")):
        answer = api.request(method, f"{at}/{path}", b"" if method == "PUT" else None)
        assert 400 <= answer.status < 500, f"{method}: {answer}"
    assert not os.path.exists(f"{store}/../x") and os.path.exists(f"{store}/.croft-datastore.json")


def test_symbolic_links_are_not_followed(api, name, store):
    os.symlink("/etc", f"{store}/{name}")
    os.symlink("/etc/hostname", f"{store}/{name}-file")
    for method, path in (("GET", f"{name}/hostname"), ("GET", f"{name}-file"), ("PUT", f"{name}/x"), ("DELETE", f"{name}/hostname")):
        assert api.request(method, f"{FILES}/{path}", b"" if method == "PUT" else None).status in (403, 409, 422)
    assert api.request("GET", f"{FILES}?path={name}").status in (403, 422)
    api.request("PUT", f"{FILES}/{name}-file?replace=true", b"mine")
    with open("/etc/hostname", "rb") as f:
        assert f.read() != b"mine"


# ---- resume

@pytest.mark.parametrize("half", [False, True])
def test_resume_after_the_client_was_cut_off(croft, api, name, store, half):
    data = os.urandom(5_000_000)
    cut_upload(croft.client(), f"{FILES}/{name}", data[:3_000_000], len(data), half)
    upload = wait_for("what came is durable", lambda: (u := upload_of(api, name)) and u["durable_bytes"] and u)
    assert upload["size_bytes"] == len(data) and upload["durable_bytes"] <= 3_000_000
    assert not os.path.exists(f"{store}/{name}") and [e["name"] for e in api.items(FILES) if e["name"].startswith(".croft")] == []
    # Somebody who goes on somewhere else is told from where.
    problem = api.problem(409, "PUT", f"{FILES}/{name}", b"x", Upload_Offset=7)
    assert str(upload["durable_bytes"]) in problem["hint"]
    at = upload["durable_bytes"]
    answer = api.request("PUT", f"{FILES}/{name}", data[at:], {"Upload-Offset": str(at), "Repr-Digest": digest(data)})
    assert answer.status == 201 and answer.json["size_bytes"] == len(data), answer
    assert content(store, name) == data and upload_of(api, name) is None and not hidden(store, api)


def test_cut_off_again_and_again(croft, api, name, store):
    """As a client does it: it asks how much is safe, and goes on from there, until the file has its name."""
    data, cuts, safe = os.urandom(10_000_000), 0, [0]
    while not os.path.exists(f"{store}/{name}"):
        upload = upload_of(api, name)
        at = upload["durable_bytes"] if upload else 0
        assert at >= safe[-1], "what was safe is lost"
        safe.append(at)
        headers = {"Upload-Offset": str(at)} if upload else {}
        cut_upload(croft.client(), f"{FILES}/{name}", data[at:at + 2_000_000], len(data) - at, True, **headers)
        cuts += 1
        assert cuts < 500
    assert content(store, name) == data and len(set(safe)) >= 5


def test_resume_after_croftd_was_killed(fresh, name):
    """While the bytes come; what was durable then is where it goes on."""
    data, store = os.urandom(30_000_000), f"{fresh.home}/datastores/local"
    sock = fresh.client().raw_socket()
    sock.sendall(f"PUT /api/v1{FILES}/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data[:20_000_000])
    upload = wait_for("5 s have passed, and it was made durable", lambda: (u := upload_of(fresh.client(), name)) and u["durable_bytes"] and u, 15)
    fresh.kill()
    fresh.start()
    api = fresh.client()
    again = upload_of(api, name)
    assert again == upload
    at = again["durable_bytes"]
    assert api.request("PUT", f"{FILES}/{name}", data[at:], {"Upload-Offset": str(at), "Repr-Digest": digest(data)}).status == 201
    assert content(store, name) == data and not hidden(store, api) and api.items("/uploads") == []


def test_begin_anew(croft, api, name, store):
    cut_upload(croft.client(), f"{FILES}/{name}", b"old" * 1_000_000, 9_000_000)
    wait_for("it is there", lambda: upload_of(api, name))
    answer = wait_for("the old one has ended", lambda: (a := api.request("PUT", f"{FILES}/{name}", b"new")).status == 201 and a)
    assert answer.json["size_bytes"] == 3 and content(store, name) == b"new" and upload_of(api, name) is None and not hidden(store, api)


def test_give_up(croft, api, name, store):
    cut_upload(croft.client(), f"{FILES}/{name}", b"old" * 1_000_000, 9_000_000)
    upload = wait_for("it is there", lambda: (u := upload_of(api, name)) and u["durable_bytes"] and u)
    assert api.request("DELETE", f"/uploads/{upload['id']}").status == 204
    assert upload_of(api, name) is None and not hidden(store, api)
    api.problem(404, "PUT", f"{FILES}/{name}", b"x", Upload_Offset=3000)
    api.problem(404, "DELETE", f"/uploads/{upload['id']}")


def test_two_at_once_to_one_name(croft, api, name, store):
    sock = croft.client().raw_socket()
    sock.sendall(f"PUT /api/v1{FILES}/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\n\r\none".encode())
    wait_for("the first is under way", lambda: upload_of(api, name))
    problem = api.problem(409, "PUT", f"{FILES}/{name}", b"two")
    assert problem["type"] == "/problems/busy" and name in problem["detail"]
    upload = upload_of(api, name)
    assert api.problem(409, "DELETE", f"/uploads/{upload['id']}")["type"] == "/problems/busy"
    sock.sendall(b"ONE")
    sock.settimeout(10 * SLOW)
    assert b" 201 " in sock.recv(4096)
    assert content(store, name) == b"oneONE"


def test_an_upload_belongs_to_its_user(croft, api, name):
    api.post("/users", {"name": name, "role": "vm-admin"})
    other = croft.client(tls=True, token=api.post("/tokens", {"name": "t", "user": name})["secret"])
    cut_upload(croft.client(), f"{FILES}/{name}", b"secret" * 500_000, 9_000_000)
    wait_for("it is there", lambda: (u := upload_of(api, name)) and u["durable_bytes"])
    problem = other.problem(404, "PUT", f"{FILES}/{name}", b"x", Upload_Offset=3000000)
    assert problem["hint"], problem
    assert other.request("PUT", f"{FILES}/{name}", b"x").status == 409


@pytest.mark.parametrize("size", ["-1", "x", "99999999999999999999999", "0x10"])
def test_lengths_that_are_none(croft, name, size):
    sock = croft.client().raw_socket()
    sock.sendall(f"PUT /api/v1{FILES}/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
    sock.settimeout(10 * SLOW)
    answer = sock.recv(4096)
    assert not answer or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 413"))


def test_no_space(api, name, croft):
    """Told before a byte was sent, as far as the length is known."""
    sock = croft.client().raw_socket()
    sock.sendall(f"PUT /api/v1{FILES}/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: {1 << 60}\r\n\r\n".encode())
    sock.settimeout(10 * SLOW)
    answer = sock.recv(4096)
    assert b" 507 " in answer and b"no-space" in answer, answer
    assert upload_of(api, name) is None


def test_a_slow_upload_holds_nobody_up(croft, api, name, store):
    sock = croft.client().raw_socket()
    sock.sendall(f"PUT /api/v1{FILES}/{name} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n".encode())
    for i in range(100):
        sock.sendall(b"x")
        assert api.request("PUT", f"{FILES}/{name}-{i}", b"fast").status == 201
    sock.settimeout(10 * SLOW)
    assert b" 201 " in sock.recv(4096) and content(store, name) == b"x" * 100


# ---- download

@pytest.mark.parametrize("asked, status, part", [
    ("bytes=0-9", 206, slice(0, 10)), ("bytes=90-", 206, slice(90, 100)), ("bytes=-5", 206, slice(95, 100)),
    ("bytes=0-999", 206, slice(0, 100)), ("bytes=99-99", 206, slice(99, 100)), ("bytes=-1000", 206, slice(0, 100)),
    ("bytes=100-", 416, None), ("bytes=5-4", 416, None), ("bytes=-0", 416, None), ("bytes=0-1,5-6", 200, slice(0, 100)),
    ("lines=1-2", 200, slice(0, 100)), ("bytes=x", 200, slice(0, 100)), ("bytes=", 200, slice(0, 100))])
def test_ranges(api, asked, status, part):
    data = bytes(range(100))
    api.request("PUT", f"{FILES}/ranges?replace=true", data)
    answer = api.request("GET", f"{FILES}/ranges", None, {"Range": asked})
    assert answer.status == status, answer
    if status == 206:
        assert answer.body == data[part] and answer.headers["Content-Range"] == f"bytes {part.start}-{part.stop - 1}/100"
    elif status == 416:
        assert answer.headers["Content-Range"] == "bytes */100" and "100" in answer.json["detail"]
    else:
        assert answer.body == data


def test_a_reader_that_leaves(croft, api, name):
    api.request("PUT", f"{FILES}/{name}", os.urandom(30_000_000))

    def descriptors():
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid, n in croft.processes() if n == "croft-front")
    before = descriptors()
    for _ in range(20):
        sock = croft.client().raw_socket()
        sock.sendall(f"GET /api/v1{FILES}/{name} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        sock.recv(1000)
        sock.close()
    wait_for("its descriptors are closed", lambda: descriptors() <= before + 2)


def test_what_is_no_file(api, name):
    api.request("POST", f"/datastores/local/folders/{name}")
    api.problem(422, "GET", f"{FILES}/{name}")
    api.problem(409, "PUT", f"{FILES}/{name}", b"x")
    assert api.problem(404, "GET", f"{FILES}/{name}/none")["detail"]
    assert api.problem(404, "GET", "/datastores/none/files/x")["hint"]


# ---- list and delete

def test_list(api, name):
    api.request("POST", f"/datastores/local/folders/{name}")
    for i in range(25):
        api.request("PUT", f"{FILES}/{name}/{i:02}", b"x" * i)
    api.request("POST", f"/datastores/local/folders/{name}/sub")
    entries = api.items(f"{FILES}?path={name}&limit=10")
    assert [e["name"] for e in entries] == [f"{i:02}" for i in range(25)] + ["sub"]
    assert [e["size_bytes"] for e in entries[:25]] == list(range(25)) and entries[25]["kind"] == "folder"
    api.problem(404, "GET", f"{FILES}?path={name}/none")
    for path in ("..", "/etc", "a//b", name + "/00"):
        assert 400 <= api.request("GET", f"{FILES}?path={path}").status < 500


def test_delete(api, name, store):
    api.request("POST", f"/datastores/local/folders/{name}")
    api.request("PUT", f"{FILES}/{name}/x", b"x")
    problem = api.problem(409, "DELETE", f"{FILES}/{name}")
    assert "isn't empty" in problem["detail"] and problem["hint"]
    assert api.request("DELETE", f"{FILES}/{name}/x").status == 204
    assert api.request("DELETE", f"{FILES}/{name}").status == 204
    assert not os.path.exists(f"{store}/{name}")
    api.problem(404, "DELETE", f"{FILES}/{name}")


def test_events_of_files(api, name):
    after = api.get("/events?after=999999999")["next"]
    api.request("PUT", f"{FILES}/{name}", b"x")
    api.request("DELETE", f"{FILES}/{name}")
    events = api.get(f"/events?after={after}&kinds=file.*")["items"]
    assert [(e["kind"], e["data"]["path"]) for e in events] == [(f"file.{k}", f"[local] {name}") for k in ("created", "deleted")]


# ---- what belongs to a VM

@pytest.fixture
def vm(api, name):
    tiny.upload(api)
    api.request("PUT", f"{FILES}/{name}.iso", b"\0" * 65536)
    api.post("/vms", {"name": name, "config": tiny.config(disks={"system": {"size_bytes": 1 << 20}}, cdroms={"cd": {"iso": f"[local] {name}.iso"}})})
    yield name
    if api.vm(name)["status"]["state"] != "off":
        api.post(f"/vms/{name}/poweroff")
    api.ok("DELETE", f"/vms/{name}")


def test_what_a_vm_is_made_of_is_not_deleted(api, vm):
    for path in (vm, f"{vm}/system.qcow2", f"{vm}/vm.croft.json", f"{vm}.iso", "tiny.bin"):
        problem = api.problem(409, "DELETE", f"{FILES}/{path}")
        assert vm in problem["detail"] or path == "tiny.bin" or "hidden" in problem["detail"], problem
        assert problem["hint"]


def test_the_disk_of_a_vm_is_not_replaced_beneath_it(api, vm, store):
    before = content(store, f"{vm}/system.qcow2")
    problem = api.problem(409, "PUT", f"{FILES}/{vm}/system.qcow2?replace=true", b"mine")
    assert vm in problem["detail"] and content(store, f"{vm}/system.qcow2") == before
    api.problem(409, "PUT", f"{FILES}/{vm}/new", b"mine")
    api.problem(409, "POST", f"/datastores/local/folders/{vm}/new")
    assert vm in api.problem(409, "PUT", f"{FILES}/{vm}.iso?replace=true", b"mine")["detail"]


def test_a_disk_in_use_is_not_handed_out(api, vm):
    assert api.request("GET", f"{FILES}/{vm}/system.qcow2").status == 200
    api.post(f"/vms/{vm}/start")
    problem = api.problem(409, "GET", f"{FILES}/{vm}/system.qcow2")
    assert vm in problem["detail"] and "shutdown" in problem["hint"]
    assert api.request("GET", f"{FILES}/{vm}.iso").status == 200


def test_many_uploads_at_once(croft, api, name, store):
    data = os.urandom(2_000_000)
    statuses = []

    def put(i):
        statuses.append(croft.client().request("PUT", f"{FILES}/{name}-{i}", data, {"Repr-Digest": digest(data)}).status)
    threads = [threading.Thread(target=put, args=(i,)) for i in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert statuses == [201] * 20 and not hidden(store, api)
    assert all(content(store, f"{name}-{i}") == data for i in range(20))
