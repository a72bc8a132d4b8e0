#!/usr/bin/env python3
"""The validation checklist (T-13): every requirement with its state, the tests that show it, and how those last ended here.

checklist.py            checks docs/requirements.tsv and prints what is outstanding, in the order of work
checklist.py --all      every requirement
A requirement that is missing from the list, a path that does not exist, a state without its reason: exit 1."""
import collections
import json
import os
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
STATES = ("met", "part", "open", "later")
# Loading, generation, streaming, real models, libraries, optimisation.
ORDER = "EWJPSOHQKTU"


def read(path):
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.startswith("#"):
            cells = line.split("\t")
            rows.append((number, *cells) if len(cells) == 4 else (number, line, "", "", ""))
    return rows


def flaws(rows, root, known):
    """What is wrong with the list; `known`: the ids of the requirements, or nothing where they are not at hand."""
    seen = collections.Counter(row[1] for row in rows)
    for number, name, state, where, note in rows:
        at = f"requirements.tsv:{number}: {name}"
        if not re.fullmatch(r"[A-Z]-\d\d", name) or state not in STATES:
            yield f"{at}: expected id, one of {'/'.join(STATES)}, paths, note, with tabs between"
        if seen[name] > 1:
            yield f"{at} stands more than once"
        if state == "met" and not where:
            yield f"{at} is met, but nothing is named that shows it"
        if state in ("part", "open") and not note:
            yield f"{at} does not say what is missing"
        for path in where.split():
            if not (root / path).exists():
                yield f"{at}: {path} does not exist"
    if known:
        for name in sorted(known - set(seen)):
            yield f"{name} is a requirement, but not in the list"
        for name in sorted(set(seen) - known):
            yield f"{name} is in the list, but no requirement"


def last_results(root):
    """Path of a test -> "passed" or "FAILED", from what the last runs left behind."""
    ended = {}
    log = root / "build/release/Testing/Temporary/LastTest.log"
    if log.exists():
        for name, verdict in re.findall(r"Testing: (\S+)\n.*?\nTest (Passed|Failed)", log.read_text(errors="replace"), re.S):
            ended[name] = "passed" if verdict == "Passed" else "FAILED"
    results = {}
    for path in root.rglob("*_test.cc"):
        parts = path.relative_to(root).parts
        test = {"src": parts[1], "apps": f"app_{parts[1]}", "tests": parts[-1].removesuffix("_test.cc")}.get(parts[0])
        if test in ended:
            results["/".join(parts)] = ended[test]
    for path in (root / "tests").glob("*/*_test.py"):
        runs = sorted((root / ".test-results" / path.stem).glob("*/metadata.json"), key=os.path.getmtime)
        if runs:
            results[str(path.relative_to(root))] = "passed" if json.loads(runs[-1].read_text())["ok"] else "FAILED"
    return results


def main():
    rows = read(ROOT / "docs/requirements.tsv")
    source = pathlib.Path(os.environ.get("LLORCH_TEST_DATA", ROOT.parent / "shared")) / "design/REQUIREMENTS.md"
    known = set(re.findall(r"\*\*([A-Z]-\d\d)\b", source.read_text())) if source.exists() else set()
    wrong = list(flaws(rows, ROOT, known))
    for flaw in wrong:
        print(flaw)
    if not known:
        print("not run: the requirements themselves are not at hand, so that a missing one is not seen")
    results = last_results(ROOT)
    rows.sort(key=lambda r: (ORDER.find(r[1][:1]), r[1]))
    for _, name, state, where, note in rows:
        if "--all" in sys.argv or state in ("part", "open"):
            print(f"{name}  {state:5}  {note}" + "".join(f"\n              {p}: {results.get(p, 'no result here')}" for p in where.split()))
    shown = [p for r in rows if r[2] == "met" for p in r[3].split()]
    failed = sorted({p for p in shown if results.get(p) == "FAILED"})
    count = collections.Counter(r[2] for r in rows)
    print(f"{len(rows)} requirements: " + ", ".join(f"{count[s]} {s}" for s in STATES) + f"; last results at hand for {sum(p in results for p in set(shown))} of {len(set(shown))} files that show one" + (f"; FAILED: {', '.join(failed)}" if failed else ""))
    sys.exit(bool(wrong or failed))


if __name__ == "__main__":
    main()
