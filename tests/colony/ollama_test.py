"""Ollama's API on the queen, by the fields of its public documentation: what front ends that speak only that send and read."""
import datetime
import json
import shutil
import subprocess
import unittest

import gguf

from colony import BIN, STORIES, Colony, main, not_run, wait_for
from held_files import WHY_NOT, HeldFiles
from scopes_test import TOKEN, start

HI = [{"role": "user", "content": "Write a haiku about rain"}]
FINAL = {"model", "created_at", "done", "done_reason", "total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration"}


class Ollama(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.c = Colony().__enter__()
        cls.addClassCleanup(cls.c.close)
        cls.c.queen()
        cls.c.infer()

    def post(self, path, body, status=200):
        got, headers, answer = self.c.call("POST", path, body)
        self.assertEqual(got, status, answer)
        return answer, headers

    def lines(self, path, body):
        text, headers = self.post(path, body)
        self.assertEqual(headers["Content-Type"], "application/x-ndjson")
        self.assertTrue(text.endswith("\n"))
        return [json.loads(line) for line in text.splitlines()]

    def test_chat_streams_lines_by_default(self):
        body = {"model": "haiku", "messages": HI, "options": {"seed": 7, "temperature": 0, "num_predict": 12}}
        lines = self.lines("/api/chat", body)
        self.assertGreater(len(lines), 3)
        for line in lines[:-1]:
            self.assertEqual((set(line), line["message"]["role"], line["done"]), ({"model", "created_at", "message", "done"}, "assistant", False))
        last = lines[-1]
        self.assertEqual(set(last), FINAL | {"message"})
        self.assertEqual((last["done"], last["done_reason"], last["eval_count"], last["message"]["content"]), (True, "length", 12, ""))
        whole, _ = self.post("/api/chat", body | {"stream": False})
        self.assertEqual(whole["message"]["content"], "".join(line["message"]["content"] for line in lines))
        self.assertEqual((set(whole), whole["prompt_eval_count"]), (FINAL | {"message"}, last["prompt_eval_count"]))
        openai, _ = self.post("/v1/chat/completions", {"model": "haiku", "messages": HI, "seed": 7, "temperature": 0, "max_tokens": 12})
        self.assertEqual(whole["message"]["content"], openai["choices"][0]["message"]["content"], "the same model, the same answer")
        self.assertGreater(last["eval_duration"], 0)

    def test_generate(self):
        body = {"model": "haiku:latest", "prompt": HI[0]["content"], "options": {"temperature": 0, "num_predict": 8}}
        lines = self.lines("/api/generate", body)
        self.assertEqual(set(lines[0]), {"model", "created_at", "response", "done"})
        self.assertEqual(set(lines[-1]), FINAL | {"response"})
        whole, _ = self.post("/api/generate", body | {"stream": False})
        self.assertEqual(whole["response"], "".join(line["response"] for line in lines))
        chat, _ = self.post("/api/chat", {"model": "haiku", "messages": HI, "stream": False, "options": body["options"]})
        self.assertEqual(chat["message"]["content"], whole["response"], "the prompt is one user message")

    def test_a_format_is_held(self):
        schema = {"type": "object", "properties": {"bird": {"enum": ["owl", "crow"]}}, "required": ["bird"], "additionalProperties": False}
        for form, check in ((schema, lambda v: v["bird"] in ("owl", "crow")), ("json", lambda v: isinstance(v, dict))):
            answer, _ = self.post("/api/chat", {"model": "haiku", "messages": HI, "stream": False, "format": form, "options": {"num_predict": 200}})
            if answer["done_reason"] == "stop":
                self.assertTrue(check(json.loads(answer["message"]["content"])), answer)
        self.assertEqual(answer["message"]["role"], "assistant")

    def test_stop_and_ignored_options(self):
        body = {"model": "haiku", "messages": HI, "stream": False, "keep_alive": "5m", "options": {"stop": ["a", "e"], "num_ctx": 4096, "num_gpu": 1, "num_predict": -1}}
        answer, headers = self.post("/api/chat", body)
        self.assertFalse(set("ae") & set(answer["message"]["content"]))
        self.assertLessEqual({"keep_alive", "options.num_ctx", "options.num_gpu"}, set(headers["X-Llorch-Ignored"].split(", ")))

    def test_errors_have_its_shape(self):
        for path, body, status, words in (
            ("/api/chat", {"model": "no-such", "messages": HI}, 404, "model"),
            ("/api/chat", {"messages": HI}, 400, "model is required"),
            ("/api/chat", {"model": "haiku"}, 400, "messages"),
            ("/api/chat", {"model": "haiku", "messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, 400, "messages[0].images: pictures"),
            ("/api/chat", {"model": "haiku", "messages": HI, "options": {"temperature": "x"}}, 400, "options.temperature"),
            ("/api/chat", {"model": "haiku", "messages": HI, "format": "xml"}, 400, "format"),
            ("/api/generate", {"model": "haiku", "prompt": "x", "raw": True}, 400, "/v1/completions"),
            ("/api/generate", {"model": "haiku", "prompt": "x", "suffix": "y"}, 400, "suffix"),
            ("/api/chat", {"model": "haiku", "messages": [{"role": "user", "content": 7}]}, 400, "messages[0].content"),
            ("/api/chat", {"model": "haiku", "messages": [*HI, {"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages[1].content"),
            ("/api/chat", {"model": "haiku", "messages": HI, "options": {"seed": "x"}}, 400, "options.seed"),
            ("/api/chat", {"model": "haiku", "messages": HI, "options": {"top_k": "x"}}, 400, "options.top_k"),
            ("/api/chat", {"model": "haiku", "messages": HI, "options": {"repeat_penalty": -1}}, 400, "options.repeat_penalty"),
            ("/api/show", {"model": "no-such"}, 404, "model"),
            ("/api/show", {}, 400, "model is required"),
        ):
            answer, _ = self.post(path, body, status)
            self.assertEqual(list(answer), ["error"], answer)
            self.assertIn(words, answer["error"])

    def test_bodies_that_are_read_on_the_loop_are_short(self):
        for path in ("/api/show", "/api/pull", "/v1/keys", "/v1/join-tokens"):
            self.assertEqual(self.c.call("POST", path, {"model": "haiku", "filler": [[1]] * 20_000})[0], 413, path)

    def test_parts_of_text_are_joined(self):
        options = {"temperature": 0, "num_predict": 6}
        one, _ = self.post("/api/chat", {"model": "haiku", "messages": [{"role": "user", "content": "rain\nwind"}], "stream": False, "options": options})
        parts = [{"type": "text", "text": "rain"}, {"type": "text", "text": "wind"}]
        two, _ = self.post("/api/chat", {"model": "haiku", "messages": [{"role": "user", "content": parts}], "stream": False, "options": options})
        self.assertEqual((two["message"], two["prompt_eval_count"]), (one["message"], one["prompt_eval_count"]))

    def test_values_of_its_clients_that_name_nothing(self):
        options = {"temperature": 0, "num_predict": 6}
        plain, _ = self.post("/api/chat", {"model": "haiku", "messages": HI, "stream": False, "options": options})
        free, _ = self.post("/api/chat", {"model": "haiku", "messages": HI, "stream": False, "options": {"temperature": 0}})
        for without in (0, -1, -2):  # no limit, as in Ollama itself
            answer, _ = self.post("/api/chat", {"model": "haiku", "messages": HI, "stream": False, "options": {"temperature": 0, "num_predict": without}})
            self.assertEqual(answer["message"], free["message"], without)
        for more in ({"seed": -1}, {"repeat_penalty": 0}, {"repeat_penalty": 0.0}, {"top_k": 10**6}, {"top_k": -1}):
            answer, _ = self.post("/api/chat", {"model": "haiku", "messages": HI, "stream": False, "options": options | more})
            self.assertEqual(answer["message"], plain["message"], more)

    def test_without_a_question_the_model_is_loaded(self):
        for path, body, said in (("/api/chat", {"messages": []}, "message"), ("/api/generate", {}, "response"), ("/api/generate", {"prompt": "", "keep_alive": "5m"}, "response")):
            answer, headers = self.post(path, {"model": "haiku:latest"} | body)
            self.assertEqual((set(answer), answer["done"], answer["done_reason"]), ({"model", "created_at", "done", "done_reason", said}, True, "load"), path)
        self.assertEqual(headers["X-Llorch-Ignored"], "keep_alive")
        self.post("/api/generate", {"model": "haiku", "options": {"temperature": "x"}}, 400)

    def test_lists(self):
        tags = self.c.call("GET", "/api/tags")[2]["models"]
        self.assertIn("builtin:haiku", [m["name"] for m in tags])
        for m in tags:
            self.assertLessEqual({"name", "model", "modified_at", "size", "digest", "details"}, set(m))
            self.assertLessEqual({"format", "family", "families", "parameter_size", "quantization_level"}, set(m["details"]))
        running = self.c.call("GET", "/api/ps")[2]["models"]
        self.assertEqual([m["name"] for m in running], ["builtin:haiku"])
        self.assertLessEqual({"size", "size_vram", "expires_at", "digest", "details"}, set(running[0]))
        shown, _ = self.post("/api/show", {"model": "haiku"})
        self.assertLessEqual({"details", "model_info", "capabilities", "template", "parameters", "modelfile"}, set(shown))
        self.assertEqual(shown["capabilities"], ["completion"], "its template shows no tools and no thoughts")
        self.assertRegex(self.c.call("GET", "/api/version")[2]["version"], r"^\d+\.\d+\.\d+$")

    def test_pull(self):
        lines = self.lines("/api/pull", {"model": "builtin:haiku"})
        self.assertIn("status", lines[0])
        self.assertEqual(self.post("/api/pull", {"name": "haiku", "stream": False})[0], {"status": "success"})
        self.assertEqual(lines[-1], {"status": "success"})

    def test_embed(self):
        answer, headers = self.post("/api/embed", {"model": "haiku", "input": ["one", "two"], "truncate": True})
        openai, _ = self.post("/v1/embeddings", {"model": "haiku", "input": ["one", "two"]})
        self.assertEqual(answer["embeddings"], [row["embedding"] for row in openai["data"]])
        self.assertEqual(answer["prompt_eval_count"], openai["usage"]["prompt_tokens"])
        self.assertNotIn("X-Llorch-Ignored", headers)
        self.assertGreater(answer["total_duration"], 0)
        self.assertEqual(list(self.post("/api/embed", {"model": "haiku", "input": 7}, 400)[0]), ["error"])
        old, _ = self.post("/api/embeddings", {"model": "haiku:latest", "prompt": "one"})
        self.assertEqual(old, {"embedding": answer["embeddings"][0]})
        for body in ({"model": "haiku"}, {"model": "haiku", "prompt": ["one"]}):
            self.assertIn("prompt", self.post("/api/embeddings", body, 400)[0]["error"])

    def test_a_text_that_is_longer_than_the_context_is_cut_unless_told_otherwise(self):
        text = "rain " * 2000
        cut, _ = self.post("/api/embed", {"model": "haiku", "input": [text, "one"]})
        self.assertGreater(cut["prompt_eval_count"], 200)
        self.assertEqual(self.post("/api/embed", {"model": "haiku", "input": text + "sun"})[0]["embeddings"], cut["embeddings"][:1], "what stands behind it is not seen")
        self.assertIn("256 tokens", self.post("/api/embed", {"model": "haiku", "input": text, "truncate": False}, 400)[0]["error"])
        self.post("/v1/embeddings", {"model": "haiku", "input": text}, 400)

    def test_commands_of_its_documentation(self):
        """`curl URL -d JSON` calls the body a form; a page may not."""
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        for path, body in (("/api/generate", {"model": "haiku", "prompt": "x", "stream": False, "options": {"num_predict": 2}}), ("/api/show", {"model": "haiku"}), ("/v1/chat/completions", {"model": "haiku", "messages": HI, "max_tokens": 2})):
            self.assertEqual(self.c.call("POST", path, body, form)[0], 200, path)
            for more in ({"Origin": self.c.url}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
                self.assertIn(self.c.call("POST", path, body, form | more)[0], (403, 415), (path, more))
            self.assertEqual(self.c.call("POST", path, body, {"Content-Type": "text/plain"})[0], 415, path)
        r = subprocess.run(["curl", "-sS", *(["-k"] if self.c.tls else []), f"{self.c.url}/api/generate", "-d", '{"model": "haiku", "prompt": "Why?", "stream": false, "options": {"num_predict": 3}}'], capture_output=True, text=True, timeout=60)
        self.assertTrue(json.loads(r.stdout)["done"], r)

    def test_names_and_sizes_in_the_list(self):
        self.assertEqual(self.c.job({"operation": "model_alias", "name": "poet", "model": "builtin:haiku"})[-1][1], "end")
        listed = {m["name"]: m for m in self.c.call("GET", "/api/tags")[2]["models"]}
        self.assertEqual(listed["poet"]["size"], listed["builtin:haiku"]["size"])
        self.assertTrue(all(m["size"] > 0 and m["name"] == m["model"] for m in listed.values()), listed)
        shown, _ = self.post("/api/show", {"model": "poet"})
        info = shown["model_info"]
        self.assertEqual(info[info["general.architecture"] + ".context_length"], 256)
        self.assertRegex(shown["modified_at"], r"^\d{4}-")


@unittest.skipUnless(STORIES.exists(), "the test data is not there")
class Files(unittest.TestCase):
    """Models that a person has named by their path: without a chat template, and quantized as the file says."""

    def test_named_files_are_listed_with_their_own_size(self):
        with Colony() as c:
            c.queen()
            self.assertEqual(c.job({"operation": "model_alias", "name": "tales", "model": f"file:{STORIES}"})[-1][1], "end")
            listed = lambda: {m["name"]: m["size"] for m in c.call("GET", "/api/tags")[2]["models"]}
            self.assertEqual(listed()["tales"], STORIES.stat().st_size, "it is not loaded")
            self.assertEqual(c.job({"operation": "infer", "model": "tales", "prompt": "x", "raw": True, "max_tokens": 2})[-1][1], "end")
            for name in ("tales", f"file:{STORIES}"):
                self.assertEqual(listed()[name], STORIES.stat().st_size, "it is loaded")

    def test_a_file_on_a_disk_that_hangs_holds_nobody_up(self):
        if WHY_NOT:
            return not_run(WHY_NOT)
        with Colony() as c:
            gone = c.home / "gone-disk/gone.gguf"
            gone.parent.mkdir()
            shutil.copy(STORIES, gone)
            with HeldFiles(c, "llorch-queen", "/gone-disk/") as files:
                c.queen("--no-own-hive")
            for name, path in (("gone", gone), ("tales", STORIES)):
                self.assertEqual(c.job({"operation": "model_alias", "name": name, "model": f"file:{path}"})[-1][1], "end")
            listed = lambda: {m["name"]: m["size"] for m in c.call("GET", "/api/tags", timeout=20)[2]["models"]}
            sizes = {"gone": STORIES.stat().st_size, "tales": STORIES.stat().st_size}
            self.assertEqual({n: listed()[n] for n in sizes}, sizes)
            files.hold()
            try:
                for _ in range(12):  # each look would take a thread of its own
                    self.assertEqual({n: listed()[n] for n in sizes}, sizes | {"gone": 0}, "what is not known in time is 0")
                self.assertEqual(c.job({"operation": "model_alias", "name": "other", "model": f"file:{STORIES}"})[-1][1], "end", "what she keeps is written")
            finally:
                files.go_on()
            wait_for(lambda: {n: listed()[n] for n in sizes} == sizes)

    def test_a_prompt_without_a_template_is_completed(self):
        with Colony() as c:
            c.queen()
            asked = {"model": f"file:{STORIES}", "prompt": "Once upon a time", "stream": False, "options": {"temperature": 0, "num_predict": 8}}
            status, headers, answer = c.call("POST", "/api/generate", asked | {"system": "Be brief"})
            self.assertEqual(status, 200, answer)
            self.assertEqual(headers["X-Llorch-Ignored"], "system")
            _, _, plain = c.call("POST", "/v1/completions", {"model": f"file:{STORIES}", "prompt": "Once upon a time", "max_tokens": 8, "temperature": 0})
            self.assertEqual(answer["response"], plain["choices"][0]["text"])
            self.assertIn("there was", answer["response"])

    def test_a_quantization_is_the_one_that_the_file_states(self):
        with Colony() as c:
            model = c.home / "m.gguf"
            # As of a Gemma with a large vocabulary: more bytes are of another type than of the matrices'.
            subprocess.run([BIN / "llorch-gguf", "synth", "--shape", "tiny-llama", "--type", "Q8_0", c.home / "whole.gguf"], check=True, capture_output=True)
            reader = gguf.GGUFReader(c.home / "whole.gguf")
            names = {t.tensor_type.name for t in reader.tensors}
            self.assertIn("Q8_0", names)
            subprocess.run([BIN / "llorch-gguf", "quantize", c.home / "whole.gguf", model, "F16"], check=True, capture_output=True)
            stated = gguf.GGUFReader(model).fields["general.file_type"]
            self.assertEqual(int(stated.parts[stated.data[0]][0]), int(gguf.LlamaFileType.MOSTLY_F16), "what was written says what it is")
            c.queen()
            self.assertEqual(c.job({"operation": "model_alias", "name": "m", "model": f"file:{model}"})[-1][1], "end")
            self.assertEqual(c.job({"operation": "infer", "model": "m", "prompt": "x", "raw": True, "max_tokens": 2})[-1][1], "end")
            self.assertEqual([w["quant"] for w in c.call("GET", "/v1/status")[2]["workers"]], ["F16"])
            self.assertEqual({m["name"]: m["details"]["quantization_level"] for m in c.call("GET", "/api/tags")[2]["models"]}["m"], "F16")
            self.assertEqual(c.call("POST", "/api/show", {"model": "m"})[2]["details"]["quantization_level"], "F16")
            self.assertIn("F16", next(line for line in c.keeper("model", "list").stdout.splitlines() if "m.gguf" in line))


class Capabilities(unittest.TestCase):
    def test_of_a_model_whose_template_thinks(self):
        with Colony() as c:
            template = c.home / "thinks.jinja"
            template.write_text("{{ messages[0].content }}<think></think>")
            settings = c.home / ".config/llorch/config.toml"
            settings.parent.mkdir(parents=True)
            settings.write_text(f'[model."builtin:haiku"]\nchat-template = "{template}"\n')
            c.queen()
            shown = lambda: c.call("POST", "/api/show", {"model": "haiku"})[2]["capabilities"]
            self.assertEqual(shown(), ["completion"], "no worker has it loaded")
            c.infer(max_tokens=2)
            wait_for(lambda: shown() == ["completion", "thinking"], 10)


class Expiry(unittest.TestCase):
    def left(self, c):
        at = c.call("GET", "/api/ps")[2]["models"][0]["expires_at"]
        return (datetime.datetime.fromisoformat(at.replace("Z", "+00:00")) - datetime.datetime.now(datetime.UTC)).total_seconds()

    def test_a_worker_that_stays_expires_in_the_far_future(self):
        years = 50 * 365 * 86400
        with Colony() as c:
            c.queen("--idle-stop-sec", "300", heartbeat_s=1)
            c.infer(max_tokens=2)
            wait_for(lambda: 200 < self.left(c) <= 300, 10)
            self.assertEqual(c.job({"operation": "model_pin", "model": "haiku"})[-1][1], "end")
            self.assertGreater(self.left(c), years, "pinned")
        with Colony() as c:
            c.queen("--idle-stop-sec", "0")
            c.infer(max_tokens=2)
            self.assertGreater(self.left(c), years, "nobody is stopped")


class Keys(unittest.TestCase):
    def test_the_same_keys_and_scopes(self):
        with Colony() as c:
            ann, _ = start(c)
            body = {"model": "haiku", "messages": HI, "stream": False, "options": {"num_predict": 1}}
            for method, path, sent in (("POST", "/api/chat", body), ("GET", "/api/tags", None), ("POST", "/api/pull", {"model": "haiku"})):
                status, _, answer = c.call(method, path, sent)
                self.assertEqual((status, list(answer)), (401, ["error"]), path)
            self.assertEqual(c.call("POST", "/api/chat", body, ann)[0], 200)
            status, _, answer = c.call("POST", "/api/pull", {"model": "haiku"}, ann)
            self.assertEqual((status, list(answer)), (403, ["error"]))
            self.assertEqual(c.call("POST", "/api/pull", {"model": "haiku", "stream": False}, {"Authorization": "Bearer " + TOKEN})[0], 200)


if __name__ == "__main__":
    main()
