"""Receipts of answers: computed again they are the same bits, and whatever was changed is found."""
import hashlib
import json
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import numpy as np

from harness import BINARY, ROOT, STORIES, USER, Worker, main, wait_for


class Receipts(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="llorch-receipt-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def worker(self, *arguments):
        return subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)

    def made(self, *more, model="builtin:haiku", name="r.json"):
        r = self.worker("generate", "-m", model, "-p", "Write a haiku about the wind", "-n", "30", "--ignore-eos", "--receipt", self.folder / name, *more)
        self.assertEqual(r.returncode, 0, r.stderr)
        return json.loads((self.folder / name).read_text())

    def verify(self, receipt, *more):
        (self.folder / "given.json").write_text(receipt if isinstance(receipt, str) else json.dumps(receipt))
        return self.worker("receipt", self.folder / "given.json", *more)

    def test_an_answer_is_the_same_again(self):
        for more in ((), ("--temperature", "0.9", "--seed", "77", "--top-p", "0.9", "--top-k", "50"), ("--temperature", "1", "--seed", str(2**63 + 5), "--repetition-penalty", "1.3", "--kv-type", "q8_0"), ("--isa", "reference")):
            receipt = self.made(*more)
            self.assertEqual((len(receipt["ids"]), [x["index"] for x in receipt["logits"]]), (30, [0, 8, 16, 24]))
            r = self.verify(receipt)
            self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
            self.assertIn("the same: 30 tokens, and the logits of 4 of them bit for bit", r.stdout)

    def test_hashes_are_those_of_the_logits(self):
        receipt = self.made("--kv-type", "f32")
        ids = receipt["prompt_ids"] + receipt["ids"]
        self.assertEqual(self.worker("logits", "-m", "builtin:haiku", "--tokens", ",".join(map(str, ids)), "--kv-type", "f32", "--out", self.folder / "x.npy").returncode, 0)
        rows = np.load(self.folder / "x.npy")
        for x in receipt["logits"]:
            row = rows[len(receipt["prompt_ids"]) + x["index"] - 1]
            self.assertEqual(hashlib.sha256(row.tobytes()).hexdigest(), x["sha256"], x)

    def test_every_machine_of_the_same_arithmetic_gives_the_same(self):
        receipt = self.made("--isa", "scalar", "--temperature", "0.8", "--seed", "3")
        self.assertEqual((receipt["isa"], receipt["arithmetic"]), ("scalar", "canonical"))
        for more in ((), ("--threads", "1"), ("--isa", "canonical")):
            self.assertEqual(self.verify(receipt, *more).returncode, 0, more)
        r = self.verify(receipt, "--isa", "reference")
        self.assertEqual(r.returncode, 1)
        self.assertIn("the receipt's arithmetic is 'canonical', and this is 'cpu reference'", r.stderr)

    def test_what_was_changed_is_found(self):
        good = self.made("--temperature", "0.9", "--seed", "77")
        ids = good["ids"]
        for change, text in (
            ({"ids": ids[:5] + [ids[5] + 1] + ids[6:]}, f"token 5 of the answer is {ids[5] + 1} in the receipt and {ids[5]} now"),
            ({"ids": ids[:-1]}, "token 29 of the answer is none in the receipt"),
            ({"logits": good["logits"][:2] + [good["logits"][2] | {"sha256": "0" * 64}] + good["logits"][3:]}, "the logits of token 16 are others"),
            ({"logits": good["logits"][:2]}, "2 hashes of logits are in the receipt, 4 are computed now"),
            ({"prompt_ids": good["prompt_ids"][:-1]}, "the logits of token 0 are others"),
            ({"params": good["params"] | {"seed": 78}}, "not the same: "),
            ({"kv_type": "q8_0"}, "the logits of token"),
            ({"template_sha256": "0" * 64}, "a field of the receipt was changed"),
            ({"params": good["params"] | {"stop": ["qqqq"]}}, "a field of the receipt was changed"),
            ({"build_id": "0"}, "a field of the receipt was changed"),
        ):
            r = self.verify(good | change)
            self.assertEqual(r.returncode, 3, (text, r.stdout, r.stderr))
            self.assertIn(text, r.stdout)
            r = self.verify(good | change, "--json")
            self.assertFalse(json.loads(r.stdout)["same"])
        other = self.verify(good | {"model_sha256": "1" * 64})
        self.assertEqual(other.returncode, 1)
        self.assertIn("is another model: its manifest is", other.stderr)

    @unittest.skipUnless(STORIES.exists(), "the test data is not there")
    def test_an_answer_does_not_say_where_the_server_has_its_model(self):
        with Worker(model=STORIES) as w:
            wait_for(lambda: w.get("/v1/info")[2]["model_hash"])
            receipt = w.post("/v1/completions", {"prompt": "Once", "max_tokens": 2, "receipt": True})[2]["choices"][0]["receipt"]
            self.assertEqual(receipt["model"], w.get("/v1/info")[2]["model_id"])
        self.assertNotIn(str(STORIES.parent), json.dumps(receipt))
        r = self.verify(receipt)
        self.assertEqual(r.returncode, 1)
        self.assertIn(f"the receipt's model is '{STORIES.name}', which is no file here: say with -m where it is", r.stderr)
        self.assertEqual(self.verify(receipt, "-m", STORIES).returncode, 0)
        self.assertEqual(self.verify(receipt | {"model": f"file:{STORIES}"}).returncode, 0)

    def test_what_is_no_receipt_is_refused(self):
        good = self.made()
        without = {k: v for k, v in good.items() if k != "params"}
        for bad, text in (("{", "given.json"), ("[]", "is no receipt of version 1"), (good | {"receipt": 2}, "is no receipt of version 1"), (without, "no 'params'"), (good | {"ids": ["x"]}, "'ids' holds no token id"), (good | {"ids": [2**40]}, "'ids' holds no token id"),
                          (good | {"params": good["params"] | {"temperature": "hot"}}, "params.temperature is no number"), (good | {"params": good["params"] | {"max_tokens": 10**12}}, "max_tokens"), (good | {"logits": [{"index": 99, "sha256": "x"}]}, "'logits' holds no index"),
                          (good | {"kv_type": "f8"}, "f8"), (good | {"prompt_ids": [10**6]}, "1000000"), (good | {"prompt_ids": []}, "prompt"), (good | {"params": good["params"] | {"logit_bias": {"a": 1}}}, "logit_bias"), (good | {"device": "cuda"}, "on a device of kind 'cuda'"),
                          (good | {"isa": "x\x1b[31m"}, "'isa'"), ({"object": "chat.completion", "choices": [{"receipt": good}]}, "is an answer and not its receipt"), ({"text": "x", "receipt": good}, "is an answer and not its receipt")):
            r = self.verify(bad)
            self.assertIn(r.returncode, (1, 2), (text, r.stdout))
            self.assertIn(text, r.stderr)
        r = self.worker("receipt", self.folder / "nowhere.json")
        self.assertNotEqual(r.returncode, 0)
        self.assertIn("nowhere.json", r.stderr)

    def test_answers_of_requests(self):
        with Worker() as w:
            wait_for(lambda: w.get("/v1/info")[2]["model_hash"])
            found = []
            ask = {"messages": USER, "max_tokens": 20, "ignore_eos": True, "temperature": 0.9, "receipt": True}
            status, headers, whole = w.post("/v1/chat/completions", ask | {"n": 2})
            self.assertEqual(status, 200, whole)
            self.assertNotIn("x-llorch-ignored", {k.lower() for k in headers})
            found += [c["receipt"] for c in whole["choices"]]
            self.assertNotEqual(found[0]["ids"], found[1]["ids"], "choices are drawn apart")
            self.assertEqual(len(found[0]["template_sha256"]), 64)
            stream = w.post("/v1/chat/completions", ask | {"stream": True})[2]
            last = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")][-1]
            found.append(last["choices"][0]["receipt"])
            found.append(w.post("/v1/completions", {"prompt": "the wind", "max_tokens": 9, "ignore_eos": True, "seed": 5, "receipt": True})[2]["choices"][0]["receipt"])
            self.assertIsNone(found[-1]["template_sha256"])
            end = w.generate(messages=USER, max_tokens=20, ignore_eos=True, receipt=True)[-1][2]
            found.append(end["receipt"])
            self.assertEqual({r["model"] for r in found}, {w.get("/v1/info")[2]["model_id"]})
            for receipt in found:
                r = self.verify(receipt)
                self.assertEqual(r.returncode, 0, (r.stdout, r.stderr, receipt))
                receipt["ids"][2] += 1
                self.assertEqual(self.verify(receipt).returncode, 3)
            self.assertNotIn("receipt", w.post("/v1/chat/completions", {"messages": USER, "max_tokens": 2})[2]["choices"][0])
            for bad in ({"response_format": {"type": "json_object"}}, {"receipt": "yes"}):
                status, _, body = w.post("/v1/chat/completions", ask | bad)
                self.assertEqual((status, body["error"]["param"]), (400, "receipt"), body)
            status, _, body = w.post("/v1/inference", {"prompt": "x", "max_tokens": 4, "receipt": True, "json_schema": {"type": "object"}})
            self.assertEqual(status, 400, body)
            self.assertIn("receipt: there is none of an answer whose form or tools a grammar holds", body["error"]["message"])

    def test_the_command_of_the_colony(self):
        shutil.copy(ROOT / "models/haiku.gguf", self.folder / "m.gguf")
        self.made(model=self.folder / "m.gguf")
        (self.folder / "m.gguf").rename(self.folder / "moved.gguf")
        at = lambda *more: subprocess.run([pathlib.Path(BINARY).parent / "llorch", "receipt", "verify", self.folder / "r.json", *more], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
        self.assertNotEqual(at().returncode, 0, "the model is no more where it was")
        r = at("-m", self.folder / "moved.gguf")
        self.assertEqual((r.returncode, r.stdout[:9]), (0, "the same:"), r.stderr)
        changed = json.loads((self.folder / "r.json").read_text())
        changed["ids"][3] += 1
        (self.folder / "r.json").write_text(json.dumps(changed))
        self.assertEqual(at("-m", self.folder / "moved.gguf").returncode, 3)


if __name__ == "__main__":
    main()
