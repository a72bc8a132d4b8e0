"""HTTP from a raw socket against a worker with a key: the head is decided on before the body, places stay for keys, answers arrive."""
import contextlib
import json
import os
import re
import resource
import socket
import ssl
import subprocess
import tempfile
import unittest

from harness import BINARY, Worker, main, wait_for

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


class Browsers(unittest.TestCase):
    """HEAD, OPTIONS and CORS: with a key, and two origins that may."""
    PAGE, PREFLIGHT = "http://localhost:3000", {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-stainless-os"}

    @classmethod
    def setUpClass(cls):
        cls.w = Worker("--cors-origin", "http://localhost:3000,https://app.example", local=False, env={"LLORCH_API_TOKEN": TOKEN})

    @classmethod
    def tearDownClass(cls):
        cls.w.stop()

    def keyed(self, **more):
        return {"Authorization": "Bearer " + TOKEN} | {name.replace("_", "-"): value for name, value in more.items()}

    def test_head_is_get_without_its_body(self):
        c = self.w.connection()
        for path in ("/health", "/v1/models", "/", "/v1/models/"):
            heads = []
            for method in ("GET", "HEAD"):
                c.request(method, path, headers=self.keyed())
                r = c.getresponse()
                body = r.read()
                self.assertEqual((r.status, len(body)), (200, int(r.headers["Content-Length"]) if method == "GET" else 0), (method, path))
                heads.append([(k, "" if k in ("X-Correlation-Id", "x-request-id") or path == "/health" and k == "Content-Length" else v) for k, v in r.getheaders()])
            self.assertEqual(*heads)
        self.assertEqual(self.w.call("HEAD", "/v1/models")[0], 401)
        self.assertEqual(self.w.call("HEAD", "/nope", headers=self.keyed())[0], 404)
        status, headers, _ = self.w.call("HEAD", "/v1/feed", headers=self.keyed())
        self.assertEqual((status, headers["Allow"]), (405, "GET, OPTIONS"), "a stream begins with its GET")

    def test_other_methods_are_told_which_there_are(self):
        for method, path, allow in (("PUT", "/v1/models", "GET, HEAD, OPTIONS"), ("DELETE", "/v1/chat/completions", "POST, OPTIONS"), ("GET", "/v1/completions", "POST, OPTIONS"), ("PATCH", "/v1/inference", "POST, GET, HEAD, OPTIONS")):
            status, headers, _ = self.w.call(method, path, headers=self.keyed())
            self.assertEqual((status, headers["Allow"]), (405, allow), path)
        status, headers, body = self.w.call("OPTIONS", "/v1/models", headers=self.keyed())
        self.assertEqual((status, headers["Allow"], headers["Content-Length"], body), (204, "GET, HEAD, OPTIONS", None, ""))
        self.assertEqual(self.w.call("OPTIONS", "/v1/models")[0], 401, "what is no preflight needs a key")

    def test_a_preflight_needs_no_key(self):
        status, headers, body = self.w.call("OPTIONS", "/v1/chat/completions", headers={"Origin": self.PAGE} | self.PREFLIGHT)
        self.assertEqual((status, headers["Access-Control-Allow-Origin"], headers["Access-Control-Allow-Methods"], body), (204, self.PAGE, "POST, OPTIONS", ""))
        self.assertEqual(headers.get_all("Vary"), ["Access-Control-Request-Headers", "Origin"])
        self.assertEqual(headers["Access-Control-Max-Age"], "3600")
        for name in ("authorization", "content-type", "x-api-key", "anthropic-version", "idempotency-key", "x-stainless-os"):
            self.assertIn(name, re.split(", ?", headers["Access-Control-Allow-Headers"].lower()), name)
        for origin in ("http://evil.example", "http://localhost:3001", "null", "https://localhost:3000"):
            status, headers, _ = self.w.call("OPTIONS", "/v1/chat/completions", headers={"Origin": origin} | self.PREFLIGHT)
            self.assertEqual((status, headers["Access-Control-Allow-Origin"]), (403, None), origin)

    def test_answers_errors_and_streams_may_be_read_by_pages_that_may(self):
        chat = json.loads(CHAT)
        asked = [("GET", "/v1/models", None, self.keyed(), 200), ("GET", "/v1/models", None, {}, 401), ("GET", "/nope", None, self.keyed(), 404), ("POST", "/v1/chat/completions", chat | {"n": 99}, self.keyed(), 400),
                 ("POST", "/v1/chat/completions", chat | {"stream": True}, self.keyed(), 200), ("POST", "/v1/completions", "x" * 9_000_000, self.keyed(), 413)]
        for method, path, body, headers, status in asked:
            got, told, _ = self.w.call(method, path, body, headers | {"Origin": self.PAGE})
            self.assertEqual((got, told["Access-Control-Allow-Origin"], told["Vary"]), (status, self.PAGE, "Origin"), path)
            self.assertIn("x-request-id", told["Access-Control-Expose-Headers"])
            self.assertIsNone(told["Access-Control-Allow-Credentials"])
        got, told, _ = self.w.call("GET", "/v1/models", None, self.keyed(Origin="http://evil.example"))
        self.assertEqual((got, told["Access-Control-Allow-Origin"], told["Vary"]), (200, None, "Origin"))
        got, told, _ = self.w.call("POST", "/v1/chat/completions", chat, self.keyed(Origin="http://evil.example"))
        self.assertEqual((got, told["Access-Control-Allow-Origin"]), (403, None))

    def test_all_origins_are_a_star(self):
        with Worker("--cors-origin", "*") as w:
            status, headers, _ = w.post("/v1/chat/completions", json.loads(CHAT), {"Origin": "http://any.example"})
            self.assertEqual((status, headers["Access-Control-Allow-Origin"], headers["Vary"]), (200, "*", None))
        bad = subprocess.run([BINARY, "serve", "-m", "builtin:haiku", "--local-mode", "--cors-origin", "localhost:3000"], capture_output=True, text=True, timeout=20)
        self.assertNotEqual(bad.returncode, 0)
        self.assertIn("is no origin", bad.stderr)


class Full(unittest.TestCase):
    def test_a_place_is_given_by_the_head_alone(self):  # 15.9, 15.10
        """Of a worker with one place: whoever has sent only its head holds it, and others are refused without their bodies."""
        with Worker("--max-batch", "1", "--queue-capacity", "0") as w, contextlib.ExitStack() as sockets:
            def head(path, length):
                s = sockets.enter_context(socket.create_connection(("127.0.0.1", w.port), 5))
                s.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n".encode())
                return s, s.recv(65536)

            first, told = head("/v1/chat/completions", len(CHAT))
            self.assertTrue(told.startswith(b"HTTP/1.1 100"), told)
            for path in ("/v1/inference", "/v1/completions", "/v1/embeddings", "/v1/chat/completions"):
                told = head(path, 8_000_000)[1]
                self.assertTrue(told.startswith(b"HTTP/1.1 429"), told)
                self.assertIn(b"QUEUE_FULL", told)
            first.sendall(CHAT.encode())
            self.assertTrue(first.recv(65536).startswith(b"HTTP/1.1 200"))
            # A client that leaves before its body gives the place back.
            wait_for(lambda: w.post("/v1/chat/completions", json.loads(CHAT))[0] == 200)
            left, told = head("/v1/inference", 8_000_000)
            self.assertTrue(told.startswith(b"HTTP/1.1 100"), told)
            self.assertEqual(w.post("/v1/chat/completions", json.loads(CHAT))[0], 429)
            left.close()
            wait_for(lambda: w.post("/v1/chat/completions", json.loads(CHAT))[0] == 200)


class Audited(unittest.TestCase):
    def test_what_cannot_be_audited_is_refused_until_it_can(self):
        """A full disk under --audit-required: 503 with a code of its own and Retry-After; public routes go on."""
        with tempfile.TemporaryDirectory() as d, Worker("--audit-log", f"{d}/audit", "--audit-required") as w:
            ask = {"prompt": "<|user|>a<|assistant|>", "max_tokens": 1}
            self.assertEqual(w.post("/v1/inference", ask)[0], 202)
            none = resource.prlimit(w.process.pid, resource.RLIMIT_FSIZE)

            def refused():
                resource.prlimit(w.process.pid, resource.RLIMIT_FSIZE, (os.stat(f"{d}/audit").st_size, none[1]))
                status, headers, body = w.post("/v1/inference", ask)  # its record is the first that is lost
                return status != 202 and (status, headers, body)

            status, headers, body = wait_for(refused)
            self.assertEqual((status, body["error"]["code"], body["error"]["type"]), (503, "AUDIT_UNAVAILABLE", "server_error"), body)
            self.assertEqual((headers["Retry-After"], headers["x-should-retry"]), ("1", None))
            self.assertEqual(w.get("/health")[0], 200)
            resource.prlimit(w.process.pid, resource.RLIMIT_FSIZE, none)
            wait_for(lambda: w.post("/v1/inference", ask)[0] == 202)


class Tls(unittest.TestCase):
    def test_the_end_of_an_answer_is_told_from_a_connection_that_broke(self):  # 15.24
        """close_notify after a whole answer and after a stream; none when the worker is killed in the middle."""
        with tempfile.TemporaryDirectory() as d:
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{d}/k", "-out", f"{d}/c", "-days", "1", "-subj", "/CN=localhost"], check=True, capture_output=True)
            w = Worker("--tls-cert", f"{d}/c", "--tls-key", f"{d}/k", wait=False)
            self.addCleanup(w.process.kill)
            context = ssl.create_default_context(cafile=f"{d}/c")

            def ask(method, path, body=""):
                plain = socket.create_connection(("127.0.0.1", w.port), 10)
                s = context.wrap_socket(plain, server_hostname="localhost", suppress_ragged_eofs=False)
                s.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
                return s

            def whole(s):
                with s:
                    return b"".join(iter(lambda: s.recv(65536), b""))

            def healthy():
                with contextlib.suppress(ConnectionRefusedError):
                    return whole(ask("GET", "/health")).startswith(b"HTTP/1.1 200")

            wait_for(healthy, 30)
            self.assertTrue(whole(ask("POST", "/v1/chat/completions", CHAT)).startswith(b"HTTP/1.1 200"))
            self.assertTrue(whole(ask("POST", "/v1/chat/completions", "x" * 12_000_000)).startswith(b"HTTP/1.1 413"), "a refusal arrives while the body is still sent")
            stream = json.dumps(json.loads(CHAT) | {"stream": True})
            self.assertTrue(whole(ask("POST", "/v1/chat/completions", stream)).endswith(b"0\r\n\r\n"))
            long = json.dumps(json.loads(CHAT) | {"stream": True, "max_tokens": 200, "ignore_eos": True})
            with ask("POST", "/v1/chat/completions", long) as s:
                self.assertTrue(s.recv(1))
                w.process.kill()
                with self.assertRaises((ssl.SSLEOFError, ConnectionResetError)):
                    while s.recv(65536):
                        pass


if __name__ == "__main__":
    main()
