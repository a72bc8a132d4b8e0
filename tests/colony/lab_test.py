"""The parity lab: references as processes of their own, planted faults that are named, a page, receipts (P-03, P-23, P-25, P-30)."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

import gguf
import numpy as np

from colony import BIN, DATA, ROOT, main, wait_for

IDS = [3, 141, 59, 265, 35, 89, 79, 32, 38, 46, 17, 201, 8, 99, 150, 77, 5, 260, 31, 12]


def lab(*arguments, cwd, timeout=120):
    return subprocess.run([BIN / "llorch", "parity", *map(str, arguments)], capture_output=True, text=True, cwd=cwd, stdin=subprocess.DEVNULL, timeout=timeout)


def logits(model, out, ids=IDS):
    """What a model computes, with its checkpoints, as a reference leaves it."""
    out.mkdir()
    subprocess.run([BIN / "llorch-worker-cpu", "logits", "-m", model, "--tokens", ",".join(map(str, ids)), "--isa", "reference", "--out", out / "logits.npy", "--checkpoints", out], check=True, capture_output=True)
    return np.load(out / "logits.npy")


def read_of(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


class Lab(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="llorch-lab-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        subprocess.run([BIN / "llorch-gguf", "synth", "--shape", "tiny-llama", "--type", "F32", "--seed", "7", self.folder / "m.gguf"], check=True, capture_output=True)

    def all(self, *more, references="none", tokens=IDS):
        r = lab("all", "m.gguf", "--references", references, "--tokens", ",".join(map(str, tokens)), "--json", *more, cwd=self.folder)
        self.assertIn(r.returncode, (0, 3), r.stdout + r.stderr)
        return json.loads(r.stdout), r.returncode

    def engine(self, report, name):
        return next(e for e in report["engines"] if e["name"] == name)

    def kinds(self, engine):
        return {f["kind"] for f in engine["findings"]}

    def test_why_a_model_cannot_be_read(self):
        (self.folder / "bad.gguf").write_bytes(b"GGUF\x63\0\0\0" + bytes(64))
        (self.folder / "text").write_text("Once upon a time")
        r = lab("all", "bad.gguf", "--references", "none", "--text", "text", cwd=self.folder)
        self.assertEqual((r.returncode, r.stdout), (1, ""))
        self.assertRegex(r.stderr, r"error: MODEL_LOAD_FAILED: bad\.gguf cannot be read: .*GGUF version 99 is not supported")

    def test_without_references_one_line_says_so(self):
        r = lab("all", "m.gguf", "--tokens", ",".join(map(str, IDS)), "--environments", self.folder / "nowhere", cwd=self.folder)
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
        self.assertEqual(sum("no reference gives the truth" in line for line in r.stdout.splitlines()), 1, r.stdout)
        for path in (ROOT / "tools/parity/references").glob("*.py"):
            self.assertEqual(sum(line.startswith(f"not run: {path.stem} (not installed") for line in r.stdout.splitlines()), 1, path.stem)
        report, code = self.all()
        self.assertEqual((code, report["truth"], report["verdict"]), (0, "llorch-reference", "explained" if report["verdict"] == "explained" else "parity"))
        self.assertEqual([len(report["ids"]), report["ids"]], [20, IDS])
        mine = self.engine(report, "llorch")
        self.assertLess(mine["kl_mean"], 1e-4)
        self.assertEqual(len(mine["layers"]["names"]), len(mine["layers"]["difference"]))
        self.assertEqual(mine["rows"], 20)

    def test_numbers_are_those_of_numpy(self):
        truth = logits(self.folder / "m.gguf", self.folder / "t").astype(np.float64)
        other = truth + np.random.default_rng(5).normal(0, 0.02, truth.shape)
        np.save(self.folder / "o.npy", other.astype(np.float32))
        log = lambda x: x - x.max(-1, keepdims=True) - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True))
        a, b = log(truth), log(other.astype(np.float32).astype(np.float64))
        kl = (np.exp(a) * (a - b)).sum(-1)
        report, _ = self.all("--given", f"noisy={self.folder}/o.npy")
        e = self.engine(report, "noisy")
        np.testing.assert_allclose([p["kl"] for p in e["positions"]], kl, rtol=1e-6)
        self.assertAlmostEqual(e["kl_mean"], kl.mean(), delta=1e-9)
        self.assertEqual([p["top"] for p in e["positions"]], other.argmax(-1).tolist())
        np.testing.assert_allclose([p["probability"] for p in e["positions"]], np.exp(b).max(-1), rtol=1e-6)
        self.assertEqual([p["truth_rank"] for p in e["positions"]], [int((row > row[t.argmax()]).sum()) for row, t in zip(other.astype(np.float32), truth)])
        np.testing.assert_allclose([p["max_abs"] for p in e["positions"]], np.abs(other.astype(np.float32) - truth).max(-1), rtol=1e-5)

        following = np.array(IDS[1:])
        self.assertAlmostEqual(report["perplexity"], float(np.exp(-a[np.arange(19), following].mean())), delta=1e-4)

    def test_a_model_that_gives_embeddings_is_compared_by_its_states(self):
        fields = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96, "vocab_size": 300, "max_position_embeddings": 128}
        subprocess.run([BIN / "llorch-gguf", "synth", "--shape", "bge-base", "--set", json.dumps(fields), "--seed", "5", self.folder / "e.gguf"], check=True, capture_output=True)
        truth = logits(self.folder / "e.gguf", self.folder / "e").astype(np.float64)
        self.assertEqual(truth.shape, (20, 64))
        other = (truth + np.random.default_rng(3).normal(0, 0.1, truth.shape)).astype(np.float32)
        np.save(self.folder / "o.npy", other)
        r = lab("all", "e.gguf", "--references", "none", "--tokens", ",".join(map(str, IDS)), "--given", "noisy=o.npy", "--json", cwd=self.folder)
        report = json.loads(r.stdout)
        self.assertEqual((report["rows_are"], report["perplexity"]), ("states", None))
        e = self.engine(report, "noisy")
        cosine = (truth * other).sum(-1) / np.linalg.norm(truth, axis=-1) / np.linalg.norm(other.astype(np.float64), axis=-1)
        np.testing.assert_allclose([p["kl"] for p in e["positions"]], 1 - cosine, rtol=1e-6)
        self.assertEqual((e["same_token"], e["positions"][0]["top"]), (None, -1))
        self.assertLess(self.engine(report, "llorch-scalar")["kl_mean"], 1e-5)
        self.assertEqual(self.engine(report, "llorch")["verdict"], "parity")
        r = lab("all", "e.gguf", "--references", "none", "--tokens", "1,2,3", "--html", "e.html", cwd=self.folder)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("1-cos mean", r.stdout)
        self.assertIn("1 - cosine by position", (self.folder / "e.html").read_text())
        for command in (["perplexity", "-m", "e.gguf", "--file", "e.html"], ["parity", "-m", "e.gguf", "--against", "e.gguf", "--tokens", "1,2"]):
            r = subprocess.run([BIN / "llorch-worker-cpu", *command], capture_output=True, text=True, cwd=self.folder)
            self.assertEqual((r.returncode, "gives embeddings" in r.stderr), (2, True), r.stderr)

    def test_a_text_begins_as_the_model_asks(self):
        (self.folder / "text").write_text("abc")
        for model, first in ((ROOT / "models/haiku.gguf", []), (DATA / "models/zoo/gemma3/model-f32.gguf", [2])):
            if not model.exists():
                print(f"not run: {model} is not there")
                continue
            r = lab("all", model, "--references", "none", "--quick", "--text", "text", "--json", cwd=self.folder)
            plain = subprocess.run([BIN / "llorch-worker-cpu", "tokenize", "-m", model, "--text", "abc"], capture_output=True, text=True).stdout.split()
            self.assertEqual(json.loads(r.stdout)["ids"], first + [int(word) for word in plain], model)

    def planted(self, change, name="bad"):
        rows = np.load(self.folder / "t/logits.npy") if (self.folder / "t").exists() else logits(self.folder / "m.gguf", self.folder / "t")
        rows = change(rows.copy())
        np.save(self.folder / f"{name}.npy", rows)
        report, code = self.all("--given", f"{name}={self.folder}/{name}.npy")
        return self.engine(report, name), code, report

    def test_planted_values_are_found_where_they_are(self):
        def put(rows, where, what):
            rows[where] = what
            return rows

        for kind, change in (("not_finite", lambda rows: put(rows, (7, 31), np.nan)), ("garbage", lambda rows: put(rows, 7, 1e16 * np.sign(rows[7])))):
            e, code, _ = self.planted(change)
            self.assertEqual((code, e["verdict"], self.kinds(e)), (3, "bug", {kind}))
            self.assertEqual([f["position"] for f in e["findings"]], [7])
            self.assertEqual([p["position"] for p in e["positions"] if p["verdict"] == "bug"], [7])

    def test_a_shift_is_named(self):
        for by in (1, -1):
            e, code, report = self.planted(lambda rows, by=by: np.roll(rows, -by, 0))
            self.assertEqual((code, self.kinds(e)), (3, {"shifted"}), e["findings"])
            self.assertIn(f"row p{by:+d}", e["findings"][0]["text"])
            self.assertEqual([o["text"].split()[0] for o in report["outliers"]], ["bad"], "among the others, who agree, it stands apart")

    def test_position_0_that_nobody_computed_is_nobody_s_bug(self):
        for what in (0.0, np.nan, 1e30, "stale"):
            def spoil(rows, what=what):
                rows[0] = rows[9] if what == "stale" else what
                return rows

            e, code, _ = self.planted(spoil)
            self.assertEqual((code, self.kinds(e)), (0, {"never_computed"}), (what, e["findings"], e["verdict"]))
            self.assertFalse(e["positions"][0]["computed"])
            self.assertNotEqual(e["verdict"], "bug")
        garbage = np.random.default_rng(1).normal(0, 3, 320).astype(np.float32)
        e, code, _ = self.planted(lambda rows: np.concatenate([garbage[None], rows[1:]]))
        self.assertEqual((code, self.kinds(e)), (0, {"never_computed"}))
        e, code, _ = self.planted(lambda rows: np.concatenate([rows[:4], garbage[None], rows[5:]]))
        self.assertEqual((code, e["verdict"]), (3, "bug"), "at another position the same is a bug")

    def test_other_ids_are_named(self):
        other = IDS[:8] + [(i * 7 + 3) % 320 for i in IDS[8:]]
        rows = logits(self.folder / "m.gguf", self.folder / "other", other)
        np.save(self.folder / "bad.npy", rows)
        report, code = self.all("--given", f"bad={self.folder}/bad.npy")
        e = self.engine(report, "bad")
        self.assertEqual((code, self.kinds(e)), (3, {"other_ids"}), e["findings"])
        self.assertEqual(e["findings"][0]["position"], 8)
        (self.folder / "other/about.json").write_text(json.dumps({"own_ids": other}))
        report, _ = self.all("--given", f"bad={self.folder}/other")
        found = {f["kind"]: f for f in self.engine(report, "bad")["findings"]}
        self.assertEqual(found["other_tokenizer"]["position"], 8)
        self.assertIn(f"id {other[8]} at position 8, and {IDS[8]} was run", found["other_tokenizer"]["text"])
        (self.folder / "other/about.json").write_text(json.dumps({"own_ids": [1, *IDS, 4]}))  # a token in front of every text is none
        report, _ = self.all("--given", f"bad={self.folder}/other")
        self.assertNotIn("other_tokenizer", self.kinds(self.engine(report, "bad")))

    def test_swapped_layers_are_named(self):
        shutil.copy(self.folder / "m.gguf", self.folder / "s.gguf")
        reader = gguf.GGUFReader(self.folder / "s.gguf", "r+")
        of = {t.name: t for t in reader.tensors}
        for name, t in of.items():
            if name.startswith("blk.0."):
                u = of[name.replace("blk.0.", "blk.1.")]
                first = t.data.copy()
                t.data[:] = u.data
                u.data[:] = first
        reader.data.flush()
        logits(self.folder / "s.gguf", self.folder / "swapped")
        report, code = self.all("--given", f"swapped={self.folder}/swapped")
        e = self.engine(report, "swapped")
        self.assertEqual(code, 3)
        self.assertIn("layers 0 and 1 are swapped", [f["text"] for f in e["findings"]])
        self.assertEqual(e["first_layer"], "layer_00.output")
        self.assertEqual(self.engine(report, "llorch")["first_layer"], "")

    def test_references_are_processes_of_their_own(self):
        tools, environments = self.folder / "tools/references", self.folder / "environments"
        tools.mkdir(parents=True)
        (environments / "one/bin").mkdir(parents=True)
        (environments / "one/bin/python").symlink_to(sys.executable)
        logits(self.folder / "m.gguf", self.folder / "t")
        good = f"import sys, shutil\nout = sys.argv[sys.argv.index('--out') + 1]\nassert open(sys.argv[sys.argv.index('--ids') + 1]).read().split() == {[str(i) for i in IDS]}\nshutil.copy('{self.folder}/t/logits.npy', out)\nprint('noise')\n"
        files = {
            "truth": "# environment: one\n# truth\n" + good,
            "weights": "# environment: one\n# f32\n" + good + "assert open(sys.argv[sys.argv.index('--f32') + 1], 'rb').read(4) == b'GGUF'\n",
            "refuses": "# environment: one\nprint('{\"unavailable\": \"it knows no such model\"}')\nraise SystemExit(3)\n",
            "crashes": "# environment: one\nimport os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n",
            "hangs": "# environment: one\nimport signal\nsignal.pause()\n",
            "lies": "# environment: one\nprint('done')\n",
            "absent": "# environment: another\n",
            "known": "# documented only\n",
        }
        for name, text in files.items():
            (tools / f"{name}.py").write_text(text)
        report, code = self.all("--tools", tools.parent, "--environments", environments, "--limit", "5", "--quick", references="auto")
        self.assertEqual(code, 0)
        self.assertEqual(report["truth"], "truth")
        reasons = {n["name"]: n["reason"] for n in report["not_run"]}
        for name, reason in (("refuses", "it knows no such model"), ("crashes", "signal 11"), ("hangs", "timed out"), ("lies", "logits.npy"), ("absent", "./dev references another"), ("known", "no package is known")):
            self.assertIn(reason, reasons[name], name)
        self.assertEqual(self.engine(report, "weights")["kl_max"], 0)
        report, _ = self.all("--tools", tools.parent, "--environments", environments, "--quick", references="truth")
        self.assertNotIn("weights", [e["name"] for e in report["engines"]])
        r = lab("all", "m.gguf", "--tokens", "1,2", "--references", "nobody", "--tools", tools.parent, cwd=self.folder)
        self.assertEqual(r.returncode, 2)
        self.assertIn("there is no reference 'nobody'", r.stderr)

    def test_a_kept_folder_has_the_weights_of_its_last_model(self):
        tools, environments = self.folder / "tools/references", self.folder / "environments"
        tools.mkdir(parents=True)
        (environments / "one/bin").mkdir(parents=True)
        (environments / "one/bin/python").symlink_to(sys.executable)
        (tools / "weights.py").write_text("# environment: one\n# f32\nimport sys, shutil\nshutil.copy(sys.argv[sys.argv.index('--f32') + 1], 'seen.gguf')\nraise SystemExit(3)\n")
        for seed in ("7", "8"):
            subprocess.run([BIN / "llorch-gguf", "synth", "--shape", "tiny-llama", "--type", "F32", "--seed", seed, self.folder / "m.gguf"], check=True, capture_output=True)
            self.all("--tools", tools.parent, "--environments", environments, "--keep", "kept", "--quick", references="weights")
            model, seen = (gguf.GGUFReader(self.folder / name).tensors[0].data.tobytes() for name in ("m.gguf", "seen.gguf"))
            self.assertEqual(model, seen, seed)

    def test_a_page_and_a_table(self):
        logits(self.folder / "m.gguf", self.folder / "t")
        r = lab("all", "m.gguf", "--references", "none", "--tokens", ",".join(map(str, IDS)), "--given", f"a<b={self.folder}/t", "--html", "page.html", "--report", "report.json", "--positions", "0,5", cwd=self.folder)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("truth's rank", r.stdout)
        self.assertIn("outliers: none among", r.stdout)
        page, report = (self.folder / "page.html").read_text(), json.loads((self.folder / "report.json").read_text())
        self.assertEqual(page.count("<polyline"), 2 * len(report["engines"]))
        self.assertGreater(page.count("<rect"), 20)
        self.assertIn("a&lt;b", page)
        self.assertNotIn("a<b", page)
        self.assertNotIn("http", page.replace("http-equiv", ""))

    def test_what_is_wrong_is_said(self):
        for arguments, text in ((("--tokens", "1,x"), "'x' is no token id"), (("--text", "nowhere"), "nowhere"), (("--tokens", "1", "--given", "x"), "NAME=PATH"), (("--tokens", "1,2", "--given", "x=m.gguf"), "m.gguf"), (("--tokens", "99999"), "m.gguf")):
            r = lab("all", "m.gguf", "--references", "none", *arguments, cwd=self.folder)
            self.assertIn(r.returncode, (1, 2), (arguments, r.stdout))
            self.assertIn(text, r.stderr)
        r = lab("all", "builtin:haiku", "--references", "none", "--ids", "300", cwd=self.folder)
        self.assertEqual(r.returncode, 1)
        self.assertIn("300 tokens exceed the context of 256", r.stderr)
        r = lab("all", "builtin:haiku", "--references", "none", "--quick", "--json", cwd=self.folder)
        self.assertEqual((r.returncode, len(json.loads(r.stdout)["ids"])), (0, 256), "without --ids no more than the context")
        (self.folder / "folder").mkdir()
        for arguments, text in ((("--text", "/dev/null"), "/dev/null"), (("--references", "nobody"), "there is no reference 'nobody'"), (("--truth", "llorch-referenc"), "did you mean 'llorch-reference'?"), (("--html", "no/where.html"), "cannot write no/where.html"),
                                (("--report", "folder"), "folder"), (("--html", "m.gguf"), "m.gguf"), (("--given", "x=nowhere"), "x=nowhere")):
            r = lab("all", "builtin:haiku", "--quick", *(() if "--references" in arguments else ("--references", "none")), *arguments, cwd=self.folder)
            self.assertIn(r.returncode, (1, 2), (arguments, r.stdout))
            self.assertIn(text, r.stderr)
            self.assertNotIn("llorch ...", r.stderr, "nothing has run")
            self.assertNotIn("haiku cannot", r.stderr)
        r = lab("study", "--from", "/etc/passwd", cwd=self.folder)
        self.assertEqual(r.returncode, 2)
        self.assertIn("/etc/passwd is no study", r.stderr)
        r = lab("study", "nowhere.gguf", "neither.gguf", "--references", "none", "--tokens", "1", cwd=self.folder)
        self.assertEqual(r.returncode, 1)
        self.assertIn("none of the models could be run", r.stderr)
        r = lab("all", "nowhere.gguf", "--references", "none", "--tokens", "1", cwd=self.folder)
        self.assertIn(r.returncode, (1, 2))
        self.assertIn("nowhere.gguf", r.stderr)

    def test_an_end_leaves_nothing(self):
        """The worker dies with the command, whatever ends it; its folder is taken away, by the next run at the latest."""
        temporary = self.folder / "tmp"
        temporary.mkdir()
        command = [BIN / "llorch", "parity", "all", "random:qwen2.5-0.5b:Q8_0", "--references", "none", "--tokens", ",".join(["7"] * 300)]
        workers = lambda: [p for p in pathlib.Path("/proc").glob("[0-9]*/environ") if str(temporary).encode() in read_of(p) and b"llorch-worker" in read_of(p.parent / "cmdline")]
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
            with subprocess.Popen(command, cwd=self.folder, env=os.environ | {"TMPDIR": str(temporary)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL) as p:
                wait_for(lambda: workers() or p.poll() is not None, 60)
                wait_for(lambda: list(temporary.iterdir()))
                self.assertIsNone(p.poll(), "it ended before it was killed")
                p.send_signal(number)
                code = p.wait(20)
            self.assertEqual(code, -number if number == signal.SIGKILL else 128 + number)
            wait_for(lambda: not workers(), 10)
            left = list(temporary.iterdir())
            self.assertEqual(len(left), number == signal.SIGKILL, left)
        os.utime(left[0], (0, 0))
        r = subprocess.run([BIN / "llorch", "parity", "all", "m.gguf", "--references", "none", "--quick", "--tokens", "1"], cwd=self.folder, env=os.environ | {"TMPDIR": str(temporary)}, capture_output=True, text=True, timeout=60)
        self.assertEqual((r.returncode, list(temporary.iterdir())), (0, []), r.stderr)

    def test_a_study_of_two_types(self):
        subprocess.run([BIN / "llorch-gguf", "synth", "--shape", "tiny-qwen3", "--type", "F32", "--seed", "3", self.folder / "q.gguf"], check=True, capture_output=True)
        ids = ",".join(map(str, IDS))
        r = lab("study", "m.gguf", "q.gguf", "--types", "F32,Q8_0,Q4_0,NO_TYPE", "--tokens", ids, "--references", "none", "--quiet", "--report", "s.json", "--document", "s.md", cwd=self.folder, timeout=300)
        self.assertEqual(r.returncode, 0, r.stderr)
        study = json.loads((self.folder / "s.json").read_text())
        self.assertEqual([m["model"] for m in study["models"]], ["m", "q"])
        for m in study["models"]:
            self.assertEqual(["NO_TYPE"], [n["type"] for n in m["not_made"]])
            cost = {t["type"]: t["cost"] for t in m["types"]}
            self.assertEqual(set(cost), {"as stored", "F32", "Q8_0", "Q4_0"})
            kl = {name: c["kl_mean"] for name, c in cost.items()}
            self.assertLess(kl["F32"], 1e-12)
            self.assertTrue(1e-9 < kl["Q8_0"] < kl["Q4_0"] / 10, kl)
            size = {t["type"]: t["bytes"] for t in m["types"]}
            self.assertTrue(size["F32"] > 3 * size["Q8_0"] > 5 * size["Q4_0"], size)
            # What an engine makes of a file is measured by that file's exact result, whatever the type cost.
            for t in m["types"]:
                (own,) = [e for e in t["engines"] if e["engine"] == "llorch-scalar"]
                self.assertLess(own["kl_mean"], kl["Q4_0"] / 3, t["type"])
        document = (self.folder / "s.md").read_text()
        self.assertEqual(r.stdout, document)
        self.assertEqual(document.count("\n## "), 2)
        self.assertEqual(document.count("- NO_TYPE was not made: "), 2)
        self.assertEqual(document.count("\n| engine | arithmetic | as stored | F32 | Q8_0 | Q4_0 |\n"), 2)
        again = lab("study", "--from", "s.json", cwd=self.folder)
        self.assertEqual((again.returncode, again.stdout), (0, document))
        r = lab("study", "builtin:haiku", "--types", "F32", "--tokens", "1,2", "--references", "none", "--quick", "--json", cwd=self.folder)
        self.assertEqual([n["reason"] for n in json.loads(r.stdout)["models"][0]["not_made"]], ["builtin:haiku is no file, or becomes none"])
        r = lab("study", "nowhere.gguf", "m.gguf", "--tokens", ids, "--references", "none", "--quick", "--json", cwd=self.folder)
        self.assertEqual([(m["model"], "error" in m) for m in json.loads(r.stdout)["models"]], [("nowhere", True), ("m", False)], "the others go on")
        for i, other in enumerate(({}, {"models": 3}, {"models": [{"model": "m"}]}, study | {"models": [study["models"][0] | {"types": [{}]}]})):
            (self.folder / f"other{i}.json").write_text(json.dumps(other))
            r = lab("study", "--from", f"other{i}.json", cwd=self.folder)
            self.assertEqual(r.returncode, 2)
            self.assertIn("is no study", r.stderr)
        for bad in ((), ("--from", "nowhere.json"), ("--from", "m.gguf"), ("m.gguf", "--from", "s.json"), ("nowhere.gguf", "--tokens", "1")):
            self.assertIn(lab("study", *bad, cwd=self.folder).returncode, (1, 2), bad)

    def test_environments_are_described_by_the_files(self):
        sys.path.insert(0, str(ROOT / "tools/parity"))
        import install_references

        known = install_references.described(ROOT / "tools/parity/references")
        for name in ("transformers", "llama_cpp", "mistralrs", "openvino", "candle"):
            self.assertTrue(known[name][0], name)
        self.assertIsNone(known["vllm"])
        self.assertEqual(install_references.main(["nobody"]), 2)
        ran = []

        class Ran:
            def __init__(self, code, stderr=""):
                self.returncode, self.stderr = code, stderr

        def fails(command, **_):
            ran.append([str(c) for c in command])
            return Ran(1, "noise\nERROR: No matching distribution found for nothing\n")

        self.assertEqual(install_references.install(self.folder / "v", ["nothing"], "nothing", fails), "No matching distribution found for nothing")
        self.assertFalse((self.folder / "v/bin/python").exists(), "it must not count as installed")
        self.assertEqual(ran[-1][1:5], ["-m", "pip", "install", "-q"])


if __name__ == "__main__":
    main()
