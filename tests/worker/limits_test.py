"""What clients of other servers send every day: many stop strings, -1 for no limit, many choices, no Content-Type; a last message of the assistant that
goes on; a conversation that is cut, but for the system's message."""
import json
import socket
import tempfile
import unittest

from harness import USER, Worker, main

SYSTEM = {"role": "system", "content": "the sea the sea"}
# Shows what a template may do to a text: trims it, and ends each message with a mark.
TEMPLATE = "{% for m in messages %}<|{{ m.role if m.role != 'system' else 'user' }}|>{{ m.content | trim }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"


class Limits(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.file = tempfile.NamedTemporaryFile("w", suffix=".jinja")
        cls.file.write(TEMPLATE)
        cls.file.flush()
        cls.w = Worker("--chat-template", cls.file.name)

    @classmethod
    def tearDownClass(cls):
        cls.w.stop()
        cls.file.close()

    def chat(self, **fields):
        status, _, body = self.w.post("/v1/chat/completions", {"messages": USER, "max_tokens": 4, "ignore_eos": True} | fields)
        return status, body

    def tokens(self, **fields):
        status, _, body = self.w.post("/tokenize", fields)
        self.assertEqual(status, 200, body)
        return body["tokens"]

    def spelled(self, tokens):
        return self.w.post("/detokenize", {"tokens": tokens})[2]["content"]

    def test_stop_strings(self):
        for route, fields in (("/v1/chat/completions", {"messages": USER, "max_tokens": 4}), ("/v1/completions", {"prompt": "a", "max_tokens": 4}), ("/v1/inference", {"prompt": "a", "max_tokens": 4})):
            for count, want in ((16, (200, 202)), (17, (400,))):
                self.assertIn(self.w.post(route, fields | {"stop": [f"stop {i}" for i in range(count)]})[0], want, (route, count))
        _, body = self.chat(temperature=0, max_tokens=40, ignore_eos=False)
        text = body["choices"][0]["message"]["content"]
        word = text.split()[-1]
        _, body = self.chat(temperature=0, max_tokens=40, ignore_eos=False, stop=[f"none {i}" for i in range(15)] + [word])
        self.assertEqual((body["choices"][0]["message"]["content"], body["choices"][0]["finish_reason"]), (text[: text.index(word)], "stop"), "the sixteenth counts")

    def test_no_limit_of_tokens(self):
        for fields in ({"max_tokens": -1}, {"max_completion_tokens": -1}, {"max_tokens": 3, "max_completion_tokens": -1}):
            status, body = self.chat(**fields)
            self.assertEqual((status, body["usage"]["total_tokens"]), (200, 256), fields)
        status, _, body = self.w.post("/v1/completions", {"prompt": "a", "max_tokens": -1, "ignore_eos": True})
        self.assertEqual((status, body["usage"]["total_tokens"]), (200, 256))
        self.assertEqual(self.w.post("/v1/completions", {"prompt": "a", "ignore_eos": True})[2]["usage"]["completion_tokens"], 16)
        end = self.w.generate(prompt="a", max_tokens=-1, ignore_eos=True)[-1][2]
        self.assertEqual(end["tokens_in"] + end["tokens_out"], 256)
        for route, fields in (("/v1/chat/completions", {"messages": USER}), ("/v1/completions", {"prompt": "a"}), ("/v1/inference", {"prompt": "a"})):
            self.assertEqual(self.w.post(route, fields | {"max_tokens": -2})[0], 400, route)

    def test_choices(self):
        status, body = self.chat(n=32, max_tokens=2)
        self.assertEqual((status, [c["index"] for c in body["choices"]]), (200, list(range(32))))
        self.assertEqual(self.chat(n=33)[0], 400)

    def test_a_body_without_content_type(self):
        body = json.dumps({"prompt": "a", "max_tokens": 1})
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost:{self.w.port}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
        for more, status in (("", b" 200 "), ("Content-Type: text/plain\r\n", b" 415 "), ("Content-Type:\r\n", b" 415 "), (f"Origin: http://localhost:{self.w.port}\r\n", b" 415 "), ("Origin: http://evil.example\r\n", b" 4")):
            with socket.create_connection(("127.0.0.1", self.w.port), 10) as s:
                s.sendall((head + more + "\r\n" + body).encode())
                got = b""
                while part := s.recv(65536):
                    got += part
            self.assertIn(status, got.split(b"\r\n")[0], more)

    def test_an_answer_that_goes_on(self):
        begun = {"role": "assistant", "content": "The waves are  "}
        want = "<|user|>" + USER[0]["content"] + "<|end|><|assistant|>The waves are  "
        for fields in ({"messages": [*USER, begun], "continue_final_message": True}, {"messages": [*USER, begun], "continue_final_message": True, "add_generation_prompt": False}, {"messages": [*USER, begun | {"prefix": True}]}, {"messages": [*USER, begun | {"tool_calls": []}], "continue_final_message": True}):
            self.assertEqual(self.spelled(self.tokens(**fields)), want, fields)
        self.assertEqual(self.spelled(self.tokens(messages=[*USER, begun])), "<|user|>" + USER[0]["content"] + "<|end|><|assistant|>The waves are<|end|><|assistant|>", "as it is, without being asked")
        self.assertEqual(self.spelled(self.tokens(messages=USER, add_generation_prompt=False)), "<|user|>" + USER[0]["content"] + "<|end|>")
        ids = self.tokens(messages=[*USER, begun], continue_final_message=True)
        raw = self.w.post("/v1/completions", {"prompt": ids, "max_tokens": 8, "temperature": 0, "ignore_eos": True})[2]["choices"][0]["text"]
        status, body = self.chat(messages=[*USER, begun], continue_final_message=True, max_tokens=8, temperature=0)
        self.assertEqual((status, body["choices"][0]["message"]["content"], body["usage"]["prompt_tokens"]), (200, raw, len(ids)))
        # Anthropic's API: a last message of the assistant is the beginning of the answer.
        status, _, body = self.w.post("/v1/messages", {"messages": [*USER, begun], "max_tokens": 8, "temperature": 0, "ignore_eos": True})
        self.assertEqual((status, body["content"][0]["text"], body["usage"]["input_tokens"] + body["usage"]["cache_read_input_tokens"]), (200, raw, len(ids)))
        self.assertEqual(self.w.post("/v1/messages/count_tokens", {"messages": [*USER, begun]})[2]["input_tokens"], len(ids))

    def test_what_cannot_go_on(self):
        begun = {"role": "assistant", "content": "x"}
        for fields, place in (({"messages": USER, "continue_final_message": True}, "continue_final_message"), ({"messages": [*USER, begun | {"content": ""}], "continue_final_message": True}, "continue_final_message"),
                              ({"messages": [*USER, begun], "continue_final_message": True, "add_generation_prompt": True}, "continue_final_message"), ({"messages": [*USER, begun], "continue_final_message": True, "regex": "a+"}, "continue_final_message"),
                              ({"messages": [begun | {"prefix": True}, *USER]}, "messages[0].prefix"), ({"messages": [USER[0] | {"prefix": True}]}, "messages[0].prefix"), ({"messages": [begun | {"prefix": 1}]}, "messages[0].prefix")):
            status, body = self.chat(**fields)
            self.assertEqual((status, body["error"]["param"]), (400, place), fields)
        with tempfile.NamedTemporaryFile("w", suffix=".jinja") as f:
            f.write("{{ messages[0].content }}")
            f.flush()
            with Worker("--chat-template", f.name) as w:
                status, _, body = w.post("/v1/chat/completions", {"messages": [*USER, begun], "continue_final_message": True, "max_tokens": 2})
                self.assertEqual((status, body["error"]["param"]), (400, "messages"))
                self.assertIn("does not show the text", body["error"]["message"])

    def test_truncation_keeps_the_system_message_and_whole_turns(self):
        turns = [{"role": role, "content": f"{role} {i} " + "the wind " * 12} for i in range(8) for role in ("user", "assistant")]
        last = {"role": "user", "content": "and now"}
        status, body = self.chat(messages=[SYSTEM, *turns, last])
        self.assertEqual((status, body["error"]["code"]), (400, "context_length_exceeded"))
        status, body = self.chat(messages=[SYSTEM, *turns, last], truncation="auto")
        self.assertEqual(status, 200, body)
        kept = self.spelled(self.tokens(messages=[SYSTEM, *turns, last], truncation="auto", max_tokens=4))
        self.assertTrue(kept.startswith("<|user|>the sea the sea<|end|><|user|>user "), kept)
        self.assertTrue(kept.endswith("<|end|><|user|>and now<|end|><|assistant|>"), kept)
        whole = [self.spelled(self.tokens(messages=[SYSTEM, *turns[2 * i :], last])) for i in range(1, 9)]
        self.assertIn(kept, whole, "whole turns leave")
        longer = len(self.tokens(messages=[SYSTEM, *turns[2 * whole.index(kept) :], last]))
        self.assertGreater(longer + 4, 256, "no more than has to")
        full = len(self.tokens(messages=[SYSTEM, *turns, last]))
        self.assertEqual((body["truncation"]["dropped_tokens"], body["usage"]["prompt_tokens"]), (full - body["usage"]["prompt_tokens"], len(self.tokens(messages=[SYSTEM, *turns[2 * whole.index(kept) + 2 :], last]))))
        for path, fields in (("/v1/responses", {"input": [*turns, last], "instructions": SYSTEM["content"], "max_output_tokens": 4, "truncation": "auto"}),):
            status, _, body = self.w.post(path, fields)
            self.assertEqual((status, body["usage"]["input_tokens"]), (200, full - (full - len(self.tokens(messages=[SYSTEM, *turns[2 * whole.index(kept) + 2 :], last])))), body)

    def test_truncation_of_one_long_message(self):
        long = {"role": "user", "content": "begin " + "the wind " * 300 + "end"}
        kept = self.spelled(self.tokens(messages=[SYSTEM, long], truncation="auto", max_tokens=4))
        self.assertTrue(kept.startswith("<|user|>the sea the sea<|end|><|user|>"), kept[:80])
        self.assertTrue(kept.endswith(" end<|end|><|assistant|>"), kept[-80:])
        self.assertNotIn("begin", kept)
        status, body = self.chat(messages=[SYSTEM, long], truncation="auto")
        self.assertEqual((status, body["usage"]["total_tokens"]), (200, 256))
        status, body = self.chat(messages=[SYSTEM | {"content": "the wind " * 300}, USER[0]], truncation="auto")
        self.assertEqual((status, body["error"]["code"]), (400, "context_length_exceeded"), "the system's message stays whole")


if __name__ == "__main__":
    main()
