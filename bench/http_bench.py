#!/usr/bin/env python3
"""What HTTP costs: the same generations through a worker's API and without it, taken in turns; medians and ratios.

1 client: tokens/s while decoding through the stream against `generate` in-process. 8 clients: all output tokens over the whole
time, through HTTP against the same 8 in one in-process batch (`generate --batch 8`). First token: the time to it through HTTP, less
the engine's own prefill time in the same answer.
Usage: bench/http_bench.py [MODEL] [--rounds N]; without MODEL, builtin:haiku. LLORCH_BIN: folder of the binaries.
"""
import argparse
import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
BIN = pathlib.Path(os.environ.get("LLORCH_BIN", ROOT / "build/release/bin"))
WORKER = str(BIN / "llorch-worker-cpu")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def stream(port, prompt, tokens, out):
    """One native dual call; appends (start, first token, last token, end event)."""
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    start = time.perf_counter()
    c.request("POST", "/v1/inference", json.dumps({"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "cache_salt": str(start)}), {"Content-Type": "application/json"})
    url = json.loads(c.getresponse().read())["sse_url"]
    c.request("GET", url)
    answer = c.getresponse()
    first = last = 0
    end = None
    while line := answer.readline():
        if line.startswith(b"event: token"):
            last = time.perf_counter()
            first = first or last
        elif line.startswith(b'data: {"type":"end"'):
            end = json.loads(line[6:])
    out.append((start, first, last, end))
    c.close()


def over_http(port, prompt, tokens, clients):
    out = []
    threads = [threading.Thread(target=stream, args=(port, prompt, tokens, out)) for _ in range(clients)]
    start = time.perf_counter()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return clients * tokens / (max(x[2] for x in out) - start), out


def in_process(model, prompt, tokens, batch, threads):
    r = subprocess.run([WORKER, "generate", "-m", model, "-p", prompt, "-n", str(tokens), "--ignore-eos", "--json", "--batch", str(batch), "--threads", str(threads)], capture_output=True, text=True, check=True)
    return json.loads(r.stdout)


def client_cost(port):
    """Milliseconds that this client and the socket need for two requests that cost the worker nothing."""
    times = []
    for _ in range(20):
        start = time.perf_counter()
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for _ in range(2):
            c.request("GET", "/health")
            c.getresponse().read()
        times.append((time.perf_counter() - start) * 1000)
        c.close()
    return statistics.median(times)


def first_token_sum(port):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    c.request("GET", "/metrics")
    text = c.getresponse().read().decode()
    return float(next(line for line in text.splitlines() if line.startswith("llorch_worker_latency_first_token_ms_sum")).split()[1])


@contextlib.contextmanager
def served(model, threads):
    """A worker that is ready, and its port."""
    port = free_port()
    worker = subprocess.Popen([WORKER, "serve", "-m", model, "--local-mode", "--port", str(port), "--threads", str(threads), "--log-format", "json"], stderr=subprocess.DEVNULL)
    try:
        for _ in range(3000):
            try:
                c = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                c.request("GET", "/health")
                if c.getresponse().status == 200:
                    break
            except OSError:
                pass
            time.sleep(0.02)
        yield worker, port
    finally:
        os.kill(worker.pid, signal.SIGCONT)
        worker.terminate()
        worker.wait()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model", nargs="?", default="builtin:haiku")
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--tokens", type=int, default=128)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    a = p.parse_args()
    prompt = "<|user|>Write a haiku about the sea<|assistant|>"
    with served(a.model, a.threads) as (worker, port):
        rows = {1: ([], []), 8: ([], [])}
        added, inside, cost = [], [], client_cost(port)
        for _ in range(a.rounds):
            for clients, (http_rates, own_rates) in rows.items():
                os.kill(worker.pid, signal.SIGSTOP)  # its threads must not disturb the other side
                own_rates.append(in_process(a.model, prompt, a.tokens, clients, a.threads)["tok_s"])
                os.kill(worker.pid, signal.SIGCONT)
                stream(port, prompt, 4, [])  # the worker's threads are awake again
                before = first_token_sum(port)
                rate, out = over_http(port, prompt, a.tokens, clients)
                http_rates.append(rate)
                if clients == 1:
                    start, first, _, end = out[0]
                    added.append((first - start) * 1000 - end["prefill_time_ms"])
                    inside.append(first_token_sum(port) - before - end["prefill_time_ms"])
        for clients, (http_rates, own_rates) in rows.items():
            ratio = statistics.median(h / o for h, o in zip(http_rates, own_rates))
            print(f"{a.model}, {clients} client{'s' * (clients > 1)}: http {statistics.median(http_rates):.1f} tok/s, in-process {statistics.median(own_rates):.1f} tok/s, ratio {ratio:.3f}")
        print(f"first token, beyond the prefill itself: {statistics.median(inside):.2f} ms in the worker (request read to token handed to the socket), {statistics.median(added):.2f} ms at the client, of which its own two requests cost {cost:.2f} ms")


if __name__ == "__main__":
    main()
