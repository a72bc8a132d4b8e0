#!/usr/bin/env python3
"""Speeds of random-weight models of real shapes, as fractions of what this machine can do, next to what is required.

bench/models.py [--shapes a,b] [--types a,b] [--threads 1,2] [--repeats 3] [--depth 1024]
Models are made once, in build/models. Every row compares within one process: `llorch-worker-cpu bench` measures the roofline itself.
"""
import argparse
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = ROOT / "build/release/bin"
PLAIN = ("F16", "BF16", "F32")


def model(shape, kind):
    """The file of a shape and format; made when it is not there."""
    path = ROOT / "build/models" / f"{shape}-{kind}.gguf"
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        subprocess.run([BIN / "llorch-gguf", "synth", "--shape", shape, "--type", kind, path], check=True, stdout=subprocess.DEVNULL)
    return path


def required_prefill(shape, kind):
    return 0.65 if kind in PLAIN else 0.50 if "0.5b" in shape else 0.60


def rows(shape, kind, report):
    """(what, reached, required) of one report."""
    by = {(r["test"], r["depth"], r["batch"], r["threads"]): r for r in report["results"]}
    threads = sorted({r["threads"] for r in report["results"]})
    roof = report["roofline"]
    deep = max(r["depth"] for r in report["results"])
    for t in threads:
        prefill, decode = by[("prefill", 0, 1, t)], by[("decode", 0, 1, t)]
        eight, far = by[("decode", 0, 8, t)], by[("decode", deep, 1, t)]
        yield t, f"prefill 512, {prefill['tok_s']['median']:.0f} tok/s, of " + ("bf16 dot peak" if kind in PLAIN else "int8 dot peak"), prefill["roofline_fraction"], required_prefill(shape, kind)
        yield t, f"decode, {decode['tok_s']['median']:.1f} tok/s, of read bandwidth {roof['read_gb_s']:.0f} GB/s", decode["roofline_fraction"], 0.92
        yield t, f"decode at depth {deep}, of depth 0", far["tok_s"]["median"] / decode["tok_s"]["median"], 0.92
        yield t, f"decode at depth {deep}, of (weights + KV) / bandwidth", far["roofline_fraction"], 0.90
        yield t, "8 sequences, times one", eight["tok_s"]["median"] / decode["tok_s"]["median"], 5.0
    if len(threads) > 1:
        one, two = threads[0], threads[-1]
        yield two, f"prefill, {two} threads, times {one}", by[("prefill", 0, 1, two)]["tok_s"]["median"] / by[("prefill", 0, 1, one)]["tok_s"]["median"], 1.9
    yield threads[-1], f"load to first token, {report['load_s']:.2f} s: seconds for 1 GB", report["load_s"] / (report["file_bytes"] / 1e9), -0.6
    extra = report["peak_rss_bytes"] - report["kv_bytes"]
    yield threads[-1], "peak memory less KV, times the file", extra / report["file_bytes"], -1.08


def measure(shape, kind, a, *flags):
    out = subprocess.run([BIN / "llorch-worker-cpu", "bench", "-m", model(shape, kind), "-n", "32", "-t", a.threads, "-r", a.repeats, "--json", *flags], check=True, capture_output=True, text=True).stdout
    return json.loads(out)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--shapes", default="qwen2.5-0.5b,tinyllama-1.1b")
    p.add_argument("--types", default="Q4_0,Q4_K_M,Q5_K_M,Q6_K,Q8_0,MXFP4,F16,BF16")
    p.add_argument("--threads", default="1,2")
    p.add_argument("--repeats", default="3")
    p.add_argument("--depth", default="1024")
    a = p.parse_args()
    print(f"{'model':16} {'format':7} {'thr':>3}  {'what':62} {'reached':>8} {'required':>9}")
    missed = 0
    for shape in a.shapes.split(","):
        for kind in a.types.split(","):
            report = measure(shape, kind, a, "-p", "512", "-d", "0", "-b", "1,8")
            report["results"] += measure(shape, kind, a, "-p", "1", "-d", a.depth, "-b", "1")["results"]
            for t, what, reached, required in rows(shape, kind, report):
                good = reached <= -required if required < 0 else reached >= required
                missed += not good
                print(f"{shape:16} {kind:7} {t:3}  {what:62} {reached:8.2f} {('<= ' if required < 0 else '>= ') + format(abs(required), '.2f'):>9} {'' if good else 'short'}")
            sys.stdout.flush()
    print(f"{missed} rows fall short")


if __name__ == "__main__":
    main()
