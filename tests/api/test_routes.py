"""Every route of the API's document, walked without credentials, with too small a role, and with junk. (That answers are
as the document says is judged for every request of all API tests: openapi.py.)"""
import json
import os
import subprocess

import openapi
import pytest
from croft import TOP

OPERATIONS = openapi.operations()
EVERY = pytest.mark.parametrize("method, path, operation", OPERATIONS, ids=[o["operationId"] for _, _, o in OPERATIONS])
WITH_BODY = [x for x in OPERATIONS if "application/json" in str(x[2].get("requestBody")) or x[0] == "PATCH"]
EVERY_BODY = pytest.mark.parametrize("method, path, operation", WITH_BODY, ids=[o["operationId"] for _, _, o in WITH_BODY])
NAMES = {"vm": "box", "disk": "x", "task": "1", "datastore": "local", "path": "no/such.iso", "user": "vic", "token": "x", "upload": "x",
         "ticket": "x"}
PERMISSIONS = {}        # role -> set


def url(path):
    for name, value in NAMES.items():
        path = path.replace(f"{{{name}}}", value)
    assert "{" not in path, f"{path}: say in NAMES what stands there"
    return path


def body_schema(operation):
    return next(iter(operation["requestBody"]["content"].values()))["schema"]


def sample(schema):
    """The least that is right."""
    schema = openapi.resolve(schema)
    if "default" in schema:
        return schema["default"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema["type"] if isinstance(schema["type"], str) else schema["type"][0]
    if kind == "object":
        return {name: sample(schema["properties"][name]) for name in schema.get("required", ())}
    return {"string": "x" * max(schema.get("minLength", 1), 1), "integer": schema.get("minimum", 0) or 1, "boolean": False,
            "array": []}[kind]


@pytest.fixture(scope="module")
def tokens(croft):
    """A token for each role."""
    admin = croft.client()
    admin.post("/vms", {"name": "box", "config": {"engine": "sim"}})
    found = {}
    for name, role in (("vic", "viewer"), ("oda", "operator"), ("max", "vm-admin"), ("ada", "admin")):
        admin.post("/users", {"name": name, "role": role})
        found[role] = admin.post("/tokens", {"name": "test", "user": name})["secret"]
        PERMISSIONS[role] = set(croft.client(tls=True, token=found[role]).get("/session")["permissions"])
    return found


@pytest.fixture(autouse=True)
def nothing_broke(croft, tokens):
    """After each walk the daemon is the same process, and said nothing about internal errors."""
    pid, said = croft.process.pid, len(croft.log)
    yield
    assert croft.process.poll() is None and croft.client().get("/host")["agent"]["pid"] == pid
    log = "".join(line for line in croft.log[said:].splitlines(True) if " of the loop" not in line)      # a busy machine
    assert "croftd: error" not in log and "front: " not in log, log


def test_somebody_elses_validator_accepts_the_document(tmp_path):
    here = os.path.dirname(os.path.abspath(__file__))
    if not os.path.exists(f"{here}/node_modules"):
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", here], check=True)
    (tmp_path / "openapi.json").write_text(json.dumps(openapi.document()))
    ran = subprocess.run(["node", f"{here}/node_modules/@seriousme/openapi-schema-validator/bin/validate-api-cli.js",
                          tmp_path / "openapi.json"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert ran.returncode == 0, ran.stdout.decode()
    assert openapi.document()["openapi"].startswith("3.1")


def test_the_document_is_served_and_is_the_one_that_vmctl_is_made_from(croft):
    with open(f"{TOP}/cli/openapi.json", encoding="utf-8") as f:
        assert json.load(f) == openapi.document(), "renew cli/openapi.json: croftd --openapi"
    answer = croft.client(tls=True).request("GET", "/openapi.json")
    assert answer.status == 200 and answer.json == openapi.document()


@EVERY
def test_without_credentials(croft, method, path, operation):
    answer = croft.client(tls=True).request(method, url(path))
    if operation["x-permission"] == "none":
        assert answer.status in (200, 400, 404), answer
        return
    assert answer.status == 401 and answer.headers["WWW-Authenticate"].startswith("Bearer"), answer
    assert "hint" in answer.json


@EVERY
def test_with_a_bad_token(croft, method, path, operation):
    for token in ("x", "croft_" + "0" * 64, "ÿ" * 40, " ", "x" * 4000):
        client = croft.client(tls=True)
        client.headers["Authorization"] = f"Bearer {token}".encode("latin-1")
        answer = client.request(method, url(path))
        assert answer.status == 401 or operation["x-permission"] == "none", answer


@EVERY
def test_with_too_small_a_role(croft, tokens, method, path, operation):
    needed = operation["x-permission"]
    lacking = [role for role in tokens if needed not in PERMISSIONS[role]]
    if needed in ("none", "login"):
        return
    for role in lacking:
        answer = croft.client(tls=True, token=tokens[role]).request(method, url(path))
        assert answer.status == 403, answer
        assert answer.json["permission"] == needed and needed in answer.json["hint"] and role in answer.json["detail"], answer
    # Who has it gets on to the next question: is there such a thing, is the body right?
    if lacking and method != "DELETE" and "Stream" not in operation["operationId"]:
        role = next(role for role in ("operator", "vm-admin", "admin") if needed in PERMISSIONS[role])
        assert croft.client(tls=True, token=tokens[role]).request(method, url(path)).status not in (401, 403)


@pytest.mark.parametrize("path", openapi.document()["paths"])
def test_wrong_methods(api, path):
    takes = {m.upper() for m in openapi.document()["paths"][path]}
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} - takes:
        answer = api.request(method, url(path))
        assert answer.status == 405, answer
        assert set(answer.headers["Allow"].split(", ")) >= takes and answer.json["hint"], answer


@EVERY_BODY
def test_bodies_that_are_no_json(api, method, path, operation):
    kind = {"Content-Type": "application/json"}
    for body in (b"{", b"nonsense", b'{"name":"x"}}', b"{'name':'x'}", b'{"name":"x",}', b'{"name":"\xff\xfe"}', b'{"name":"\xed\xa0\x80"}',
                 b'{"name":"a","name":"b"}', b'{"a\\u0000b":1}', b"[" * 100000, b'{"name":' * 100000, b"[" * 100000 + b"]" * 100000,
                 b'{"cpus":1e999}', b'{"cpus":' + b"9" * 5000 + b"}", b"\x00", b"\xef\xbb\xbf{}", b"{}" * 10):
        answer = api.request(method, url(path), body, kind)
        assert answer.status in (400, 422), f"{body[:40]}: {answer}"


@EVERY_BODY
def test_bodies_that_are_no_object(api, method, path, operation):
    for body in ([], [{}], "x", 7, True, None):
        assert api.request(method, url(path), json.dumps(body).encode(), {"Content-Type": "application/json"}).status in (400, 422)


@EVERY_BODY
def test_bodies_of_the_wrong_kind_and_size(api, method, path, operation):
    for kind in ("text/plain", "application/xml", "application/x-www-form-urlencoded", "", "application/jsonx", "json"):
        assert api.request(method, url(path), b"{}", {"Content-Type": kind}).status == 415
    size = 18_000_000 if operation["operationId"] == "config_restore" else 3_000_000       # a backup of thousands of VMs is large
    answer = api.request(method, url(path), b" " * size, {"Content-Type": "application/json"})
    assert answer.status == 413, answer
    chunks = iter([b" " * 65536] * (size // 60000))
    api.http.close()
    api.http.request(method, url(path), chunks, {"Content-Type": "application/json"}, encode_chunked=True)
    assert api.http.getresponse().status == 413
    api.http.close()
    if operation["requestBody"]["required"]:
        assert api.request(method, url(path)).status == 400


def junk(schema, at=""):
    """(pointer, a body's part that is wrong there), all the way down."""
    schema = openapi.resolve(schema)
    for name, row in schema.get("properties", {}).items():
        pointer, row = f"{at}/{name}", {**openapi.resolve(row), **row}
        types = row.get("type", [])
        for value, kind in ((7, "integer"), (True, "boolean"), ("§", "string"), ([1], "array"), ({"§": 1}, "object"), (-1, ""),
                            (2**64, ""), (1.5, "")):
            if kind not in types and types:
                yield pointer, {name: value}
        if "enum" in row:
            yield pointer, {name: "nonsense"}
        if "maxLength" in row:
            yield pointer, {name: "x" * (row["maxLength"] + 1)}
        if row.get("maximum", 2**64) < 2**64 - 1:
            yield pointer, {name: row["maximum"] + 1}
        if row.get("minimum"):
            yield pointer, {name: row["minimum"] - 1}
        if row.get("readOnly"):
            yield pointer, {name: sample(row)}
        if row.get("format") == "date-time":
            yield pointer, {name: "yesterday"}
        if types == "object" and "properties" in row:
            for below, part in junk(row, pointer):
                yield below, {name: part}
        elif types == "object" and "$ref" in row.get("additionalProperties", {}):
            for below, part in junk(row["additionalProperties"], f"{pointer}/a"):
                yield below, {name: {"a": part}}
        elif types == "array" and "$ref" in row.get("items", {}):
            for below, part in junk(row["items"], f"{pointer}/0"):
                yield below, {name: [part]}


@EVERY_BODY
def test_fields_of_the_wrong_type(api, method, path, operation):
    schema, checked = body_schema(operation), 0
    for pointer, part in junk(schema):
        # A user that is to be restored needs a name before anything is said about its role, and so on.
        body = part if method == "PATCH" else {**sample(schema), **part}
        if operation["operationId"] == "config_restore" and (list(part.values())[0] in (0, "") or "0" in pointer):
            continue        # a backup: what is empty was never said, and its objects are checked below
        answer = api.request(method, url(path), body)
        if str(2**64) in str(body):
            assert answer.status == 400, f"{body}: {answer}"
            continue
        assert answer.status == 422, f"{body}: {answer}"
        told = answer.json["errors"][0]["pointer"]
        assert told == pointer or told.startswith(pointer + "/") or pointer.startswith(told + "/") or \
            told.rpartition("/")[0] == pointer.rpartition("/")[0], f"{body}: {answer} is not about {pointer}"
        checked += 1
    assert checked


@EVERY_BODY
def test_unknown_fields(api, method, path, operation):
    answer = api.request(method, url(path), {**(sample(body_schema(operation)) if method != "PATCH" else {}), "colour": 1})
    if operation["operationId"] == "config_restore":
        assert answer.status == 200     # a backup of a newer Croft may say more
        return
    assert answer.status == 422 and answer.json["errors"][0]["pointer"] == "/colour", answer


@EVERY
def test_a_body_where_none_belongs(api, method, path, operation):
    if "requestBody" not in operation and method != "GET":
        assert api.request(method, url(path), {"a": 1}).status == 400


@EVERY
def test_queries(api, method, path, operation):
    names = {p["name"]: p["schema"]["type"] for p in operation["parameters"] if p["in"] == "query"}
    if method == "GET":
        assert api.request(method, url(path) + "?colour=red").status == 400
    for name, kind in names.items():
        bad = ["%ff", "%zz", "a" * 300] + {"integer": ["x", "-1", "1.5", "99999999999999999999", ""], "boolean": ["maybe"]}.get(kind, [])
        for value in bad:
            answer = api.request(method, f"{url(path)}?{name}={value}")
            assert answer.status == 400 and name in answer.json["detail"], f"{name}={value}: {answer}"


@EVERY
def test_names_in_the_path(api, method, path, operation):
    for name in operation["parameters"]:
        if name["in"] == "path":
            for value in ("%ff", "%zz", "%00", "%", "x" * 900, "%2e%2e", "..%2f..%2fetc%2fpasswd", "%0d%0aX:%20y"):
                answer = api.request(method, url(path.replace("{%s}" % name["name"], value)))
                assert 400 <= answer.status < 500, f"{value}: {answer}"


@EVERY
def test_headers(api, method, path, operation):
    for parameter in operation["parameters"]:
        if parameter["name"] == "Prefer":
            for value in ("wait=x", "wait=-1", "wait=99999999", "wait"):
                assert api.request(method, url(path), None, {"Prefer": value}).status == 400
        if parameter["name"] == "Idempotency-Key" and "requestBody" not in operation:
            for value in ("", "x" * 300):
                assert api.request(method, url(path), None, {"Idempotency-Key": value}).status == 400


def test_a_backup_that_is_none(api):
    vm = {"name": "b", "id": "5d6f1b9e-2f5a-4d7e-9c1b-0a1b2c3d4e5f"}
    for users, vms in (([{}], []), ([{"name": ""}], []), ([{"name": "../x"}], []), ([{"name": "u", "role": "king"}], []),
                       ([{"name": "u", "password_hash": 7}], []), ([7], []), ({}, []), ([], [{}]), ([], [{"name": "b"}]),
                       ([], [{**vm, "id": "x"}]), ([], [{**vm, "name": ""}]), ([], [{**vm, "config": 7}]), ([], [{**vm, "labels": []}]),
                       ([], [{**vm, "config": {"cpus": 99999}}]), ([], [{**vm, "config": {"disks": {"a": {"path": "/etc/passwd"}}}}])):
        answer = api.request("POST", "/config", {"format": 1, "users": users, "vms": vms})
        assert answer.status == 422 and answer.json["errors"], f"{users} {vms}: {answer}"
    assert api.request("GET", "/vms/b").status == 404


def test_paths_that_lead_nowhere(api):
    for path in ("/api", "/api/", "/api/v1", "/api/v2/vms", "/api/v1/vm", "/api/v1/vms/", "/api/v1//vms", "/api/v1/vms/box/",
                 "/api/v1/vms/box/explode", "/api/v1/vms/a/b/c", "/api/v1/../v1/vms"):
        problem = api.problem(404, "GET", path)
        assert "openapi.json" in problem["hint"]


def test_head_is_get_without_a_body(api):
    for path in ("/vms", "/vms/box", "/host", "/datastores"):
        get, head = api.request("GET", path), api.request("HEAD", path)
        assert head.status == 200 and head.body == b"" and head.headers["Content-Type"] == get.headers["Content-Type"]
    assert api.request("HEAD", "/vms/box").etag == api.request("GET", "/vms/box").etag == '"1"'
    assert api.request("HEAD", "/vms/nobody").status == 404
