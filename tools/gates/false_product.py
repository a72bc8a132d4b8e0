#!/usr/bin/env python3
"""Runs every suite of tests/worker and tests/colony with programs that do nothing but fail (T-51). Each must end red, and none of
their tests may pass. Usage: false_product.py [SUITE ...]"""
import concurrent.futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = ("llorch", "llorch-queen", "llorch-hive", "llorch-worker-cpu", "llorch-dev", "llorch-gguf")
SECONDS = 300  # all suites run at once: on two cores the slowest needs 110


def run(suite, programs, proof):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LLORCH_", "REQUIRE_"))}
    env |= {"LLORCH_BIN": str(programs), "LLORCH_WORKER": str(programs / "llorch-worker-cpu"), "LLORCH_PROOF_DIR": str(proof), "PYTHONPATH": f"{ROOT}/tests/colony:{ROOT}/tests/worker"}
    env |= {k: os.environ[k] for k in ("LLORCH_TEST_DATA",) if k in os.environ}
    try:
        r = subprocess.run([sys.executable, "-W", "ignore", suite], cwd=ROOT, env=env, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return [f"still runs after {SECONDS} s"]
    flaws = [] if r.returncode else ["ends green"]
    records = list(proof.glob("*/timings.json"))
    if not records:
        flaws.append("left no record: " + r.stderr[-300:])
    for test in (t for f in records for t in json.loads(f.read_text())):
        if test["ended"] == "passed":
            flaws.append(f"{test['test'].removeprefix('__main__.')} passes")
    return flaws


def main():
    suites = sys.argv[1:] or sorted(str(p.relative_to(ROOT)) for d in ("worker", "colony") for p in (ROOT / "tests" / d).glob("*_test.py"))
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ThreadPoolExecutor(len(suites)) as pool:
        programs = pathlib.Path(folder) / "bin"
        programs.mkdir()
        for name in PROGRAMS:
            (programs / name).symlink_to("/bin/false")
        ends = list(pool.map(lambda s: run(s, programs, pathlib.Path(folder) / s.replace("/", "-")), suites))
    for suite, flaws in zip(suites, ends):
        for flaw in flaws:
            print(f"{suite}, with /bin/false for a product: {flaw}")
    print(f"{len(suites)} suites without a product: {sum(not e for e in ends)} red as they must be, {sum(bool(e) for e in ends)} not")
    sys.exit(any(ends))


if __name__ == "__main__":
    main()
