"""Measures the haiku model through our own engine on requests that training never saw.

    python tools/haiku/measure.py [--worker build/release/bin/llorch-worker-cpu] [--model builtin:haiku] [--count 400] [--temperature 0]

Requests are held-out combinations of topic, phrasing and demanded word (grammar.py); syllables are counted by the CMU dictionary, and a word
that it does not know fails its haiku. Exits 1 below 95 % three lines, 90 % 5-7-5, 95 % with the demanded word exactly once.
"""
import argparse
import collections
import json
import subprocess
import sys

from grammar import MINUTES, Grammar, judge, prompt

BOUNDS = {"three_lines": 0.95, "syllables": 0.90, "word_once": 0.95}


def answer(a, request, seed):
    out = subprocess.run([a.worker, "generate", "-m", a.model, "-p", prompt(request), "-n", "100", "--temperature", str(a.temperature),
                          "--seed", str(seed), "--threads", "1", "--json"], capture_output=True, text=True, check=True)
    return json.loads(out.stdout)["text"]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--worker", default="build/release/bin/llorch-worker-cpu")
    p.add_argument("--model", default="builtin:haiku")
    p.add_argument("--count", type=int, default=400)
    p.add_argument("--temperature", type=float, default=0)
    p.add_argument("--seed", type=int, default=99)
    p.add_argument("--show", type=int, default=0, help="print this many failures")
    a = p.parse_args()
    grammar = Grammar(a.seed)
    totals, good = collections.Counter(), collections.Counter()
    for i in range(a.count):
        request, _, demanded = grammar.pair(held_out=True)
        text = answer(a, request, i)
        kind = ("no word" if demanded is None else "minute" if demanded in MINUTES else
                "lexicon word" if demanded in grammar.lexicon_words else "unseen word")
        verdict = judge(text, demanded)
        for check, ok in verdict.items():
            if ok is None:
                continue
            for group in ("all", kind):
                totals[check, group] += 1
                good[check, group] += ok
        if not all(v is not False for v in verdict.values()) and a.show > 0:
            a.show -= 1
            print(f"--- {request}\n{text}\n{verdict}")
    failed = False
    for check, bound in BOUNDS.items():
        rate = good[check, "all"] / totals[check, "all"]
        failed |= rate < bound
        groups = ", ".join(f"{g} {good[check, g]}/{totals[check, g]}" for (c, g) in sorted(totals) if c == check and g != "all")
        print(f"{check:12} {rate:6.1%} of {totals[check, 'all']} (required {bound:.0%})   {groups}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
