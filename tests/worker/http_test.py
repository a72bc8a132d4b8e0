"""HTTP from a raw socket against a worker with a key: the head is decided on before the body, places stay for keys, answers arrive."""
import contextlib
import json
import resource
import socket
import unittest

from harness import Worker, main

TOKEN = "operator-token-0123456789"
KEY = f"Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
CHAT = json.dumps({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2})


class Http(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.w = Worker(local=False, env={"LLORCH_API_TOKEN": TOKEN})

    @classmethod
    def tearDownClass(cls):
        cls.w.stop()

    def ask(self, headers, body=b"", half=False, until=None, path="/v1/chat/completions"):
        """What comes back, until the end or until `until` is in it, within five seconds."""
        with socket.create_connection(("127.0.0.1", self.w.port), 5) as s:
            s.sendall(f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n".encode() + body)
            if half:
                s.shutdown(socket.SHUT_WR)
            got = b""
            while part := s.recv(65536):
                got += part
                if until and until in got:
                    break
            return got

    def chat(self, more="", half=False):
        return self.ask(KEY + more + f"Connection: close\r\nContent-Length: {len(CHAT)}\r\n", CHAT.encode(), half)

    def test_without_a_key_no_body_is_waited_for(self):  # 15.9
        for expect in ("", "Expect: 100-continue\r\n"):
            self.assertTrue(self.ask(expect + "Content-Length: 1000\r\n").startswith(b"HTTP/1.1 401"), expect)

    def test_expect_in_any_spelling(self):  # 15.24
        self.assertTrue(self.ask(KEY + "Content-Length: 1000\r\nExpect: 100-Continue\r\n", until=b"\r\n\r\n").startswith(b"HTTP/1.1 100"))

    def test_a_refusal_arrives_while_the_body_is_still_sent(self):  # 15.24
        self.assertTrue(self.ask(KEY + "Content-Length: 12000000\r\n", b"x" * 12_000_000).startswith(b"HTTP/1.1 413"))

    def test_a_client_that_closes_only_its_own_direction_is_answered(self):  # 15.24
        self.assertIn(b"HTTP/1.1 200", self.chat(half=True))

    def test_a_deadline_beyond_the_clock(self):  # 15.24
        for deadline in ("9999-01-01T00:00:00Z", str(1 << 45)):
            self.assertIn(b"HTTP/1.1 200", self.chat(f"X-Deadline: {deadline}\r\n"), deadline)

    def test_no_control_character_comes_back_in_a_header(self):  # 15.24
        _, headers, _ = self.w.post("/v1/chat/completions", json.loads(CHAT) | {"a\x01b\r\nX-Evil: 1": 1}, {"Authorization": "Bearer " + TOKEN})
        self.assertFalse([c for c in headers["X-Llorch-Ignored"] if ord(c) < 0x20])
        self.assertNotIn("X-Evil", headers)

    def test_strangers_take_no_place_that_a_key_needs(self):  # 15.9
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with contextlib.ExitStack() as all_of_them:
            for _ in range(4200):
                all_of_them.enter_context(socket.create_connection(("127.0.0.1", self.w.port), 5))
            self.assertEqual(self.w.get("/v1/models", {"Authorization": "Bearer " + TOKEN})[0], 200)


if __name__ == "__main__":
    main()
