"""What an answer is sampled with where its request does not say: what the worker was started with, else what the model's files state, else a default; on
every API the same, and told by /v1/info and by X-Llorch-Sampling."""
import json
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import gguf

from harness import BINARY, DATA, USER, Worker, main, not_run

FOLDER = DATA / "models/zoo/qwen3/hf"
TOOL = pathlib.Path(BINARY).with_name("llorch-gguf")
TEXT = USER[0]["content"]
# Each route with a request that names no sampling.
ROUTES = (("/v1/chat/completions", {"messages": USER, "max_tokens": 2}), ("/v1/completions", {"prompt": TEXT, "max_tokens": 2}), ("/v1/responses", {"input": TEXT, "max_output_tokens": 2}),
          ("/v1/messages", {"messages": USER, "max_tokens": 2}), ("/v1/inference", {"prompt": TEXT, "max_tokens": 2}))
DEFAULT = {"temperature": 0.8, "top_p": 0.95, "top_k": 40, "min_p": 0.05}

if not FOLDER.exists():
    not_run(f"{FOLDER} is not there")


def values(header):
    return {name: float(value) for name, value in (part.split("=") for part in header.split(", "))}


class Sampling(unittest.TestCase):
    def expect(self, w, want, source, **fields):
        for path, body in ROUTES:
            stream = {} if path == "/v1/inference" else {"stream": True}
            for more in ({}, stream):
                status, headers, answer = w.post(path, body | more | fields)
                self.assertIn(status, (200, 202), (path, answer))
                self.assertEqual(values(headers["X-Llorch-Sampling"]), want, (path, more))
        told = w.get("/v1/info")[2]["sampling"]
        self.assertEqual(told["source"], source)
        return told

    def test_the_default_and_what_requests_name(self):
        w = Worker()
        try:
            told = self.expect(w, DEFAULT, "default")
            self.assertEqual(told, DEFAULT | {"repetition_penalty": 1.0, "source": "default"})
            self.expect(w, DEFAULT | {"temperature": 1}, "default", temperature=1)
            self.expect(w, {"temperature": 0, "top_p": 1, "top_k": 0, "min_p": 0}, "default", temperature=0, top_p=1, top_k=0, min_p=0)
            started = next(data for _, kind, data in w.generate(prompt=TEXT, max_tokens=2) if kind == "started")
            self.assertEqual({name: started["params"][name] for name in DEFAULT}, DEFAULT)
            _, headers, _ = w.post("/v1/chat/completions", {"messages": USER, "max_tokens": 2, "repetition_penalty": 1.5, "presence_penalty": 1, "frequency_penalty": -1})
            self.assertEqual(values(headers["X-Llorch-Sampling"]), DEFAULT | {"repetition_penalty": 1.5, "presence_penalty": 1, "frequency_penalty": -1})
            answer = w.post("/v1/responses", {"input": TEXT, "max_output_tokens": 2})[2]
            self.assertEqual((answer["temperature"], answer["top_p"]), (0.8, 0.95))
            # The same request, the defaults spelled out: the same text.
            ask = {"messages": USER, "max_tokens": 40, "seed": 7}
            said = [w.post("/v1/chat/completions", ask | more)[2]["choices"][0]["message"]["content"] for more in ({}, DEFAULT, {"temperature": 1, "top_p": 1, "top_k": 0, "min_p": 0})]
            self.assertEqual(said[0], said[1])
            self.assertNotEqual(said[0], said[2])
        finally:
            w.stop()

    def test_what_the_worker_was_started_with(self):
        w = Worker("--temperature", "0.3", "--top-k", "7", "--repetition-penalty", "1.1")
        try:
            self.expect(w, DEFAULT | {"temperature": 0.3, "top_k": 7, "repetition_penalty": 1.1}, "settings")
            self.expect(w, DEFAULT | {"temperature": 1, "top_k": 7, "repetition_penalty": 1.1}, "settings", temperature=1)
        finally:
            w.stop()

    @unittest.skipUnless(FOLDER.exists(), "the test data is not there")
    def test_the_model_s_own(self):
        for stated, want, keys in (({"temperature": 0.6, "top_p": 0.9, "do_sample": True}, {"temperature": 0.6, "top_p": 0.9, "top_k": 50, "min_p": 0}, {"temp": 0.6, "top_p": 0.9}),
                                   ({"top_k": 64, "top_p": 0.95, "repetition_penalty": 1.05}, {"temperature": 1, "top_p": 0.95, "top_k": 64, "min_p": 0, "repetition_penalty": 1.05}, {"top_k": 64, "top_p": 0.95, "penalty_repeat": 1.05}),
                                   ({"temperature": -3, "top_p": "x", "eos_token_id": 2}, DEFAULT, {"temp": -3})):
            with self.subTest(stated), tempfile.TemporaryDirectory() as d:
                folder, file = pathlib.Path(d) / "model", pathlib.Path(d) / "model.gguf"
                shutil.copytree(FOLDER, folder)
                (folder / "generation_config.json").write_text(json.dumps(stated))
                made = subprocess.run([TOOL, "convert", folder, file], capture_output=True, text=True)
                self.assertEqual(made.returncode, 0, made.stderr)
                fields = {name.removeprefix("general.sampling."): f.contents() for name, f in gguf.GGUFReader(file).fields.items() if name.startswith("general.sampling.")}
                self.assertEqual({name: round(value, 5) for name, value in fields.items()}, keys, "the keys of the ecosystem's converter")
                for model in (folder, file):
                    w = Worker("--ctx", "128", model=model)
                    try:
                        status, headers, answer = w.post("/v1/completions", {"prompt": "a", "max_tokens": 2})
                        self.assertEqual(status, 200, answer)
                        self.assertEqual(values(headers["X-Llorch-Sampling"]), want | ({"top_k": min(want["top_k"], w.get("/health")[2]["vocab_size"])}))
                        self.assertEqual(w.get("/v1/info")[2]["sampling"]["source"], "default" if want is DEFAULT else "model")
                    finally:
                        w.stop()

    @unittest.skipUnless(FOLDER.exists(), "the test data is not there")
    def test_a_damaged_file_is_named(self):
        with tempfile.TemporaryDirectory() as d:
            folder = pathlib.Path(d) / "model"
            shutil.copytree(FOLDER, folder)
            (folder / "generation_config.json").write_text("[1]")
            made = subprocess.run([BINARY, "tokenize", "-m", folder, "--text", "x"], capture_output=True, text=True)
            self.assertNotEqual(made.returncode, 0)
            self.assertIn("generation_config.json", made.stderr)


if __name__ == "__main__":
    main()
