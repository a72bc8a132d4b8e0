"""How a worker starts from files: what it is, whose tokenizer it takes, weights that were packed before, what it logs."""
import hashlib
import json
import pathlib
import subprocess
import tempfile
import unittest

from harness import BINARY, DATA, KIND, STORIES, Worker, free_port, main, text_of, wait_for


class Start(unittest.TestCase):
    def test_a_second_start_maps_packed_weights(self):
        if not STORIES.exists():
            self.skipTest(f"not run: {STORIES} is not there")
        with tempfile.TemporaryDirectory() as d:
            ask = {"prompt": "Once upon a time", "max_tokens": 30, "seed": 3, "temperature": 0.8}
            with Worker("--packed-cache", d, model=STORIES) as w:
                first = text_of(w.generate(**ask))
                wait_for(lambda: '"weights_packed"' in w.logs())
            self.assertNotIn("mapped", w.logs())
            self.assertEqual([p.suffix for p in pathlib.Path(d).iterdir()], [".panels"])
            with Worker(model=STORIES, env={"LLORCH_PACKED_CACHE": d}) as w:
                self.assertEqual(text_of(w.generate(**ask)), first)
            self.assertIn("weights mapped as they were packed before", w.logs())
            self.assertNotIn('"weights_packed"', w.logs())
            w = Worker("--packed-cache", "/proc/none", model=STORIES, wait=False)
            self.assertEqual(w.process.wait(20), 1)
            self.assertIn("/proc/none", w.logs())

    def test_log_levels(self):
        with Worker("--log-level", "debug") as w:
            w.get("/v1/inference/secret-path-xyzzy", {"X-Correlation-Id": "seen-1"})
            wait_for(lambda: '"correlation_id":"seen-1"' in w.logs())
            line = next(json.loads(l) for l in w.logs().splitlines() if '"seen-1"' in l)
            self.assertEqual([line[k] for k in ("level", "event", "method", "route", "status")], ["debug", "request", "GET", "/v1/inference/{}", 404])
            self.assertGreater(line["duration_ms"], 0)
            self.assertNotIn("xyzzy", w.logs())
        with Worker() as w:  # nothing of it unasked
            w.get("/v1/info", {"X-Correlation-Id": "seen-2"})
            w.stop()
            self.assertNotIn('"debug"', w.logs())
            self.assertIn('"ready"', w.logs())
        with Worker("--log-level", "warn") as quiet, Worker(env={"LLORCH_LOG_LEVEL": "mute"}) as mute:
            self.assertEqual([quiet.logs(), mute.logs()], ["", ""])

    def test_one_changed_byte_is_another_model(self):
        if not STORIES.exists():
            self.skipTest(f"not run: {STORIES} is not there")
        with tempfile.TemporaryDirectory() as d:
            folder = pathlib.Path(d)
            model = folder / "m.gguf"
            model.write_bytes(STORIES.read_bytes())
            manifest = hashlib.sha256(model.read_bytes()).hexdigest()
            self.assertEqual(subprocess.run([BINARY, "manifest", "-m", model], capture_output=True, text=True).stdout.strip(), manifest)
            with Worker("--manifest", manifest, model=model) as w:
                self.assertTrue(text_of(w.generate(prompt="Once upon a time", max_tokens=5)))
                wait_for(lambda: w.get("/v1/info")[2]["model_hash"] == manifest)
            data = bytearray(model.read_bytes())
            data[-5] ^= 1
            model.write_bytes(data)
            w = Worker("--manifest", manifest, model=model, wait=False)
            self.assertEqual(w.process.wait(20), 1)
            self.assertIn("is not what it should be", w.logs())
            self.assertIn("MODEL_LOAD_FAILED", w.logs())
            r = subprocess.run([BINARY, "generate", "-m", model, "--manifest", manifest, "-p", "Once", "-n", "2"], capture_output=True, text=True)
            self.assertEqual((r.returncode, r.stdout), (1, ""), r.stderr)
            # A folder: weights, tokenizer, template and configuration count, each by its name.
            said = lambda: subprocess.run([BINARY, "manifest", "-m", folder], capture_output=True, text=True, check=True).stdout.strip()
            (folder / "config.json").write_text("{}")
            lines = subprocess.run("sha256sum * | sha256sum", shell=True, cwd=d, capture_output=True, text=True, check=True).stdout
            first = said()
            self.assertEqual(first, lines.split()[0])
            for change in (lambda: (folder / "config.json").write_text("{ }"), lambda: (folder / "config.json").rename(folder / "other.json"), lambda: (folder / "chat_template.jinja").write_text("x")):
                change()
                self.assertNotEqual(said(), first)

    def test_build_info_and_another_tokenizer(self):
        info = json.loads(subprocess.run([BINARY, "--build-info"], capture_output=True, text=True, check=True).stdout)
        self.assertEqual((info["backend"], set(info)), (KIND, {"version", "compiler", "backend", "isa", "build_id"}))
        if not STORIES.exists():
            self.skipTest(f"not run: {STORIES} is not there")
        ids = [subprocess.run([BINARY, "generate", "-m", str(STORIES), "-p", "Once upon", "-n", "4", *more], capture_output=True, text=True, check=True).stdout for more in ([], ["--tokenizer", str(STORIES)])]
        self.assertEqual(ids[0], ids[1])
        r = subprocess.run([BINARY, "serve", "-m", str(STORIES), "--tokenizer", str(DATA / "vocab/gpt-2.gguf"), "--local-mode", "--port", str(free_port())], capture_output=True, text=True, timeout=60)
        self.assertEqual(r.returncode, 1)
        self.assertIn("tokenizer", r.stderr)


if __name__ == "__main__":
    main()
