#!/usr/bin/env python3
"""Speeds of random-weight models of real shapes, as fractions of what this machine can do, next to what is required.

bench/models.py [--shapes a,b] [--types a,b] [--threads 1,2] [--repeats 3] [--depth 2048] [--table FILE] [--discard]
Models are made once, in build/models. `llorch-worker-cpu bench` measures the roofline itself; a fraction is of the best that the runs over one model saw.
--table appends a line of all figures of a model to FILE as it is measured; --discard removes a model after that: all forty take nearly 60 GB.
"""
import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading

from http_bench import served, stream

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = ROOT / "build/release/bin"
PLAIN = ("F16", "BF16", "F32")
CLIENT_TOKENS = 128, 64
CONTEXTS = {"gpt2-124m": 1024, "qwen2.5-0.5b": 32768, "tinyllama-1.1b": 2048, "llama3.2-1b": 131072, "phi-3-mini": 4096}


def model(shape, kind):
    """The file of a shape and format; made when it is not there."""
    path = ROOT / "build/models" / f"{shape}-{kind}.gguf"
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        subprocess.run([BIN / "llorch-gguf", "synth", "--quick", "--shape", shape, "--type", kind, path], check=True, stdout=subprocess.DEVNULL)
    return path


COLUMNS = {
    "P512": "prefill 512", "long": r"prefill \d", "dec": "decode,", "d/d0": "decode .* of depth 0", "d/bw": "decode .* of .weights", "b8": "8 sequences", "b32": "32 sequences", "scale": "prefill,", "d2": "threads, decode",
    "clients": "8 clients,", "first": "8 clients:", "AVX2": "AVX2", "load": "load", "second": "second", "step": "a step", "mem": "peak memory",
}  # a column of --table: the beginning of the rows that it holds; the first that fits


def table_line(shape, kind, figures):
    """`figures`: (threads, what, reached, required). Figures of one and of two threads are divided by a stroke."""
    cells = {name: [] for name in COLUMNS}
    for _, what, reached, _ in figures:
        cells[next(name for name, start in COLUMNS.items() if re.match(start, what))].append(f"{reached:.2f}")
    return f"| {shape} {kind} | " + " | ".join("/".join(c) or "-" for c in cells.values()) + " |\n"


def required_prefill(shape, kind):
    return 0.65 if kind in PLAIN else 0.50 if "0.5b" in shape else 0.60


def fraction(result, name, mine, reports):
    """Of the best roofline of its number of threads that `reports` measured; `mine` measured the result."""
    peaks = [next(r[name] for r in report["rooflines"] if r["threads"] == result["threads"]) for report in (mine, *reports)]
    return result["roofline_fraction"] * peaks[0] / max(peaks)


def rows(shape, kind, core, heavy, far, avx2, step, second, clients):
    """(threads, what, reached, required) of the reports of one model; negative: at most."""

    def result(report, test, batch, t):
        return next(r for r in report["results"] if (r["test"], r["batch"], r["threads"]) == (test, batch, t))

    def speed(*which):
        return result(*which)["tok_s"]["median"]

    name, peak = ("int8_gops", "int8 dot") if kind not in PLAIN else ("bf16_gflops", "bf16 dot") if core["roofline"]["bf16_gflops"] > 0 else ("fp32_gflops", "fp32")
    threads = sorted({r["threads"] for r in core["results"]})
    deep = max(r["depth"] for r in far["results"])
    for t in threads:
        one, prompt, distant = speed(core, "decode", 1, t), speed(core, "prefill", 1, t), result(far, "decode", 1, t)
        yield t, f"prefill 512, {prompt:.0f} tok/s, of {peak} peak", fraction(result(core, "prefill", 1, t), name, core, [far]), required_prefill(shape, kind)
        yield t, f"prefill {deep}, of 512", speed(far, "prefill", 1, t) / prompt, 0.85
        yield t, f"decode, {one:.1f} tok/s, of read bandwidth", fraction(result(core, "decode", 1, t), "read_gb_s", core, [far]), 0.92
        yield t, f"decode at depth {deep}, of depth 0", distant["tok_s"]["median"] / one, 0.92
        yield t, f"decode at depth {deep}, of (weights + KV) / bandwidth", fraction(distant, "read_gb_s", far, [core]), 0.90
        yield t, "8 sequences, times one", speed(core, "decode", 8, t) / one, 5.0
        same = result(heavy, "prefill", 1, t)["operations"] / result(heavy, "decode", 32, t)["operations"]  # every sequence needs the head, a prompt once
        yield t, f"32 sequences, {speed(heavy, 'decode', 32, t):.0f} tok/s, of a prefill of 32 ({same:.2f}: as many operations)", speed(heavy, "decode", 32, t) / speed(heavy, "prefill", 1, t), 1.0
    if len(threads) > 1:
        one, two = threads[0], threads[-1]
        yield two, f"prefill, {two} threads, times {one}", speed(core, "prefill", 1, two) / speed(core, "prefill", 1, one), 1.9
        shares = [fraction(result(core, "decode", 1, t), "read_gb_s", core, [far]) for t in (one, two)]
        yield two, f"threads, decode: {two} times {one}, of what bandwidth gains", shares[1] / shares[0], 1.0
    t = threads[-1]
    yield t, f"8 clients, {CLIENT_TOKENS[0]} in, {CLIENT_TOKENS[1]} out: output rate, times one client", clients["times"], 4.0
    yield t, f"8 clients: worst first token {clients['worst']:.2f} s, of prefilling all prompts", clients["worst"] / clients["prefill"], -1.2
    if avx2:
        yield t, "AVX2: prefill 512, of its own int8 dot peak", avx2["results"][0]["roofline_fraction"], 0.85
    yield t, f"load to first token, {core['load_s']:.2f} s: seconds for 1 GB", core["load_s"] / (core["file_bytes"] / 1e9), -0.6
    yield t, f"second start, weights packed before, {second['load_s']:.2f} s: seconds for 1 GB", second["load_s"] / (core["file_bytes"] / 1e9), -0.2
    share = 100 * next(r["outside_operations"] for r in step["results"] if r["test"] == "step")
    yield t, f"a step outside the model's operations, % of {step['results'][-1]['tokens']} sampled tokens", share, -1.0
    yield t, "peak memory less KV, times the file", (far["peak_rss_bytes"] - far["kv_bytes"]) / far["file_bytes"], -1.08


def measure(shape, kind, *flags):
    out = subprocess.run([BIN / "llorch-worker-cpu", "bench", "-m", model(shape, kind), "--json", *flags], capture_output=True, text=True)
    if out.returncode:
        sys.exit(f"{shape} {kind}: {out.stdout}{out.stderr}")
    return json.loads(out.stdout)


def second_start(shape, kind, threads):
    """The report of a start that finds packed weights; they are written while a run before it computes."""
    with tempfile.TemporaryDirectory(dir=ROOT / "build/models") as folder:
        for tokens in ("200", "1", "1"):
            report = measure(shape, kind, "-p", "1", "-n", tokens, "-d", "0", "-b", "1", "-t", threads, "-r", "1", "--no-roofline", "--packed-cache", folder)
        assert list(pathlib.Path(folder).glob("*.panels")), "nothing was written"
    return report


def serve(shape, kind, threads):
    """Eight clients at once against one; every prompt different from its first letter on (a letter is a token here)."""
    given = CLIENT_TOKENS[1]

    def run(port, clients, out):
        each = [threading.Thread(target=stream, args=(port, f"{chr(65 + i)}, " + "sea " * 31, given, out)) for i in range(clients)]
        for t in each:
            t.start()
        for t in each:
            t.join()
        return clients * given / (max(x[2] for x in out) - min(x[0] for x in out))

    with served(model(shape, kind), threads) as (_, port):
        stream(port, "warm", 4, [])
        out, alone = [], []
        one = statistics.median(run(port, 1, alone) for _ in range(3))
        eight = run(port, 8, out)
        assert all(abs(x[3]["tokens_in"] - CLIENT_TOKENS[0]) < 8 for x in out), out[0][3]
        return {"times": eight / one, "worst": max(first - start for start, first, _, _ in out), "prefill": 8 * statistics.median(x[3]["prefill_time_ms"] for x in alone) / 1000}


def report(shape, kind, a):
    most = CONTEXTS[shape]
    deep = min(a.depth, most - 64)
    few = a.threads.split(",")[-1]
    core = measure(shape, kind, "-p", "512", "-n", "32", "-d", "0", "-b", "1,8", "-t", a.threads, "-r", a.repeats)
    heavy = measure(shape, kind, "-p", "32", "-n", "8", "-d", "0", "-b", "32", "-t", a.threads, "-r", a.repeats, "--no-roofline")
    far = measure(shape, kind, "-p", "0", "-n", "16", "-d", str(deep), "-b", "1", "-t", a.threads, "-r", a.repeats)
    avx2 = None if kind in PLAIN else measure(shape, kind, "-p", "512", "-n", "0", "-d", "0", "-b", "1", "-t", few, "-r", a.repeats, "--isa", "avx2")
    step = measure(shape, kind, "-p", "1", "-n", "100", "-d", "0", "-b", "1", "-t", few, "-r", "1", "--profile", "--no-roofline")
    return rows(shape, kind, core, heavy, far, avx2, step, second_start(shape, kind, few), serve(shape, kind, few))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--shapes", default=",".join(CONTEXTS))
    p.add_argument("--types", default="Q4_0,Q4_K_M,Q5_K_M,Q6_K,Q8_0,MXFP4,F16,BF16")
    p.add_argument("--threads", default="1,2")
    p.add_argument("--repeats", default="3")
    p.add_argument("--depth", type=int, default=2048)
    p.add_argument("--table")
    p.add_argument("--discard", action="store_true")
    a = p.parse_args()
    print(f"{'model':16} {'format':7} {'thr':>3}  {'what':72} {'reached':>8} {'required':>9}")
    missed = total = 0
    for shape in a.shapes.split(","):
        for kind in a.types.split(","):
            figures = list(report(shape, kind, a))
            for t, what, reached, required in figures:
                good = reached <= -required if required < 0 else reached >= required
                missed, total = missed + (not good), total + 1
                print(f"{shape:16} {kind:7} {t:3}  {what:72} {reached:8.2f} {('<= ' if required < 0 else '>= ') + format(abs(required), '.2f'):>9} {'' if good else 'short'}", flush=True)
            if a.table:
                with open(a.table, "a") as out:
                    out.write(table_line(shape, kind, figures))
            if a.discard:
                model(shape, kind).unlink()
    print(f"{missed} of {total} rows fall short")


if __name__ == "__main__":
    main()
