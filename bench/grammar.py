#!/usr/bin/env python3
"""Masks and compiling beside llguidance and xgrammar: the same schemas, texts, tokens and vocabulary, CPU time of one thread.

Usage: bench/grammar.py VOCAB.gguf [--every N] [--offset N] [--xgrammar]. VOCAB has a byte-level BPE vocabulary. Needs `pip install llguidance
xgrammar gguf jsonschema` (a virtual environment outside of this repository) and LLORCH_TEST_DATA/jsonschema. Only schemas that both engines compile are compared, along
the instances that both accept. Ends with 1 when the median mask takes over 0.5, the 99th percentile over 0.6 of llguidance's time, a mask
over 5 ms, or the median compilation more than llguidance's.
"""
import argparse
import json
import pathlib
import sys
import time

import gguf
import jsonschema
import llguidance
import numpy

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/worker"))
from grammar_test import CORPUS, run_cases, spelled  # noqa: E402
from schema_cases import Order  # noqa: E402


def byte_alphabet():
    """GPT-2's: printable bytes stand for themselves, the others for characters from U+0100 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, extra = {chr(b): b for b in plain}, 0
    for b in range(256):
        if b not in plain:
            table[chr(256 + extra)] = b
            extra += 1
    return table


def tokens_of(path):
    fields = gguf.GGUFReader(path).fields
    alphabet = byte_alphabet()
    kinds = [int(fields["tokenizer.ggml.token_type"].parts[i][0]) for i in fields["tokenizer.ggml.token_type"].data]
    texts = [bytes(fields["tokenizer.ggml.tokens"].parts[i]).decode() for i in fields["tokenizer.ggml.tokens"].data]
    end = int(fields["tokenizer.ggml.eos_token_id"].parts[-1][0])
    special = [i for i, kind in enumerate(kinds) if kind != 1]
    tokens = [bytes(alphabet[c] for c in t) if kind == 1 else b"\xff<%d>" % i for i, (t, kind) in enumerate(zip(texts, kinds))]
    return tokens, end, special


class Llguidance:
    def __init__(self, tokens, end, special):
        class Wrapped:
            def __init__(self):
                self.eos_token_id, self.bos_token_id, self.unk_token_id = end, None, None
                self.tokens, self.special_token_ids = tokens, special

            def __call__(self, text):
                return []

        self.tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(Wrapped()))
        self.bits = numpy.zeros((len(tokens) + 31) // 32, dtype=numpy.int32)

    def compile(self, schema):
        try:
            self.grammar = llguidance.LLMatcher.grammar_from_json_schema(schema, defaults={"whitespace_flexible": True})
            return not llguidance.LLMatcher(self.tokenizer, self.grammar, log_level=0).get_error()
        except ValueError:
            return False

    def masks(self, ids):
        matcher, times = llguidance.LLMatcher(self.tokenizer, self.grammar, log_level=0), []
        for i in ids:
            before = time.thread_time_ns()
            matcher.unsafe_compute_mask_ptr(self.bits.ctypes.data, self.bits.nbytes)
            times.append(time.thread_time_ns() - before)
            if not matcher.consume_token(i):
                return None
        return times


class Xgrammar:
    def __init__(self, tokens, end, special):
        import xgrammar
        self.module = xgrammar
        info = xgrammar.TokenizerInfo(tokens, vocab_type=xgrammar.VocabType.RAW, stop_token_ids=[end])
        self.compiler = xgrammar.GrammarCompiler(info, max_threads=1, cache_enabled=False)
        self.bits = xgrammar.allocate_token_bitmask(1, len(tokens))

    def compile(self, schema):
        try:
            self.grammar = self.compiler.compile_json_schema(schema, strict_mode=False)
            return True
        except Exception:
            return False

    def masks(self, ids):
        matcher, times = self.module.GrammarMatcher(self.grammar), []
        for i in ids:
            before = time.thread_time_ns()
            matcher.fill_next_token_bitmask(self.bits)
            times.append(time.thread_time_ns() - before)
            if not matcher.accept_token(i):
                return None
        return times


def quantile(values, part):
    return sorted(values)[int(part * (len(values) - 1))] / 1000


def compare(other, cases, answers):
    ours, theirs, our_compile, their_compile = [], [], [], []
    for (schema, _), answer in zip(cases, answers):
        before = time.thread_time_ns()
        good = other.compile(json.dumps(schema))
        took = time.thread_time_ns() - before
        if not good or "refused" in answer:
            continue
        our_compile.append(answer["compile_ns"])
        their_compile.append(took)
        for ids, times in zip(answer["tokens"], answer["mask_ns"]):
            if len(ids) == len(times) and (their_times := other.masks(ids)):
                ours += times
                theirs += their_times
    return (ours, theirs), (our_compile, their_compile)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("vocab")
    arguments.add_argument("--every", type=int, default=8)
    arguments.add_argument("--offset", type=int, default=0)
    arguments.add_argument("--xgrammar", action="store_true", help="beside that as well: it takes minutes to compile")
    a = arguments.parse_args()
    cases = []
    for line in list(CORPUS.open())[a.offset::a.every]:
        entry = json.loads(line)
        order = Order(entry["schema"], jsonschema.validators.validator_for(entry["schema"], default=jsonschema.Draft202012Validator))
        cases.append((entry["schema"], [spelled(order.put(t["data"])) for t in entry["tests"] if t["valid"]]))
    answers = run_cases(cases, "--vocab", a.vocab, "--bench")
    vocabulary = tokens_of(a.vocab)
    missed = False
    for other in [Llguidance] + [Xgrammar] * a.xgrammar:
        masks, compiled = compare(other(*vocabulary), cases, answers)
        print(f"{other.__name__}: {len(compiled[0])} of {len(cases)} schemas, {len(masks[0])} masks, {len(vocabulary[0])} tokens; microseconds")
        for name, (ours, theirs) in (("mask", masks), ("compile", compiled)):
            for label, values in (("ours", ours), (other.__name__.lower(), theirs)):
                print(f"  {name:8} {label:11} median {quantile(values, .5):9.2f}  p99 {quantile(values, .99):10.2f}  worst {quantile(values, 1):11.1f}")
        if other is Llguidance:
            ratios = quantile(masks[0], .5) / quantile(masks[1], .5), quantile(masks[0], .99) / quantile(masks[1], .99), quantile(compiled[0], .5) / quantile(compiled[1], .5)
            print("  of llguidance's: median mask {:.2f}, p99 mask {:.2f}, median compile {:.2f}".format(*ratios))
            missed = ratios[0] > 0.5 or ratios[1] > 0.6 or ratios[2] > 1 or quantile(masks[0], 1) > 5000
    sys.exit(missed)


if __name__ == "__main__":
    main()
