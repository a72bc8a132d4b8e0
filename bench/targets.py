#!/usr/bin/env python3
"""The worker's performance targets (REQUIREMENTS 2.5), measured on a real worker, beside what is required and the stored baseline.

Usage: bench/targets.py [MODEL] [--rounds N] [--save] [--inject F]. Writes .test-results/performance/<run>.json with machine, build and
model. --save makes this run the baseline of this machine and model; without one, the first run is. Ends with 1 when a target is missed
or a p95 is over its baseline by more than 10 % and by more than a 20th of what is required. --inject multiplies all times: the check must then fail.
"""
import argparse
import http.client
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
os.environ.setdefault("LLORCH_WORKER", str(ROOT / "build/release/bin/llorch-worker-cpu"))
sys.path.insert(0, str(ROOT / "tests/worker"))
from harness import BINARY, Worker, run_id, wait_for  # noqa: E402

RESULTS = ROOT / ".test-results/performance"


def p95(values):
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.95))]


def ms_since(start):
    return (time.perf_counter() - start) * 1000


class Streamed:
    """One native dual call, read line by line."""

    def __init__(self, w, tokens, **fields):
        self.c = http.client.HTTPConnection("127.0.0.1", w.port, timeout=120)
        self.start = time.perf_counter()
        self.c.request("POST", "/v1/inference", json.dumps({"prompt": "The", "max_tokens": tokens, "ignore_eos": True, **fields}), {"Content-Type": "application/json"})
        self.job = json.loads(self.c.getresponse().read())
        self.c.request("GET", self.job["sse_url"])
        self.answer = self.c.getresponse()
        self.times = []

    def read(self, until=None):
        """Reads to the end, or to the given event; returns the last event's type."""
        kind = None
        while line := self.answer.readline():
            if line.startswith(b"event: "):
                kind = line[7:-1].decode()
                if kind == "token":
                    self.times.append(time.perf_counter())
                if kind == until:
                    break
        return kind


def measure(model, rounds):
    """{name: milliseconds, or a figure in its own unit}"""
    out = {}
    starts, stops, firsts = [], [], []
    for _ in range(5):
        start = time.perf_counter()
        w = Worker(model=model)
        starts.append(ms_since(start))
        took = []
        for salt in ("a", "b"):  # the second must find no prefix of the first
            start = time.perf_counter()
            Streamed(w, 32, cache_salt=salt).read()
            took.append(ms_since(start))
        firsts.append(took[0] / took[1])
        start = time.perf_counter()
        w.stop()
        stops.append(ms_since(start))
    out["worker start, page cache hot: ms"], out["shutdown: ms"] = max(starts), max(stops)
    out["first request / second: median"] = statistics.median(firsts)
    with Worker("--max-batch", "4", "--queue-capacity", "2", model=model) as w:
        for _ in range(5):
            Streamed(w, 5).read()
        before = w.rss()
        first, between, rates = [], [], []
        for _ in range(rounds):
            s = Streamed(w, 32)
            s.read()
            first.append((s.times[0] - s.start) * 1000)
            between += [(b - a) * 1000 for a, b in zip(s.times, s.times[1:])]
            rates.append((len(s.times) - 1) / (s.times[-1] - s.times[0]))
        out["first token: p95 ms"], out["inter-token: p95 ms"], out["decode: tokens/s"] = p95(first), p95(between), statistics.median(rates)
        out["memory after the requests / before"] = w.rss() / before
        health, cancel, refused = [], [], []
        for _ in range(rounds // 4):
            busy = [Streamed(w, 200) for _ in range(4)]
            for _ in range(10):
                start = time.perf_counter()
                assert w.get("/health")[0] == 200
                health.append(ms_since(start))
            held = [Streamed(w, 200) for _ in range(2)]
            start = time.perf_counter()
            status = w.post("/v1/inference", {"prompt": "x"})[0]
            if status == 429:
                refused.append(ms_since(start))
            for s in busy + held:
                start = time.perf_counter()
                w.call("DELETE", "/v1/inference/" + s.job["job_id"])
                s.read()
                cancel.append(ms_since(start))
                s.c.close()
            wait_for(lambda: w.metric("llorch_worker_queue_depth") == 0)
        out["health while decoding: p99 ms"] = sorted(health)[int(len(health) * 0.99)]
        out["cancel to the stream's end: p95 ms"] = p95(cancel)
        if refused:
            out["refusal when full: p95 ms"] = p95(refused)
    return out


REQUIRED = {"worker start, page cache hot: ms": 5000, "shutdown: ms": 5000, "first token: p95 ms": 100, "inter-token: p95 ms": 50, "health while decoding: p99 ms": 10,
            "cancel to the stream's end: p95 ms": 100, "refusal when full: p95 ms": 50, "memory after the requests / before": 1.1, "first request / second: median": 1.2}
FLOORS = {"decode: tokens/s": 1}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="builtin:haiku")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--save", action="store_true")
    parser.add_argument("--inject", type=float, default=1)
    a = parser.parse_args()
    figures = {name: value * (a.inject if name.endswith("ms") else 1) for name, value in measure(a.model, a.rounds).items()}
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"baseline-{platform.node()}-{pathlib.Path(a.model).name.replace(':', '-')}.json"
    baseline = json.loads(path.read_text())["figures"] if path.exists() else {}
    record = {"machine": platform.platform(), "cpus": os.cpu_count(), "build": json.loads(subprocess.run([BINARY, "--build-info"], capture_output=True, text=True).stdout), "model": a.model, "figures": figures}
    (RESULTS / f"{run_id()}.json").write_text(json.dumps(record, indent=2))
    bad = 0
    print(f"{'target':<38} {'measured':>10} {'required':>10} {'of it':>7} {'baseline':>10} {'ratio':>6}")
    for name, value in figures.items():
        floor = name in FLOORS
        need = FLOORS.get(name, REQUIRED.get(name))
        missed = value < need if floor else value > need
        was = baseline.get(name)
        worse = was is not None and name.endswith("ms") and value > was * 1.1 and value > was + 0.05 * need
        bad += missed or worse
        print(f"{name:<38} {value:>10.2f} {('>' if floor else '<') + str(need):>10} {value / need:>7.2f} {'-' if was is None else format(was, '.2f'):>10} {'-' if was is None else format(value / was, '.2f'):>6}{'  MISSED' if missed else ''}{'  WORSE' if worse else ''}")
    if a.save or not baseline:
        path.write_text(json.dumps(record, indent=2))
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
