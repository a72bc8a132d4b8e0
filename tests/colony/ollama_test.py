"""Ollama's API on the queen, by the fields of its public documentation: what front ends that speak only that send and read."""
import json
import unittest

from colony import Colony, main
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
            ("/api/show", {"model": "no-such"}, 404, "model"),
            ("/api/show", {}, 400, "model is required"),
        ):
            answer, _ = self.post(path, body, status)
            self.assertEqual(list(answer), ["error"], answer)
            self.assertIn(words, answer["error"])

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
        self.assertIn("truncate", headers["X-Llorch-Ignored"])
        self.assertEqual(list(self.post("/api/embed", {"model": "haiku", "input": 7}, 400)[0]), ["error"])


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
