"""Real models (`./dev models`) against Hugging Face transformers in float64 (tests/golden/real, tools/parity/export_real.py): tokens, logits,
greedy answers, perplexity, vectors. LLORCH_REAL_WHOLE=1 computes whole texts on the reference device, too (minutes)."""
import base64
import hashlib
import json
import math
import os
import pathlib
import struct
import subprocess
import tempfile
import unittest

import numpy

from harness import BINARY, KIND, ROOT, SANITIZED, Worker, main, not_run, peak_of

MODELS = pathlib.Path(os.environ.get("LLORCH_TEST_MODELS", ROOT / ".test-models"))
GOLDEN = ROOT / "tests/golden/real"
TEXT = GOLDEN / "text.txt"
WHOLE = os.environ.get("LLORCH_REAL_WHOLE") == "1"
# Of the largest logit: what the reference device may be off, which computes in float64 from the same weights, but keeps activations as floats.
EXACT = 1e-5
# Of norms: 0.5 to 0.64 % for each product with block formats (tests/golden_test.cc); 4 in each of 30 and 18 layers and the head, which add up
# like random errors: 5.5 %. Single logits are as far off on average; the bound of answers is three such deviations of two logits.
BLOCKS = 0.055
PERPLEXITY, PERPLEXITY_BLOCKS = 1e-3, 0.02
FIRST_TOKENS = 4  # of an answer on the reference device
GGUF = ("smollm2-135m-q4_1", "gemma3-270m-q4_k_m")


def worker(*arguments):
    r = subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True)
    if r.returncode:
        raise AssertionError(f"{arguments[0]}: {r.stderr}")
    return r.stdout


def truth_of(name, model):
    """The recorded truth, where the model is there and the one that it was made of."""
    if not model.exists():
        not_run(f"{model.name} is not there: ./dev models")
        return None
    truth = json.loads((GOLDEN / f"{name}.json").read_text())
    weights = model / "model.safetensors" if model.is_dir() else model
    with open(weights, "rb") as f:
        if hashlib.file_digest(f, "sha256").hexdigest() != truth["sha256"]:
            raise AssertionError(f"{weights} is another file than the recorded truth is of: ./dev models")
    return truth


def perplexity_of(losses):
    return math.exp(sum(losses) / len(losses))


class Perplexity(unittest.TestCase):
    def test_is_the_exponential_of_the_mean_loss(self):
        """On the model of the program itself: what `perplexity` says against what its logits say."""
        with tempfile.TemporaryDirectory() as d:
            text, out = pathlib.Path(d) / "text.txt", pathlib.Path(d) / "logits.npy"
            text.write_text(TEXT.read_text()[:200])
            ids = json.loads(worker("tokenize", "-m", "builtin:haiku", "--add-bos", "--file", text, "--json"))["ids"]
            worker("logits", "-m", "builtin:haiku", "--tokens", ",".join(map(str, ids)), "--out", out, "--kv-type", "f16")
            logits = numpy.load(out).astype(numpy.float64)
            losses = numpy.log(numpy.exp(logits).sum(-1))[:-1] - logits[numpy.arange(len(ids) - 1), ids[1:]]
            said = json.loads(worker("perplexity", "-m", "builtin:haiku", "--file", text, "--json"))
            self.assertEqual(said["tokens"], len(losses))
            self.assertAlmostEqual(said["perplexity"] / perplexity_of(losses), 1, delta=1e-6)


class Text(unittest.TestCase):
    """Language models in GGUF files: block formats, so that the default path computes with activations of 8 bits."""

    def each(self):
        for name in GGUF:
            model = MODELS / f"{name}.gguf"
            if truth := truth_of(name, model):
                yield name, model, truth

    def logits(self, model, ids, *flags):
        with tempfile.TemporaryDirectory() as d:
            worker("logits", "-m", model, "--tokens", ",".join(map(str, ids)), "--out", pathlib.Path(d) / "l.npy", *flags)
            return numpy.load(pathlib.Path(d) / "l.npy").astype(numpy.float64)

    def test_texts_become_the_same_tokens(self):
        for _, model, truth in self.each():
            said = json.loads(worker("tokenize", "-m", model, "--add-bos" if truth["add_bos"] else "--json", "--file", TEXT, "--json"))
            self.assertEqual(said["ids"], truth["text_ids"])
            for prompt in truth["prompts"]:
                flags = ["--parse-special"] + (["--add-bos"] if truth["add_bos"] else [])
                self.assertEqual(json.loads(worker("tokenize", "-m", model, *flags, "--text", prompt["prompt"], "--json"))["ids"], prompt["prompt_ids"])

    def test_the_reference_device_gives_the_same_logits(self):
        for name, model, truth in self.each():
            rows = truth["logits"] if WHOLE else truth["logits"][:2]
            logits = self.logits(model, truth["text_ids"][: 1 + max(r["position"] for r in rows)], "--isa", "reference")
            for row in rows:
                off = numpy.abs(logits[row["position"], :: truth["logits_every"]] - row["values"]).max() / row["largest"]
                print(f"{name}: position {row['position']}: {off:.1e} of the largest logit (bound {EXACT:.0e})")
                self.assertTrue(off <= EXACT, (row["position"], off))

    def test_the_default_path_gives_almost_the_same_logits(self):
        for name, model, truth in self.each():
            rows = truth["logits"] if WHOLE else truth["logits"][:3]
            logits = self.logits(model, truth["text_ids"][: 1 + max(r["position"] for r in rows)])
            off = [self.norm_of(logits[r["position"], :: truth["logits_every"]] - r["values"]) / self.norm_of(r["values"]) for r in rows]
            print(f"{name}: norm of the difference over that of the logits: {', '.join(f'{o:.1e}' for o in off)} (bound {BLOCKS})")
            self.assertTrue(all(o <= BLOCKS for o in off), off)

    @staticmethod
    def norm_of(values):
        return float(numpy.linalg.norm(numpy.asarray(values, dtype=numpy.float64)))

    def test_answers_are_the_same_as_far_as_margins_allow(self):
        for name, model, truth in self.each():
            deviation = BLOCKS * max(numpy.std(r["values"]) for r in truth["logits"])  # what all logits have in common chooses nothing
            allowed = 3 * math.sqrt(2) * deviation
            with Worker("--ctx", "512", model=model) as w:
                for prompt in truth["prompts"]:
                    body = {"model": model.name, "temperature": 0, "max_tokens": len(prompt["ids"])}
                    if "messages" in prompt:
                        answer = w.post("/v1/chat/completions", body | {"messages": prompt["messages"]})[2]["choices"][0]["message"]["content"]
                    else:
                        answer = w.post("/v1/completions", body | {"prompt": prompt["text"]})[2]["choices"][0]["text"]
                    same = len(os.path.commonprefix([answer, prompt["answer"]]))
                    margin = None if answer == prompt["answer"] else self.margin_at(prompt, same)
                    print(f"{name}: {answer!r}: {'equal' if margin is None else f'another from a margin of {margin} on (allowed: {allowed:.2f})'}")
                    self.assertTrue(margin is None or margin <= allowed, (answer, prompt["answer"]))

    def test_answers_on_the_reference_device_are_equal(self):
        for name, model, truth in self.each():
            for prompt in truth["prompts"] if WHOLE else truth["prompts"][:1]:
                count = len(prompt["ids"]) if WHOLE else min(FIRST_TOKENS, len(prompt["ids"]))
                said = json.loads(worker("generate", "-m", model, "-p", prompt["prompt"], "-n", count, "--isa", "reference", "--json"))
                want = [i for i in prompt["ids"][:count] if i != truth["eos"]]  # which is no token of an answer
                self.assertEqual(said["tokens"], want, (said["text"], prompt["answer"]))

    def margin_at(self, prompt, characters):
        """Of the token that the first other character belongs to."""
        return next(m for end, m in zip(prompt["ends"], prompt["margins"]) if end > characters)

    def test_perplexity(self):
        for name, model, truth in self.each():
            said = json.loads(worker("perplexity", "-m", model, "--file", TEXT, "--json"))
            off = said["perplexity"] / truth["perplexity"] - 1
            print(f"{name}: perplexity {said['perplexity']:.4f} over {said['tokens']} tokens, {off:+.1e} of {truth['perplexity']:.4f} ({said['isa']})")
            self.assertEqual(said["tokens"], len(truth["losses"]))
            self.assertLess(abs(off), PERPLEXITY_BLOCKS)
            with tempfile.TemporaryDirectory() as d:
                part = TEXT if WHOLE else pathlib.Path(d) / "part.txt"
                if not WHOLE:
                    part.write_text(TEXT.read_text()[:truth["part_characters"]])
                said = json.loads(worker("perplexity", "-m", model, "--file", part, "--isa", "reference", "--json"))
            want = perplexity_of(truth["losses"][: said["tokens"]])
            off = said["perplexity"] / want - 1
            print(f"{name}: perplexity {said['perplexity']:.4f} over {said['tokens']} tokens, {off:+.1e} of {want:.4f} (reference)")
            self.assertEqual(said["tokens"], len(truth["losses"]) if WHOLE else truth["part_tokens"])
            self.assertLess(abs(off), PERPLEXITY)


class Size(unittest.TestCase):
    def test_memory_is_foretold(self):
        """Within 2 %, with vocabularies of real size: 49,152 tokens with merges, 262,144 with scores."""
        if SANITIZED or KIND != "cpu":
            return not_run("under sanitizers and with a library of products a program's memory is another")
        for name in GGUF:
            model = MODELS / f"{name}.gguf"
            if not truth_of(name, model):
                continue
            with self.subTest(name), Worker("--ctx", "2048", "--max-batch", "1", model=model) as w:
                flags = ("--memory", "--context", "2048", "--sequences", "1", "--json")
                said = json.loads(subprocess.run([pathlib.Path(BINARY).with_name("llorch-gguf"), "inspect", model, *flags], capture_output=True, text=True, check=True).stdout)
                # A whole context, whose end is guessed: guesses have logits, too.
                sentence = w.post("/v1/tokenize", {"content": "The heron waits in the reeds. The wren sings in the hedge. "})[2]["tokens"]
                self.assertEqual(w.post("/v1/completions", {"model": model.name, "prompt": (sentence * 200)[:1960], "max_tokens": 80, "ignore_eos": True, "temperature": 0})[0], 200)
                self.assertGreater(w.metric("llorch_worker_tokens_accepted_total"), 40)
                peak = peak_of(w.process.pid)
            foretold = sum(said[k] for k in ("weight_bytes", "cache_bytes", "step_bytes", "program_bytes"))
            print(f"{name}: foretold {foretold / 2**20:.1f} MiB, taken {peak / 2**20:.1f} MiB, {foretold / peak - 1:+.1%}")
            self.assertLess(abs(foretold / peak - 1), 0.02, (said, peak))


class Vectors(unittest.TestCase):
    """all-MiniLM-L6-v2 as a folder of SafeTensors, through POST /v1/embeddings."""

    def vectors(self, truth, *flags):
        with Worker("--max-batch", "8", *flags, model=MODELS / "all-minilm-l6-v2") as w:
            texts = [t["text"] for t in truth["texts"]]
            status, _, answer = w.post("/v1/embeddings", {"model": "all-minilm-l6-v2", "input": texts, "encoding_format": "base64"})
            self.assertEqual(status, 200, answer)
            self.assertEqual(answer["usage"]["prompt_tokens"], sum(len(t["ids"]) for t in truth["texts"]))
            decoded = [base64.b64decode(d["embedding"]) for d in answer["data"]]
            status, _, long = w.post("/v1/embeddings", {"model": "all-minilm-l6-v2", "input": "word " * truth["max_tokens"]})
            self.assertEqual((status, long.get("error", {}).get("code")), (400, "context_length_exceeded"), long)
            self.assertEqual(w.post("/v1/embeddings", {"model": "all-minilm-l6-v2", "input": "word " * (truth["max_tokens"] - 2)})[0], 200)
        return numpy.array([struct.unpack(f"<{len(b) // 4}f", b) for b in decoded], dtype=numpy.float64), numpy.array([t["vector"] for t in truth["texts"]])

    def test_the_vectors_are_those_of_sentence_transformers(self):
        if truth := truth_of("all-minilm-l6-v2", MODELS / "all-minilm-l6-v2"):
            got, want = self.vectors(truth, "--isa", "reference", "--kv-type", "f32")
            print(f"all-minilm-l6-v2: largest difference on the reference device {numpy.abs(got - want).max():.1e} (bound 1e-5)")
            self.assertTrue(numpy.abs(got - want).max() <= 1e-5)
            got, want = self.vectors(truth)
            cosines = (got * want).sum(-1) / numpy.linalg.norm(want, axis=-1)
            print(f"all-minilm-l6-v2: smallest cosine on the default path 1 - {1 - cosines.min():.1e} (bound 0.9999)")
            self.assertTrue(cosines.min() >= 0.9999, cosines)
            numpy.testing.assert_allclose(numpy.linalg.norm(got, axis=-1), 1, atol=1e-6)


if __name__ == "__main__":
    main()
