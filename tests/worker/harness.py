"""A real worker process for tests: started on a free port, asked over real sockets, gone at the end (T-09)."""
import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("LLORCH_WORKER", str(ROOT / "build/relassert/bin/llorch-worker-cpu"))
DATA = pathlib.Path(os.environ.get("LLORCH_TEST_DATA", str(ROOT.parent / "shared")))
STORIES = DATA / "models/stories260k-f32.gguf"
SANITIZED = "/dev/" in BINARY or "/tsan/" in BINARY
USER = [{"role": "user", "content": "Write a haiku about the sea"}]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Worker:
    def __init__(self, *flags, model="builtin:haiku", local=True, env=None, wait=True, port=None):
        self.port = port or free_port()
        self.log = tempfile.NamedTemporaryFile("w+", prefix="llorch-worker-", suffix=".log")
        arguments = [BINARY, "serve", "-m", str(model), "--port", str(self.port), "--log-format", "json", *(["--local-mode"] if local else []), *flags]
        self.process = subprocess.Popen(arguments, stderr=self.log, stdout=self.log, env=os.environ | (env or {}))
        self.url = f"http://127.0.0.1:{self.port}"
        if wait:
            self.wait_ready()

    def wait_ready(self, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"the worker ended with {self.process.returncode}:\n{self.logs()}")
            with contextlib.suppress(OSError):
                if self.get("/health")[0] == 200:
                    return
            time.sleep(0.02)
        raise AssertionError("the worker did not become healthy:\n" + self.logs())

    def logs(self):
        return pathlib.Path(self.log.name).read_text()

    def connection(self, timeout=60):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def call(self, method, path, body=None, headers=None, timeout=60):
        """(status, headers, body) of one exchange; JSON is decoded."""
        c = self.connection(timeout)
        data = body if isinstance(body, (bytes, str, type(None))) else json.dumps(body)
        send = {} if data is None else {"Content-Type": "application/json"}
        c.request(method, path, data, send | (headers or {}))
        r = c.getresponse()
        raw = r.read()
        c.close()
        kind = r.headers.get("Content-Type", "")
        return r.status, r.headers, json.loads(raw) if kind.startswith("application/json") else raw.decode()

    def get(self, path, headers=None):
        return self.call("GET", path, None, headers)

    def post(self, path, body, headers=None):
        return self.call("POST", path, body, headers)

    def infer(self, **fields):
        status, _, body = self.post("/v1/inference", fields)
        assert status == 202, (status, body)
        return body

    def stream(self, sse_url, headers=None):
        """All events of a native stream: (id, type, data) and whether [DONE] came."""
        status, _, text = self.get(sse_url, headers)
        assert status == 200, (status, text)
        return parse_sse(text)

    def generate(self, **fields):
        events, done = self.stream(self.infer(**fields)["sse_url"])
        assert done, events
        return events

    def metric(self, name):
        text = self.get("/metrics")[2]
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name)

    def rss(self):
        return int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def stop(self, expect=0):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the worker did not stop:\n" + self.logs())
        assert code == expect, f"the worker ended with {code}:\n{self.logs()[-3000:]}"

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.stop()
        elif self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def parse_sse(text):
    events, done = [], False
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        if fields.get("data") == "[DONE]":
            done = True
        elif "data" in fields:
            assert not done, "something follows [DONE]"
            events.append((int(fields["id"]) if "id" in fields else None, fields.get("event"), json.loads(fields["data"])))
    return events, done


def text_of(events):
    return "".join(d["t"] for _, kind, d in events if kind == "token")


def wait_for(what, seconds=10):
    """The first true value of what(), polled."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = what()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError("it did not happen in time")


def main():
    if not os.access(BINARY, os.X_OK):
        sys.exit(f"{BINARY} is not there: ./dev build relassert")
    unittest.main(verbosity=1)
