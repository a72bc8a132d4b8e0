"""What the files of the clients share: where the server is, what they ask, and one line of output for each call.

Only the standard library: each client has an environment of its own. `run.py` sets the variables."""
import collections
import contextlib
import json
import os
import re
import sys
import time
import traceback
import urllib.request

KEY = "-"  # the servers have no tokens; clients want some text
SERVER = os.environ["LLORCH_CLIENT_SERVER"]  # worker, queen
# (address without /v1, name of the model): a small one with tools, one with a long context, one for vectors
URL, MODEL = os.environ["LLORCH_CLIENT_TOOLS"].split()
LONG_URL, LONG_MODEL = (os.environ.get("LLORCH_CLIENT_LONG") or " ").split(" ")
VECTOR_URL, VECTOR_MODEL = os.environ["LLORCH_CLIENT_VECTORS"].split()
BASE, VECTOR_BASE = f"{URL}/v1", f"{VECTOR_URL}/v1"

PROMPT = "Write one sentence about the sea."
TOOL_PROMPT = "Please use weather for Paris."  # the model calls it by itself (tools.jinja)
WEATHER = "12 degrees and rain"
ENDLESS = "Count from 1 to 1000, one number a line."
ENDLESS_TOKENS = 3000
CITY = {"type": "string", "enum": ["Oslo", "Paris"]}
PARAMETERS = {"type": "object", "properties": {"city": CITY}, "required": ["city"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather of a city", "parameters": PARAMETERS}}
BIRD = {"type": "object", "properties": {"name": {"type": "string", "enum": ["crow", "gull", "wren"]}, "legs": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["name", "legs"], "additionalProperties": False}
VECTOR_TEXTS = ["A cat sleeps on the sofa.", "A kitten naps on the couch.", "Interest rates rose in March."]

CALLS = []


class NotRun(Exception):
    """The call cannot be tried; the text says why."""


def call(name):
    """Marks a function as one of the client's calls."""

    def add(function):
        CALLS.append((name, function))
        return function

    return add


def main():
    """Runs all calls, or those that the command line names; prints one line each and ends with 1 where one failed."""
    failed = False
    for name, function in CALLS:
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        start = time.monotonic()
        try:
            function()
            line = f"ok ({time.monotonic() - start:.1f} s)"
        except NotRun as reason:
            line = f"not run: {reason}"
        except Exception as error:  # noqa: BLE001  # one call must not hide the others
            failed = True
            traceback.print_exc()
            line = f"FAILED: {type(error).__name__}: " + " ".join(str(error).split())[:300]
        print(f"{name}: {line}", flush=True)
    sys.exit(failed)


def post(path, body, url=URL):
    """(status, body) of a plain request, for checks beside the client."""
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as answer:
        return answer.code, json.load(answer)


def ended():
    """How many requests ended in each way, by the server's own count."""
    with urllib.request.urlopen(f"{URL}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    found = collections.Counter()
    for outcome, count in re.findall(r'^llorch_\w+_requests_total\{outcome="(\w+)"\} (\d+)$', text, re.M):
        found[outcome] += int(count)
    return found


@contextlib.contextmanager
def one_is_cancelled(seconds=15):
    """The server must count one request as cancelled soon after the block, in which the client leaves one."""
    before = ended()
    yield
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if ended()["cancelled"] > before["cancelled"]:
            return
        time.sleep(0.1)
    raise AssertionError(f"no request was cancelled within {seconds} s: before {dict(before)}, now {dict(ended())}")


def expect_vectors(vectors):
    """Three vectors of VECTOR_TEXTS: of length 1, the first two nearer to each other than to the third."""
    assert len(vectors) == 3 and len({len(v) for v in vectors}) == 1, [len(v) for v in vectors]

    def product(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))

    for v in vectors:
        assert abs(product(v, v) - 1) < 1e-3, product(v, v)
    assert product(vectors[0], vectors[1]) > product(vectors[0], vectors[2]) + 0.2


def expect_refused(kind, function, *words):
    """The call must raise this type; its text must have these words. Gives back what was raised."""
    try:
        function()
    except kind as error:
        for word in words:
            assert word in str(error), error
        return error
    raise AssertionError(f"it was not refused with {kind.__name__}")
