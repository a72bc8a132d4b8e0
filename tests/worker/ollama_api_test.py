"""Ollama's API on a worker without a queen: what clients ask before they chat, and names as they write them."""
import tempfile
import unittest

from harness import USER, Worker, main


class Ollama(unittest.TestCase):
    def test_a_worker_alone(self):
        with Worker("--strict-model") as w:
            self.assertRegex(w.get("/api/version")[2]["version"], r"^\d+\.\d+\.\d+$")
            models = w.get("/api/tags")[2]["models"]
            self.assertEqual([m["name"] for m in models], [w.get("/v1/info")[2]["model_id"]])
            self.assertLessEqual({"name", "model", "modified_at", "size", "digest", "details"}, set(models[0]))
            for path, body in (("/api/chat", {"messages": USER}), ("/api/generate", {"prompt": "x"}), ("/api/embed", {"input": "x"})):
                status, _, answer = w.post(path, {"model": "builtin:haiku:latest", "stream": False, "options": {"num_predict": 2}} | body)
                self.assertEqual(status, 200, answer)
                self.assertEqual(w.post(path, {"model": "builtin:haiku:other"} | body)[0], 404)

    def test_capabilities_are_the_model_s(self):
        with Worker() as w:
            self.assertEqual(w.get("/health")[2]["capabilities"], ["text-gen", "chat", "embedding"])
        with tempfile.NamedTemporaryFile("w", suffix=".jinja") as f:
            f.write("{{ messages[0].content }}<think></think>")
            f.flush()
            with Worker("--chat-template", f.name) as w:
                self.assertEqual(w.get("/health")[2]["capabilities"], ["text-gen", "chat", "embedding", "thinking"])


if __name__ == "__main__":
    main()
