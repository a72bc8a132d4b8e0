#!/usr/bin/env python3
"""What a schema costs while a model generates: tokens per second with one and without, taken in turns; medians and ratios.

Three questions of the same prompt and length: no schema; a schema that forces nothing (a long string, `masked`); one whose names are forced
(`forced`: an object of 12 named integers). One stream alone, then eight at once.
Usage: bench/structure.py MODEL [--rounds N] [--tokens N]. LLORCH_BIN: folder of the binaries. Ends with 1 when `masked` is below 0.95 of none, or
`forced` below it.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
BIN = pathlib.Path(os.environ.get("LLORCH_BIN", ROOT / "build/release/bin"))
os.environ["LLORCH_WORKER"] = str(BIN / "llorch-worker-cpu")
sys.path.insert(0, str(ROOT / "tests/worker"))
from harness import Worker  # noqa: E402

NAMES = ["temperature", "pressure", "humidity", "altitude", "velocity", "direction", "visibility", "precipitation", "illumination", "radiation", "concentration", "acceleration"]
FORCED = {"type": "object", "properties": {n: {"type": "integer", "minimum": 0, "maximum": 99999} for n in NAMES}, "required": NAMES, "additionalProperties": False}


def ask(w, fields, tokens, seed):
    body = {"prompt": "Report of the weather station:\n", "max_tokens": tokens, "temperature": 1, "seed": seed, **fields}
    events = w.generate(**body)
    end = events[-1][2]
    assert events[-1][1] == "end", events[-1]
    return end["tokens_out"], (end["prefill_time_ms"] + end["decode_time_ms"]) / 1000


def rate(w, fields, tokens, streams, seed):
    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(streams) as pool:
        done = list(pool.map(lambda i: ask(w, fields, tokens, seed + i), range(streams)))
    return sum(n for n, _ in done) / (done[0][1] if streams == 1 else time.perf_counter() - began)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--tokens", type=int, default=100)
    a = p.parse_args()
    kinds = {"none": {"ignore_eos": True}, "masked": {"guided_json": {"type": "string", "minLength": 2000}}, "forced": {"structured_outputs": {"json": FORCED, "disable_any_whitespace": True}}}
    bad = False
    with Worker("--max-batch", "8", "--ctx", "1024", model=a.model) as w:
        for streams in (1, 8):
            rates = {k: [] for k in kinds}
            for round_ in range(a.rounds + 1):
                for k, fields in kinds.items():
                    r = rate(w, fields, a.tokens, streams, 10 * round_)
                    if round_:  # the first compiles and warms
                        rates[k].append(r)
            median = {k: statistics.median(v) for k, v in rates.items()}
            ratio = {k: statistics.median(x / y for x, y in zip(v, rates["none"])) for k, v in rates.items()}
            print(json.dumps({"streams": streams, "tokens_per_s": {k: round(v, 2) for k, v in median.items()}, "of_none": {k: round(v, 3) for k, v in ratio.items()}}), flush=True)
            bad |= ratio["masked"] < 0.95 or ratio["forced"] < 0.95
    return bad


if __name__ == "__main__":
    sys.exit(main())
