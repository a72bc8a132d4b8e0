#!/usr/bin/env python3
"""Mixed traffic against a worker and a colony, at the same time, for a given time, and what must hold at its end (./dev soak SECONDS).

Sixteen clients each: short and streamed answers on all APIs, cancels, disconnects at every stage, wrong keys, malformed bodies, huge
prompts, repeated idempotency keys. At the end: every request that a daemon started has ended once (started = completed + failed +
cancelled), the clients saw what the daemons counted, memory, descriptors and threads are what they were after the warm-up, both
daemons end with 0. Before it, of one after the other: the p99 of short requests beside four clients that post 8 MB prompts,
against the same alone.
Usage: soak.py SECONDS [--clients N] [--seed N] [--only worker|colony]. Exits 1 when something does not hold.
"""
import argparse
import collections
import concurrent.futures
import contextlib
import http.client
import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/colony"), str(ROOT / "tests/worker")]
import colony as colonies  # noqa: E402
import harness  # noqa: E402

os.environ["LLORCH_LOOP_TURN_MS_MAX"] = "0"  # daemons as people run them: the suites watch the turns of loops, at a cost
KEY = "soak-operator-token-0123456789"
HUGE = json.dumps({"prompt": "the sea and the wind " * 390_000, "max_tokens": 4}).encode()  # just under the 8 MB that a body may have
SHORT = {"prompt": "Write a haiku about the sea", "max_tokens": 6}
MEMORY_SLACK = 1.15  # allocators keep what they had at the peak of a busy minute
SHORT_P99_TIMES_MAX = 3.0
KEPT = 630  # seconds after which nobody keeps a finished job (300), the answer to an idempotency key (600), a connection


class Target:
    """A daemon under test: where it is, how a short answer is asked for, whose figures count."""

    def __init__(self, name, port, pids, model, counters):
        self.name, self.port, self.pids, self.model, self.counters = name, port, pids, model, counters

    def connection(self, timeout=120):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def call(self, method, path, body=None, key=KEY, headers=None, timeout=120):
        c = self.connection(timeout)
        try:
            data = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
            c.request(method, path, data, {"Authorization": f"Bearer {key}", "Content-Type": "application/json"} | (headers or {}))
            r = c.getresponse()
            return r.status, r.headers, r.read()
        finally:
            c.close()

    def native(self, **fields):
        """The body of a native job, and where it goes."""
        if self.name == "worker":
            return "/v1/inference", fields
        return "/v1/jobs", {"operation": "infer", "model": self.model, **fields}

    def metrics(self):
        """name{labels} -> value."""
        status, _, text = self.call("GET", "/metrics")
        assert status == 200, (status, text)
        pairs = (line.rsplit(" ", 1) for line in text.decode().splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def size(self):
        """(resident bytes, descriptors, threads) of all processes."""
        total = [0, 0, 0]
        for pid in self.pids():
            proc = pathlib.Path(f"/proc/{pid}")
            with contextlib.suppress(OSError):
                total[0] += int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
                total[1] += len(list((proc / "fd").iterdir()))
                total[2] += len(list((proc / "task").iterdir()))
        return total


class Client(threading.Thread):
    """Does one random thing after the other until the time is over, and remembers what it saw."""

    def __init__(self, target, seed, end):
        super().__init__(daemon=True)
        self.target, self.random, self.end = target, random.Random(seed), end
        self.seen, self.faults = collections.Counter(), []

    def run(self):
        weights = [(f, w) for f, w in ((self.short, 8), (self.streamed, 6), (self.chat, 4), (self.completions, 3), (self.embeddings, 2), (self.cancel, 4), (self.disconnect, 4), (self.never_read, 1), (self.wrong_key, 3), (self.malformed, 3), (self.huge, 1), (self.repeated, 2), (self.cut_body, 2), (self.status, 2))]
        actions, chances = zip(*weights)
        while time.monotonic() < self.end:
            action = self.random.choices(actions, chances)[0]
            try:
                self.seen[action.__name__] += 1
                action()
            except Exception as e:  # whatever a client meets is a finding, told at the end
                self.faults.append(f"{action.__name__}: {type(e).__name__}: {str(e)[:300]}")

    def expect(self, status, *allowed, body=b""):
        """429 and 503 are an honest answer of a busy server."""
        self.seen[f"status {status}"] += 1
        assert status in allowed or status in (429, 503), f"{status} {body[:300]}"
        return status in allowed

    def start_job(self, headers=None, **fields):
        path, body = self.target.native(**(SHORT | {"max_tokens": self.random.randint(1, 24)} | fields))
        status, _, raw = self.target.call("POST", path, body, headers=headers)
        return json.loads(raw) if self.expect(status, 202, body=raw) else None

    def short(self):
        path, body = ("/v1/completions", {"model": self.target.model, **SHORT, "temperature": 0})  # or it may say nothing at all
        status, _, raw = self.target.call("POST", path, body)
        if self.expect(status, 200, body=raw):
            assert json.loads(raw)["usage"]["completion_tokens"] > 0, raw

    def streamed(self):
        job = self.start_job()
        if not job:
            return
        status, _, text = self.target.call("GET", job["sse_url"])
        if self.expect(status, 200, body=text):
            events, done = harness.parse_sse(text.decode())
            numbers = [n for n, _, _ in events if n is not None]
            assert done and numbers == sorted(set(numbers)), "a stream without its end, or out of order"
            assert events[-1][1] in ("end", "error"), events[-1]
            self.seen[f"stream {events[-1][1]}"] += 1

    def chat(self):
        body = {"model": self.target.model, "messages": harness.USER, "max_tokens": 8, "stream": self.random.random() < 0.5}
        status, _, raw = self.target.call("POST", "/v1/chat/completions", body)
        if self.expect(status, 200, body=raw) and body["stream"]:
            assert raw.rstrip().endswith(b"data: [DONE]"), raw[-300:]

    def completions(self):
        status, _, raw = self.target.call("POST", "/v1/completions", {"model": self.target.model, "prompt": ["one", "two"], "n": 2, "max_tokens": 4})
        if self.expect(status, 200, body=raw):
            assert len(json.loads(raw)["choices"]) == 4, raw

    def embeddings(self):
        status, _, raw = self.target.call("POST", "/v1/embeddings", {"model": self.target.model, "input": "a stone in the sun"})
        self.expect(status, 200, 404, body=raw)

    def cancel(self):
        job = self.start_job(max_tokens=200, ignore_eos=True)
        if not job:
            return
        collection = job["sse_url"].removesuffix("/stream")
        status, _, raw = self.target.call("DELETE", collection)
        self.expect(status, 200, 202, 204, 404, body=raw)

    def disconnect(self):
        job = self.start_job(max_tokens=200, ignore_eos=True)
        if not job:
            return
        with socket.create_connection(("127.0.0.1", self.target.port), 30) as s:
            s.sendall(f"GET {job['sse_url']} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n\r\n".encode())
            if self.random.random() < 0.8:
                s.recv(self.random.choice((1, 200, 2000)))

    def never_read(self):
        self.start_job(max_tokens=3)

    def wrong_key(self):
        status, _, raw = self.target.call("GET", self.random.choice(("/v1/models", "/metrics", "/v1/jobs", "/v1/inference")), key=f"wrong-{self.random.random()}")
        assert status in (401, 429), (status, raw[:200])

    def malformed(self):
        body = self.random.choice((b"{", b'{"prompt":1}', b"[]", b'{"max_tokens":-2,"prompt":"x"}', b"\xff\xfe", b'{"prompt":"x","temperature":1e400}'))
        path, _ = self.target.native()
        status, _, raw = self.target.call("POST", path, body)
        self.expect(status, 400, body=raw)

    def huge(self):
        path, fields = self.target.native(**SHORT)
        body = HUGE if self.target.name == "worker" else json.dumps(fields | {"prompt": "the sea and the wind " * 380_000}).encode()
        try:
            status, _, raw = self.target.call("POST", path, body)
        except (ConnectionError, http.client.HTTPException):  # refused before it was sent
            self.seen["huge refused early"] += 1
            return
        self.expect(status, 202, 400, 413, body=raw)

    def repeated(self):
        key = f"soak-{self.random.getrandbits(60)}"
        body = {"model": self.target.model, **SHORT}
        first = self.target.call("POST", "/v1/completions", body, headers={"Idempotency-Key": key})
        again = self.target.call("POST", "/v1/completions", body, headers={"Idempotency-Key": key})
        if self.expect(first[0], 200, body=first[2]) and self.expect(again[0], 200, body=again[2]) and self.target.name == "worker":
            assert json.loads(first[2])["id"] == json.loads(again[2])["id"], "an idempotent request was computed twice"

    def cut_body(self):
        path, body = self.target.native(**SHORT)
        with socket.create_connection(("127.0.0.1", self.target.port), 30) as s:
            s.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n".encode() + json.dumps(body).encode())

    def status(self):
        status, _, _ = self.target.call("GET", "/health")
        assert status == 200, status


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def short_latencies(target, count):
    out = []
    for _ in range(count):
        start = time.monotonic()
        status, _, raw = target.call("POST", "/v1/completions", {"model": target.model, **SHORT})
        assert status == 200, (status, raw[:300])
        out.append(time.monotonic() - start)
    return out


def flood(port, path, body_file):
    """Four clients that post the file's bytes for as long as the process lives: in one of its own, so that Python's lock is not measured."""
    target, body = Target("flood", port, None, None, None), pathlib.Path(body_file).read_bytes()

    def post():
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                target.call("POST", path, body)

    for _ in range(4):
        threading.Thread(target=post, daemon=True).start()
    sys.stdin.read()


def beside_huge_prompts(target, count):
    """(p99 alone, p99 beside four clients that post huge prompts), in seconds."""
    alone = short_latencies(target, count)
    path, fields = target.native(**SHORT)
    body = HUGE if target.name == "worker" else json.dumps(fields | {"prompt": "the sea and the wind " * 380_000}).encode()
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        command = [sys.executable, "-c", "import sys, soak; soak.flood(int(sys.argv[1]), *sys.argv[2:])", str(target.port), path, file.name]
        with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=pathlib.Path(__file__).parent) as clients:
            try:
                beside = short_latencies(target, count)
            finally:
                clients.kill()
    return percentile(alone, 0.99), percentile(beside, 0.99)


def quiet(target, seconds=30):
    """Waits until nothing is under way."""
    started, ended, _ = target.counters(target.metrics())
    end = time.monotonic() + seconds
    while started != ended and time.monotonic() < end:
        time.sleep(0.1)
        started, ended, _ = target.counters(target.metrics())


def measure(target):
    """What does not hold of the times of short requests, in words."""
    alone, beside = beside_huge_prompts(target, 2000)
    print(f"{target.name}: short requests, p99 alone {alone * 1000:.1f} ms, beside four clients with 8 MB prompts {beside * 1000:.1f} ms: {beside / alone:.2f} times", flush=True)
    if beside <= SHORT_P99_TIMES_MAX * alone:
        return []
    return [f"{target.name}: p99 beside huge prompts is {beside / alone:.2f} times that alone, above {SHORT_P99_TIMES_MAX}"]


def soak(target, seconds, clients, seed):
    """What does not hold after mixed traffic, in words."""
    flaws = []

    def traffic(for_seconds, salt):
        end = time.monotonic() + for_seconds
        running = [Client(target, seed * 1000 + salt * 100 + i, end) for i in range(clients)]
        for c in running:
            c.start()
        for c in running:
            c.join(for_seconds + 180)
            if c.is_alive():
                flaws.append("a client hangs")
        return running

    traffic(min(60.0, seconds / 4), 0)  # warm: pools, caches and allocators reach their size
    quiet(target)
    before = target.size()
    done = traffic(seconds, 1)
    quiet(target)
    until, after = time.monotonic() + KEPT, target.size()
    while time.monotonic() < until and (after[0] > before[0] * MEMORY_SLACK or after[1] > before[1] or after[2] > before[2]):
        time.sleep(1)
        after = target.size()
    seen = sum((c.seen for c in done), collections.Counter())
    faults = collections.Counter(f for c in done for f in c.faults)
    started, ended, parts = target.counters(target.metrics())
    total = sum(n for what, n in seen.items() if not what.startswith(("status ", "stream ", "huge ")))
    print(f"{target.name}: {total} requests in {seconds:.0f} s: {dict(sorted(seen.items()))}")
    print(f"{target.name}: started {started:.0f} = {' + '.join(f'{n:.0f} {what}' for what, n in parts.items())}")
    print(f"{target.name}: memory {before[0] / 1e6:.1f} -> {after[0] / 1e6:.1f} MB, descriptors {before[1]} -> {after[1]}, threads {before[2]} -> {after[2]}", flush=True)
    if not started:
        flaws.append("nothing was counted")
    if started != ended:
        flaws.append(f"{started:.0f} started, {ended:.0f} ended")
    if after[0] > before[0] * MEMORY_SLACK:
        flaws.append("memory did not come back")
    if after[1] > before[1]:
        flaws.append("descriptors did not come back")
    if after[2] > before[2]:
        flaws.append("threads did not come back")
    flaws += [f"{n} times {what}" for what, n in faults.most_common(20)]
    return [f"{target.name}: {f}" for f in flaws]


def counters_of(daemon):
    """Of a daemon's metrics: (started, ended, {outcome: how many})."""
    def read(m):
        parts = {o: m.get(f'llorch_{daemon}_requests_total{{outcome="{o}"}}', 0) for o in ("completed", "failed", "cancelled")}
        return m.get(f"llorch_{daemon}_requests_started_total", 0), sum(parts.values()), parts
    return read


@contextlib.contextmanager
def a_worker():
    with harness.Worker(local=False, env={"LLORCH_API_TOKEN": KEY}, wait=False) as w:
        harness.wait_for(lambda: colonies.listens(w.port), 60)
        target = Target("worker", w.port, lambda: [w.process.pid], "builtin:haiku", counters_of("worker"))
        harness.wait_for(lambda: target.call("GET", "/health")[0] == 200, 60)
        yield target


@contextlib.contextmanager
def a_colony():
    with colonies.Colony(LLORCH_API_TOKEN=KEY) as c:
        c.queen(local=False)
        target = Target("colony", c.queen_port, lambda: [pid for pid, _ in c.census()], "builtin:haiku", counters_of("queen"))
        status, _, raw = target.call("POST", "/v1/completions", {"model": "builtin:haiku", **SHORT})
        assert status == 200, (status, raw)
        yield target


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("seconds", type=float)
    p.add_argument("--clients", type=int, default=16)
    p.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(24))
    p.add_argument("--only", choices=("worker", "colony"))
    a = p.parse_args()
    print("seed", a.seed, flush=True)
    with contextlib.ExitStack() as stack:
        targets = [stack.enter_context(make()) for name, make in (("worker", a_worker), ("colony", a_colony)) if a.only in (None, name)]
        flaws = [flaw for t in targets for flaw in measure(t)]  # one after the other: what they share is the machine
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for found in pool.map(lambda t: soak(t, a.seconds, a.clients, a.seed), targets):
                flaws += found
    for flaw in flaws:
        print("FAILED:", flaw)
    print("soak:", "what must hold does not" if flaws else "all of it held")
    sys.exit(bool(flaws))


if __name__ == "__main__":
    main()
