"""openapi.py: the API's document, and a judge of answers by it: what an answer holds must stand in its schema."""
import datetime
import functools
import json
import os
import re
import subprocess

from croft import O

TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "null": type(None)}


@functools.cache
def document():
    return json.loads(subprocess.run([f"{O}/croftd", "--openapi"], stdout=subprocess.PIPE, check=True).stdout)


def operations():
    """(method, path, operation) of every route."""
    return [(method.upper(), path, operation) for path, methods in document()["paths"].items()
            for method, operation in methods.items()]


@functools.cache
def patterns():
    return [(method, re.compile(re.sub(r"\{path\}", ".+", re.sub(r"\{(?!path\})\w+\}", "[^/]+", path)) + r"\Z"), operation)
            for method, path, operation in operations()]


def operation_of(method, path):
    path = path.partition("?")[0]
    found = [o for m, pattern, o in patterns() if m == ("GET" if method == "HEAD" else method) and pattern.match(path)]
    return found[-1] if found else None


def resolve(schema):
    while "$ref" in schema:
        schema = document()["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def faults(schema, value, at=""):
    """What is wrong with value: a list of sentences. What no schema mentions is wrong, too."""
    if "anyOf" in schema:
        wrong = [faults(s, value, at) for s in schema["anyOf"]]
        return [] if [] in wrong else wrong[0]
    schema = resolve(schema)
    if "type" not in schema:
        return []
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(isinstance(value, TYPES[t]) and not (t == "integer" and isinstance(value, bool)) for t in types):
        return [f"{at}: {value!r} is not of the type {types}"]
    found = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{at}: {value!r} is none of {schema['enum']}")
    if isinstance(value, dict):
        rows = schema.get("properties", {})
        found += [f"{at}: lacks {name}" for name in schema.get("required", ()) if name not in value]
        for name, item in value.items():
            if name in rows:
                found += faults(rows[name], item, f"{at}/{name}")
            elif "additionalProperties" in schema:
                found += faults(schema["additionalProperties"], item, f"{at}/{name}")
            else:
                found.append(f"{at}/{name}: is in no schema")
    elif isinstance(value, list):
        for i, item in enumerate(value[:50]):
            found += faults(schema["items"], item, f"{at}/{i}")
    elif isinstance(value, str) and schema.get("format") == "date-time":
        try:
            datetime.datetime.strptime(value, "%Y-%m-%dT%H:%M:%S.%fZ")
        except ValueError:
            found.append(f"{at}: {value!r} is no time in UTC")
    elif isinstance(value, int) and not isinstance(value, bool):
        if value < schema.get("minimum", value) or value > schema.get("maximum", value):
            found.append(f"{at}: {value} is out of bounds")
    return found


def check_problem(answer):
    problem = answer.json
    assert answer.headers.get_content_type() == "application/problem+json", answer
    wrong = faults(document()["components"]["schemas"]["Problem"], problem)
    assert not wrong, (wrong, answer)
    assert problem["status"] == answer.status and problem["type"].startswith("/problems/") and problem["title"], answer
    assert problem["detail"] and problem["request_id"], answer
    return problem


def check(method, path, answer):
    """Is this answer as the document says? A problem is one everywhere."""
    if answer.status >= 400:
        if method != "HEAD":
            check_problem(answer)
        return
    operation = operation_of(method, path)
    assert operation, f"{method} {path} is answered, but not in the document: {answer}"
    if answer.status == 304:
        return
    response = operation["responses"].get(str(answer.status))
    assert response, f"{operation['operationId']}: the document does not know the answer {answer}"
    content = response.get("content", {})
    if not content:
        assert not answer.body, f"{operation['operationId']}: a body that the document does not know: {answer}"
        return
    kind = answer.headers.get_content_type()
    assert kind in content, f"{operation['operationId']} answers {kind}, and the document says {list(content)}"
    if kind == "application/json" and method != "HEAD":
        wrong = faults(content[kind]["schema"], answer.json)
        assert not wrong, f"{operation['operationId']}: {wrong}: {answer}"
