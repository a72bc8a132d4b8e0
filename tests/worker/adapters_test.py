"""Adapters on a live worker: chosen per request by field or by the model's name, beside each other, and refused before serving."""
import concurrent.futures
import json
import pathlib
import subprocess
import tempfile
import unittest

import gguf
import numpy

from harness import BINARY, ROOT, USER, Worker, main

HAIKU = ROOT / "models/haiku.gguf"


def write_adapter(path, seed, size=0.3, arch=None, rename=str):
    """A random adapter of rank 4 for the first layer's matrices."""
    base = gguf.GGUFReader(HAIKU)
    family = bytes(base.fields["general.architecture"].parts[-1]).decode()
    writer = gguf.GGUFWriter(path, arch or family)
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8)
    numbers = numpy.random.default_rng(seed)
    for t in base.tensors:
        if t.name.startswith("blk.0.") and len(t.shape) == 2 and min(t.shape) > 1:
            columns, rows = (int(n) for n in t.shape)
            writer.add_tensor(rename(t.name) + ".lora_a", numbers.normal(0, size, (4, columns)).astype(numpy.float32))
            writer.add_tensor(rename(t.name) + ".lora_b", numbers.normal(0, size, (rows, 4)).astype(numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Adapters(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.paths = {name: f"{cls.folder.name}/{name}.gguf" for name in ("one", "two")}
        for seed, path in enumerate(cls.paths.values()):
            write_adapter(path, seed)
        cls.w = Worker("--lora", f"one={cls.paths['one']}", "--lora", f"two={cls.paths['two']}:0.5")

    @classmethod
    def tearDownClass(cls):
        cls.w.stop()
        cls.folder.cleanup()

    def chat(self, w=None, **fields):
        return (w or self.w).post("/v1/chat/completions", {"messages": USER, "max_tokens": 24, "temperature": 0} | fields)

    def text(self, **fields):
        status, _, answer = self.chat(**fields)
        self.assertEqual(status, 200, answer)
        return answer["choices"][0]["message"]["content"]

    def test_the_model_is_listed_with_each(self):
        names = ["builtin:haiku", "builtin:haiku:one", "builtin:haiku:two"]
        self.assertEqual([m["id"] for m in self.w.get("/v1/models")[2]["data"]], names)
        for name in names:
            status, _, model = self.w.get(f"/v1/models/{name}")
            self.assertEqual((status, model["id"], model["meta"].get("lora")), (200, name, name[14:] or None))
        self.assertEqual(self.w.get("/v1/models/builtin:haiku:three")[0], 404)
        one, two = self.w.get("/v1/info")[2]["adapters"]
        self.assertEqual((one["name"], one["scale"], two["name"], two["scale"]), ("one", 1, "two", 0.5))
        self.assertRegex(one["hash"] + two["hash"], "^[0-9a-f]{128}$")
        self.assertNotEqual(one["hash"], two["hash"])
        self.assertEqual(one["memory_bytes"], two["memory_bytes"])

    def test_requests_choose_by_field_or_by_model(self):
        texts = {name: self.text(lora=name) for name in ("one", "two")} | {None: self.text()}
        self.assertEqual(len(set(texts.values())), 3, texts)
        for name in ("one", "two"):
            model = f"builtin:haiku:{name}"
            status, _, answer = self.chat(model=model)
            self.assertEqual((status, answer["model"], answer["choices"][0]["message"]["content"]), (200, model, texts[name]))
            self.assertEqual(self.text(model=model, lora=name), texts[name])
            self.assertEqual(self.text(model="builtin:haiku", lora=name), texts[name])
        self.assertEqual(self.text(lora=None), texts[None])

    def test_a_worker_without_them_says_the_same_as_one_that_has_them(self):
        with Worker() as plain:
            status, _, answer = self.chat(plain)
            self.assertEqual((status, answer["choices"][0]["message"]["content"]), (200, self.text()))
            status, _, answer = self.chat(plain, lora="one")
            self.assertEqual((status, answer["error"]["code"]), (404, "model_not_found"))
            self.assertIn("(there are: none)", answer["error"]["message"])

    def test_they_share_a_batch_and_no_cache(self):
        alone = {name: self.text(lora=name) for name in ("one", "two", None)}
        cached = [self.chat(lora=name)[2]["usage"]["prompt_tokens_details"]["cached_tokens"] for name in ("one", "two", None)]
        self.assertEqual(len(set(cached)), 1, cached)
        names = [("one", "two", None)[i % 3] for i in range(12)]
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            for name, text in zip(names, pool.map(lambda name: self.text(lora=name), names)):
                self.assertEqual(text, alone[name], name)

    def test_the_native_route_and_embeddings(self):
        said = {}
        for name in ("one", None):
            events = self.w.generate(prompt="the sea", max_tokens=12, temperature=0, lora=name)
            started = next(data for _, kind, data in events if kind == "started")
            self.assertEqual(started["model"], "builtin:haiku" + (f":{name}" if name else ""))
            said[name] = [data["token_id"] for _, kind, data in events if kind == "token"]
        self.assertNotEqual(said["one"], said[None])
        vectors = [self.w.post("/v1/embeddings", {"input": "the sea", "lora": name})[2] for name in ("one", "two", None)]
        self.assertEqual(vectors[0]["model"], "builtin:haiku:one")
        self.assertEqual(len({json.dumps(v["data"][0]["embedding"]) for v in vectors}), 3)

    def test_unknown_names_are_errors_that_list_those_that_there_are(self):
        for path, body in (("/v1/chat/completions", {"messages": USER, "lora": "three"}), ("/v1/completions", {"prompt": "a", "model": "builtin:haiku:three"}),
                           ("/v1/inference", {"prompt": "a", "lora": "three"}), ("/v1/embeddings", {"input": "a", "lora": "three"})):
            status, _, answer = self.w.post(path, body)
            self.assertEqual((status, answer["error"]["code"]), (404, "model_not_found"), path)
            self.assertIn("(there are: one, two)", answer["error"]["message"])
        status, _, answer = self.chat(model="builtin:haiku:one", lora="two")
        self.assertEqual(status, 400, answer)
        self.assertEqual(self.chat(lora=5)[0], 400)

    def test_what_does_not_fit_is_refused_before_serving(self):
        wrong, foreign = f"{self.folder.name}/wrong.gguf", f"{self.folder.name}/foreign.gguf"
        write_adapter(wrong, 1, rename=lambda name: name.replace("blk.0.", "blk.77."))
        write_adapter(foreign, 1, arch="gemma3")
        for flags, says in ((["--lora", f"x={wrong}"], "is not in this model"), (["--lora", f"x={foreign}"], "is for architecture 'gemma3'"),
                            (["--lora", f"x={self.folder.name}/none.gguf"], "none.gguf"), (["--lora", "x"], "must be NAME=PATH"),
                            (["--lora", f"x={self.paths['one']}", "--lora", f"x={self.paths['two']}"], "two adapters are called 'x'")):
            done = subprocess.run([BINARY, "serve", "-m", "builtin:haiku", "--local-mode", *flags], capture_output=True, text=True, timeout=60)
            self.assertNotEqual(done.returncode, 0, flags)
            self.assertIn(says, done.stdout + done.stderr)

    def test_commands_use_the_one_that_they_are_given(self):
        def generate(*flags):
            done = subprocess.run([BINARY, "generate", "-m", "builtin:haiku", "-p", "the sea", "-n", "12", "--json", *flags], capture_output=True, text=True, timeout=60)
            return done.returncode, json.loads(done.stdout or done.stderr)
        self.assertNotEqual(generate()[1]["tokens"], generate("--lora", f"a={self.paths['one']}")[1]["tokens"])
        code, answer = generate("--lora", f"a={self.paths['one']}", "--lora", f"b={self.paths['two']}")
        self.assertNotEqual(code, 0)
        self.assertIn("one adapter at most", json.dumps(answer))
        inspected = subprocess.run([pathlib.Path(BINARY).parent / "llorch-gguf", "inspect", "builtin:haiku", "--memory", "--json", "--lora", f"a={self.paths['one']}"], capture_output=True, text=True, timeout=60)
        self.assertEqual(json.loads(inspected.stdout)["adapter_bytes"], self.w.get("/v1/info")[2]["adapters"][0]["memory_bytes"])


if __name__ == "__main__":
    main()
