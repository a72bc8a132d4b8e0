"""POST /v1/rerank on rerankers of the zoo's bodies, against transformers in float64 (tests/golden/rerank.json, tools/parity/export_rerank.py)."""
import json
import math
import pathlib
import subprocess
import tempfile
import unittest

from harness import BINARY, DATA, ROOT, SANITIZED, Worker, main, not_run, peak_of
from rerankers import DOCUMENTS, QUERY, make

ZOO = DATA / "models/zoo"
TRUTH = json.loads((ROOT / "tests/golden/rerank.json").read_text())
KINDS = {"bert": ("bert", {}), "modernbert-cls": ("modernbert", {"classifier_pooling": "cls"}), "modernbert-mean": ("modernbert", {"classifier_pooling": "mean"})}
def isa():
    """The best kernels of this machine."""
    said = subprocess.run([BINARY, "bench", "-m", "builtin:haiku", "-p", "1", "-n", "1", "-r", "1", "--no-roofline", "--json"], capture_output=True, text=True)
    return json.loads(said.stdout)["isa"] if said.returncode == 0 else ""


# Of a logit: states of float activations are within 1e-6 of the largest one (tests/zoo_test.cc), and a head of this size makes up to 10 times that of it.
# Tiles multiply halves of floats: 1e-3 of the states there.
BOUND = 1e-2 if isa() == "amx" else 2e-5


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


if not ZOO.exists():
    not_run(f"rerankers are made of {ZOO}, which is not there")


@unittest.skipUnless(ZOO.exists(), "the test data is not there")
class Rerank(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)

    def folder(self, name, **more):
        kind, fields = KINDS[name]
        return make(ZOO, kind, pathlib.Path(self.scratch.name) / f"{name}-{len(more)}", **fields, **more)

    def convert(self, folder):
        out = folder.with_suffix(".gguf")
        subprocess.run([pathlib.Path(BINARY).with_name("llorch-gguf"), "convert", folder, out], check=True, capture_output=True)
        return out

    def logits(self, worker, model):
        status, _, body = worker.post("/v1/rerank", {"model": model.name, "query": QUERY, "documents": DOCUMENTS})
        self.assertEqual(status, 200, body)
        scores = {r["index"]: r["relevance_score"] for r in body["results"]}
        return body, [math.log(scores[i] / (1 - scores[i])) for i in range(len(DOCUMENTS))]

    def test_scores_are_those_of_transformers_from_both_forms(self):
        for name in KINDS:
            folder, truth = self.folder(name), TRUTH[name]
            for model in (folder, self.convert(folder)):
                for flags in (("--isa", "reference"), ()):
                    with self.subTest(f"{model.name} {flags}"), Worker("--kv-type", "f32", *flags, model=model) as w:
                        body, logits = self.logits(w, model)
                        off = max(abs(got - want["logits"][0]) for got, want in zip(logits, truth))
                        print(f"{model.name} {' '.join(flags)}: {off:.1e} off (bound {BOUND:.0e})")
                        self.assertLess(off, BOUND)
                        self.assertEqual([r["index"] for r in body["results"]], sorted(range(len(truth)), key=lambda i: -truth[i]["logits"][0]))
                        self.assertEqual(body["usage"]["total_tokens"], sum(t["tokens"] for t in truth))

    def test_fields(self):
        folder = self.folder("bert")
        with Worker("--kv-type", "f32", model=folder) as w:
            ask = {"model": folder.name, "query": QUERY, "documents": [DOCUMENTS[0], {"text": DOCUMENTS[1]}], "top_n": 1, "return_documents": True}
            for path in ("/v1/rerank", "/rerank"):
                status, _, body = w.post(path, ask)
                self.assertEqual(status, 200, body)
                self.assertEqual([(r["index"], r["document"]["text"]) for r in body["results"]], [(1, DOCUMENTS[1])])
                self.assertAlmostEqual(body["results"][0]["relevance_score"], sigmoid(TRUTH["bert"][1]["logits"][0]), delta=BOUND)
            # A pair does not depend on its neighbours, to the bit.
            alone = w.post("/v1/rerank", {"model": folder.name, "query": QUERY, "documents": DOCUMENTS[1:2]})[2]["results"][0]["relevance_score"]
            self.assertEqual(alone, body["results"][0]["relevance_score"])
            status, _, body = w.post("/v1/rerank", {"model": folder.name, "query": QUERY, "documents": ["rain " * 500]})
            self.assertEqual((status, body["error"]["code"], body["error"]["param"]), (400, "context_length_exceeded", "documents"), body)
            status, _, body = w.post("/v1/embeddings", {"model": folder.name, "input": "rain"})
            self.assertEqual((status, body["error"]["code"]), (400, "unsupported_value"), body)

    def test_heads_of_several_labels_and_models_without_one_are_refused(self):
        for model, why in ((self.folder("bert", labels=2), "2 labels, not one"), (ZOO / "bert/hf", "no reranker")):
            with Worker(model=model) as w:
                self.assertEqual(w.get("/health")[2]["capabilities"], ["rerank" if "labels" in why else "embedding"])
                status, _, body = w.post("/v1/rerank", {"model": model.name, "query": "a", "documents": ["b"]})
                self.assertEqual((status, body["error"]["param"]), (400, "model"), body)
                self.assertIn(why, body["error"]["message"])

    def test_pairs_in_another_form_than_texts_alone_are_refused(self):
        folder = self.folder("bert")
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        pair = tokenizer["post_processor"]["pair"]
        pair.insert(2, pair[2])  # [CLS] A [SEP] [SEP] B [SEP]
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        with Worker(model=folder) as w:
            status, _, body = w.post("/v1/rerank", {"model": folder.name, "query": "a", "documents": ["b"]})
            self.assertEqual(status, 400, body)
            self.assertIn("in another way", body["error"]["message"])

    def test_what_is_too_long_is_refused_before_it_is_multiplied(self):
        folder = self.folder("bert")
        with Worker(model=folder) as w:
            w.post("/v1/rerank", {"model": folder.name, "query": QUERY, "documents": DOCUMENTS})
            before = peak_of(w.process.pid)
            status, _, body = w.post("/v1/rerank", {"model": folder.name, "query": "a " * 200_000, "documents": ["b"] * 1024})
            self.assertEqual((status, body["error"]["code"], body["error"]["param"]), (400, "context_length_exceeded", "query"), body)
            if not SANITIZED:
                self.assertLess(peak_of(w.process.pid) - before, 64 << 20)

    def test_another_activation_is_refused_by_its_name(self):
        folder = self.folder("modernbert-cls", classifier_activation="relu")
        r = subprocess.run([BINARY, "tokenize", "-m", folder, "--text", "rain"], capture_output=True, text=True, timeout=60)
        self.assertNotEqual(r.returncode, 0)
        self.assertIn("'classifier_activation' is \"relu\"", r.stderr)

    def test_a_head_that_is_not_whole_is_refused_by_its_tensor(self):
        folder = self.folder("bert")
        raw = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(raw.replace(b"bert.pooler.dense.bias", b"bert.pooler.danse.bias"))
        r = subprocess.run([BINARY, "tokenize", "-m", folder, "--text", "rain"], capture_output=True, text=True, timeout=60)
        self.assertNotEqual(r.returncode, 0)
        self.assertIn("pooler.dense.bias' is missing", r.stderr)


if __name__ == "__main__":
    main()
