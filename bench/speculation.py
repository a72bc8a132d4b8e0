#!/usr/bin/env python3
"""Guessed tokens (--speculate ngram) beside none: seconds per token of the same answers, two workers in turns.

Usage: bench/speculation.py MODEL.gguf [--threads N] [--turns N] [--tokens N]. Prints, for each kind of text, the ratio of the medians (above 1: guesses
gain), what was guessed and what of it was right. `edit`: a file of this repository is written again with a renamed variable, greedily. `story`: free
text at temperature 1. `letters`: random letters, where three in a row have nearly always come before and what followed says nothing. Ends with 1 when `edit` gains
less than 1.6, or another one loses more than 3 %."""
import argparse
import pathlib
import statistics
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/worker"))
from harness import Worker  # noqa: E402

LEAST = {"edit": 1.6, "story": 0.97, "letters": 0.97}


def texts():
    lines = (ROOT / "src/engine/guide.cc").read_text().splitlines()[:60]
    source = "\n".join(lines)
    head = "\n".join(lines[:6]).replace("matcher_", "place_")
    state, letters = 1, []
    for _ in range(900):
        state = (state * 1103515245 + 12345) % 2**31
        letters.append("abcdefgh"[state >> 16 & 7])
    yield "edit", {"prompt": f"A C++ file:\n\n```cpp\n{source}\n```\n\nThe same file, with 'matcher_' renamed to 'place_':\n\n```cpp\n{head}\n", "temperature": 0}
    yield "story", {"prompt": "Once upon a time there was a lighthouse keeper who", "temperature": 1}
    yield "letters", {"prompt": " ".join(letters), "temperature": 2, "structured_outputs": {"regex": "( [a-h]){2000}"}}


def ask(worker, request, tokens):
    """Milliseconds per token after the first, the text, tokens guessed and right."""
    events = worker.generate(**request, max_tokens=tokens, seed=1, ignore_eos=True)
    end = events[-1][2]
    assert end["type"] == "end", end
    return end["decode_time_ms"] / max(end["tokens_out"] - 1, 1), "".join(e[2]["t"] for e in events if e[1] == "token"), end["drafted_tokens"], end["accepted_tokens"]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("model")
    arguments.add_argument("--threads", default="2")
    arguments.add_argument("--turns", type=int, default=5)
    arguments.add_argument("--tokens", type=int, default=256)
    a = arguments.parse_args()
    missed = False
    with Worker("--speculate", "off", "--threads", a.threads, model=a.model) as plain, Worker("--threads", a.threads, model=a.model) as guessing:
        for name, request in texts():
            times = {plain: [], guessing: []}
            for turn in range(a.turns):
                found = {w: ask(w, request, a.tokens) for w in ((plain, guessing) if turn % 2 else (guessing, plain))}
                assert found[plain][1] == found[guessing][1], f"{name}: the answers differ"
                for w, f in found.items():
                    times[w].append(f[0])
            without, with_guesses = (statistics.median(times[w]) for w in (plain, guessing))
            ratio, (_, _, drafted, accepted) = without / with_guesses, found[guessing]
            print(f"{name:8} {1000 / without:8.1f} tokens/s alone {1000 / with_guesses:8.1f} with guesses: {ratio:5.2f} times; {drafted} guessed, {accepted} right of {a.tokens}")
            missed = missed or ratio < LEAST[name]
    sys.exit(missed)


if __name__ == "__main__":
    main()
