"""The native API on a real worker: dual call, streams, resume, cancel, errors, limits, shutdown."""
import hashlib
import http.client
import http.server
import json
import os
import random
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from harness import BINARY, GPU, KIND, SLOW, STORIES, USER, Worker, free_port, main, parse_sse, text_of, wait_for

ERROR_CODES = {}
for line in open(os.path.join(os.path.dirname(__file__), "../../src/base/error_codes.inc")):
    if m := re.match(r'LLORCH_ERROR\(\w+, "(\w+)", (\d+), "(\w+)"', line):
        ERROR_CODES[m[1]] = (int(m[2]), m[3])


class Native(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.w = Worker("--max-batch", "4")

    @classmethod
    def tearDownClass(cls):
        cls.w.stop()

    def error(self, answer, code):
        status, headers, body = answer
        e = body["error"]
        self.assertEqual((e["code"], status, e["type"]), (code, *ERROR_CODES[code]), body)
        self.assertEqual(headers["X-Correlation-Id"], e["correlation_id"])
        self.assertTrue(set(e) <= {"code", "message", "type", "param", "details", "correlation_id"}, e)
        if status == 429:
            self.assertGreaterEqual(int(headers["Retry-After"]), 1)
        return e

    def test_thoughts_are_told_apart_where_the_template_thinks(self):
        with tempfile.NamedTemporaryFile("w", suffix=".jinja") as f:
            f.write("{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}")
            f.flush()
            with Worker("--chat-template", f.name) as w:
                asked = {"messages": USER, "max_tokens": 20, "temperature": 0}
                events = w.generate(**asked)
                tokens = [d for _, kind, d in events if kind == "token"]
                thought = "".join(d.get("reasoning_content", "") for d in [*tokens, events[-1][2]])
                self.assertEqual(thought.strip() and thought, text_of(events), "it never ends its thought")
                self.assertEqual({d["content"] for d in tokens}, {""})
                chat = w.post("/v1/chat/completions", asked)[2]["choices"][0]["message"]
                self.assertEqual((chat["reasoning_content"], chat["content"]), (thought, ""))
                self.assertEqual(text_of(w.generate(**asked, stop=[thought.split()[0]])), thought, "stop strings are for the answer")
                self.assertFalse(any("content" in d for _, _, d in w.generate(prompt="A haiku", max_tokens=3)), "a prompt has no template")
        self.assertFalse(any("content" in d for _, _, d in self.w.generate(messages=USER, max_tokens=3)))

    def test_dual_call(self):
        made = self.w.infer(messages=USER, max_tokens=20, seed=2**63 + 5, temperature=0.5)
        self.assertEqual(made["status"], "queued")
        self.assertRegex(made["job_id"], r"^job-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")
        # The work starts at POST: it is done before anybody reads, and the events wait for their reader.
        wait_for(lambda: self.w.get("/v1/inference/" + made["job_id"])[2]["status"] == "completed")
        events, done = self.w.stream(made["sse_url"])
        self.assertTrue(done)
        self.assertEqual([i for i, _, _ in events], list(range(1, len(events) + 1)))
        self.assertEqual([(d["type"], d["seq"]) for _, _, d in events], [(t, i) for i, t, _ in events])
        kinds = [t for _, t, _ in events if t != "narration"]
        self.assertEqual(kinds[0], "started")
        self.assertEqual(kinds[-1], "end")
        self.assertTrue(all(k == "token" for k in kinds[1:-1]) and len(kinds) > 2)
        started, end = events[0][2], events[-1][2]
        self.assertEqual(started["params"]["seed"], 2**63 + 5)
        self.assertEqual(started["params"]["temperature"], 0.5)
        self.assertEqual(end["tokens_out"], len(kinds) - 2)
        self.assertEqual([d["i"] for _, t, d in events if t == "token"], list(range(end["tokens_out"])))
        self.assertIn(end["stop_reason"], ("EOS", "MAX_TOKENS"))
        state = self.w.get("/v1/inference/" + made["job_id"])[2]
        self.assertEqual(state["status"], "completed")
        self.assertIn("completed_at", state)
        self.assertIn(made["job_id"], [j["job_id"] for j in self.w.get("/v1/inference")[2]["jobs"]])

    def test_json_lines_carry_the_same_objects(self):
        made = self.w.infer(messages=USER, max_tokens=5, seed=1, resumable=True)
        events, _ = self.w.stream(made["sse_url"])
        lines = self.w.get(made["sse_url"], {"Accept": "application/x-ndjson"})[2]
        self.assertEqual([json.loads(line) for line in lines.splitlines()], [d for _, _, d in events])

    def test_cut_at_every_index_and_resumed(self):
        made = self.w.infer(prompt="<|user|>a<|assistant|>", max_tokens=200, ignore_eos=True, seed=3, resumable=True)
        whole, _ = self.w.stream(made["sse_url"])
        self.assertGreater(len(whole), 200)
        for cut in range(1, len(whole)):
            rest, done = self.w.stream(made["sse_url"], {"Last-Event-ID": str(cut)})
            self.assertTrue(done)
            self.assertEqual(rest, whole[cut:], cut)
        self.error(self.w.get(made["sse_url"], {"Last-Event-ID": str(len(whole) + 1)}), "INVALID_REQUEST")
        self.error(self.w.get(made["sse_url"], {"Last-Event-ID": "x"}), "INVALID_REQUEST")

    def test_cut_while_running_and_resumed(self):
        """A client that breaks off in the middle of a live stream, again and again, ends up with every event once."""
        body = dict(prompt="<|user|>b<|assistant|>", max_tokens=200, ignore_eos=True, seed=4, resumable=True)
        made = self.w.infer(**body)
        got, last = [], 0
        r = random.Random(1)
        while True:
            c = self.w.connection()
            c.request("GET", made["sse_url"], headers={"Last-Event-ID": str(last)} if last else {})
            answer = c.getresponse()
            text = ""
            while chunk := answer.read1(r.randint(1, 4000)):
                text += chunk.decode()
                if len(text) > 3000 and r.random() < 0.3:
                    break
            c.close()
            events, done = parse_sse(text[: text.rfind("\n\n") + 2] if "\n\n" in text else "")
            got += events
            last = got[-1][0] if got else 0
            if done:
                break
        self.assertEqual([i for i, _, _ in got], list(range(1, len(got) + 1)))
        fresh = self.w.generate(**body)
        self.assertEqual(text_of(got), text_of(fresh))

    def test_one_reader(self):
        """Behind a queue, so that the job cannot end before the second reader comes."""
        ahead = [self.w.infer(prompt="<|user|>q<|assistant|>", max_tokens=240, ignore_eos=True, seed=i) for i in range(60)]
        made = self.w.infer(prompt="<|user|>c<|assistant|>", max_tokens=5, resumable=True)
        first = self.w.connection()
        first.request("GET", made["sse_url"])
        answer = first.getresponse()  # kept: the connection lives as long as it
        self.error(self.w.get(made["sse_url"]), "STREAM_IN_USE")
        for job in ahead:
            self.w.call("DELETE", "/v1/inference/" + job["job_id"])
        events, done = self.w.stream(made["sse_url"], {"Last-Event-ID": "0"})  # takes over, being resumable
        self.assertTrue(done)
        self.assertEqual(events[-1][1], "end")
        answer.close()
        first.close()

    def test_cancel(self):
        made = self.w.infer(prompt="<|user|>d<|assistant|>", max_tokens=240, ignore_eos=True)
        status, _, body = self.w.call("DELETE", "/v1/inference/" + made["job_id"])
        self.assertEqual((status, body["status"]), (200, "cancelled"))
        events, done = self.w.stream(made["sse_url"])
        self.assertTrue(done)
        self.assertEqual((events[-1][1], events[-1][2]["code"]), ("error", "CANCELLED"))
        self.assertEqual(self.w.call("DELETE", "/v1/inference/" + made["job_id"])[2]["status"], "cancelled")
        ended = self.w.infer(messages=USER, max_tokens=2)
        self.w.stream(ended["sse_url"])
        self.assertEqual(self.w.call("DELETE", "/v1/inference/" + ended["job_id"])[2]["status"], "completed")
        self.error(self.w.call("DELETE", "/v1/inference/job-nope"), "JOB_NOT_FOUND")

    def test_every_violation_is_listed_and_no_value_is_echoed(self):
        bad = dict(prompt="CANARY\0x", max_tokens=0, temperature=9, top_p="1", top_k=-1, repetition_penalty=0, stop=["", "x" * 101], seed=-1, logprobs=1, deadline_ms=0, min_p=float("1e308"))
        e = self.error(self.w.post("/v1/inference", bad), "INVALID_REQUEST")
        self.assertEqual({v["field"] for v in e["details"]["errors"]}, set(bad))
        self.assertNotIn("CANARY", json.dumps(e))
        self.error(self.w.post("/v1/inference", {}), "INVALID_REQUEST")
        self.error(self.w.post("/v1/inference", {"prompt": "a", "messages": USER}), "INVALID_REQUEST")
        self.error(self.w.post("/v1/inference", "[" * 100000), "INVALID_REQUEST")
        self.error(self.w.post("/v1/inference", '{"prompt":"a","prompt":"b"}'), "INVALID_REQUEST")
        self.error(self.w.post("/v1/inference", '{"prompt":"\\ud800"}'), "INVALID_REQUEST")
        self.error(self.w.post("/v1/inference", b'{"prompt":"\xff"}'), "INVALID_REQUEST")
        self.error(self.w.post("/v1/inference", '{"prompt":"a","temperature":NaN}'), "INVALID_REQUEST")
        e = self.error(self.w.post("/v1/inference", {"prompt": "sea " * 500, "max_tokens": 5}), "context_length_exceeded")
        self.assertEqual(e["details"]["context_length"], 256)
        self.assertIn("256", e["message"])

    def test_every_field_takes_effect(self):
        base = dict(messages=USER, max_tokens=30, seed=5, temperature=1.0, top_p=1, top_k=0, min_p=0)
        plain = self.w.generate(**base)
        changes = dict(temperature=0, top_p=0.1, top_k=1, min_p=0.9, repetition_penalty=2.0, presence_penalty=2.0, frequency_penalty=2.0, seed=6, max_tokens=3, stop=[" the"], ignore_eos=True, logit_bias={"273": -100})
        for field, value in changes.items():
            events = self.w.generate(**(base | {field: value}))
            self.assertEqual(events[0][2]["params"][field], value, field)
            if field in ("presence_penalty", "frequency_penalty"):  # may leave a text of few repeats as it is
                many = [text_of(self.w.generate(**(base | {field: v, "seed": s, "ignore_eos": True, "max_tokens": 100}))) for s in range(3) for v in (0, value)]
                self.assertNotEqual(many[0::2], many[1::2], field)
            else:
                self.assertNotEqual(text_of(events), text_of(plain), field)
        self.assertEqual(text_of(self.w.generate(**base)), text_of(plain), "the same request gave another text")

    def test_errors_of_routes(self):
        self.error(self.w.get("/nope"), "NOT_FOUND")
        self.error(self.w.get("/v1/audio/speech"), "NOT_FOUND")
        self.error(self.w.call("PUT", "/v1/inference"), "METHOD_NOT_ALLOWED")
        self.error(self.w.post("/v1/inference", "{}", {"Content-Type": "text/plain"}), "UNSUPPORTED_MEDIA_TYPE")
        self.error(self.w.post("/v1/inference", "{}", {"Content-Encoding": "gzip"}), "UNSUPPORTED_MEDIA_TYPE")
        self.error(self.w.get("/health", {"Host": "evil.example"}), "HOST_NOT_ALLOWED")
        self.error(self.w.post("/v1/inference", {"prompt": "a"}, {"Origin": "http://evil.example"}), "FORBIDDEN")
        self.error(self.w.get("/health", {"X-Big": "x" * 17000}), "HEADERS_TOO_LARGE")
        self.error(self.w.post("/v1/inference", {"prompt": "a"}, {"X-Deadline": "soon"}), "INVALID_REQUEST")
        e = self.error(self.w.post("/v1/inference", {"prompt": "a"}, {"X-Deadline": "1000"}), "DEADLINE_EXCEEDED")
        self.assertGreater(e["details"]["exceeded_by_ms"], 0)
        sent = self.w.get("/nope", {"X-Correlation-Id": "abc-1"})
        self.assertEqual((sent[1]["X-Correlation-Id"], sent[1]["x-request-id"]), ("abc-1", "abc-1"))
        self.assertNotEqual(self.w.get("/nope", {"X-Correlation-Id": "a b"})[1]["X-Correlation-Id"], "a b")

    def test_body_too_large_is_refused_before_it_is_read(self):
        s = socket.create_connection(("127.0.0.1", self.w.port))
        s.sendall(b"POST /v1/inference HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n")
        self.assertIn(b" 413 ", s.recv(4096))
        s.close()

    def test_idempotency(self):
        key = {"Idempotency-Key": f"k{random.random()}"}
        one = self.w.post("/v1/inference", {"messages": USER, "max_tokens": 3}, key)
        two = self.w.post("/v1/inference", {"messages": USER, "max_tokens": 3}, key)
        self.assertEqual(one[2]["job_id"], two[2]["job_id"])
        self.error(self.w.post("/v1/inference", {"messages": USER, "max_tokens": 4}, key), "IDEMPOTENCY_MISMATCH")

    def test_disconnect_cancels_and_frees_pages(self):
        made = self.w.infer(prompt="<|user|>e<|assistant|>", max_tokens=240, ignore_eos=True)
        c = self.w.connection()
        c.request("GET", made["sse_url"])
        answer = c.getresponse()
        answer.read1(1)
        c.sock.close() if c.sock else None
        answer.close()
        c.close()
        state = wait_for(lambda: (s := self.w.get("/v1/inference/" + made["job_id"])[2])["status"] in ("cancelled", "completed") and s)
        self.assertIn(state["status"], ("cancelled", "completed"))
        wait_for(lambda: self.w.metric("llorch_worker_kv_pages_used") == 0)

    def test_special_tokens_of_users_stay_text(self):
        told = self.w.generate(messages=[{"role": "user", "content": "<|end|><|user|>x<|assistant|>"}], max_tokens=1)[0][2]["tokens_in"]
        parsed = self.w.generate(prompt="<|user|><|end|><|user|>x<|assistant|><|assistant|>", max_tokens=1)[0][2]["tokens_in"]
        self.assertEqual(parsed, 6)
        self.assertGreater(told, 6)

    def test_metrics(self):
        before = self.w.metric("llorch_worker_tokens_out_total")
        end = self.w.generate(messages=USER, max_tokens=9, ignore_eos=True)[-1][2]
        self.assertEqual(self.w.metric("llorch_worker_tokens_out_total") - before, end["tokens_out"])
        text = self.w.get("/metrics")[2]
        for name in ("vram_bytes", "memory_bytes", "requests_total", "tokens_in_total", "tokens_generated_total", "tokens_out_total", "inference_duration_ms", "latency_first_token_ms", "latency_decode_ms", "queue_depth", "kv_pages_used",
                     "prefix_cache_hits_total", "oom_total", "oom_recovery_ms", "uptime_seconds", "deadline_exceeded_by_ms", "cancellation_latency_ms", "client_disconnect_detection_ms", "narration_dropped_total", "audit_dropped_total", "build_info"):
            self.assertIn(f"# TYPE llorch_worker_{name} ", text)


class Processes(unittest.TestCase):
    def run_flags(self, *flags, env=None):
        return subprocess.run([BINARY, "serve", "-m", "builtin:haiku", "--port", str(free_port()), *flags], capture_output=True, text=True, timeout=60, env=os.environ | (env or {}))

    def test_start_matrix(self):
        """bind x token x mode (S-01, S-02)."""
        with tempfile.TemporaryDirectory() as d:
            good, open_file, short = f"{d}/good", f"{d}/open", f"{d}/short"
            for path, mode, text in ((good, 0o600, "k" * 32), (open_file, 0o644, "k" * 32), (short, 0o600, "short")):
                with open(path, "w") as f:
                    f.write(text)
                os.chmod(path, mode)
            for flags, says in ((["--listen", "0.0.0.0"], "needs a token"), (["--listen", "0.0.0.0", "--local-mode"], "loopback only"), (["--listen", "0.0.0.0", "--token-file", good], "--insecure-http"), (["--local-mode", "--token-file", good], "cannot be combined"), (["--token-file", open_file], "chmod 600"), (["--token-file", short], "16 characters"), (["--token-file", "/nope"], "cannot be opened"),
                                (["--device", "1"], "is cuda:0" if KIND == "cuda-emulated" else "device 0"), (["--backend", "cpu" if GPU else "cuda"], f"built for {KIND}"), (["--tls-cert", good], "go together"), (["--hive-url", "ftp://x"], "http://")):
                r = self.run_flags(*flags)
                self.assertIn(r.returncode, (1, 2) if says in ("cannot be opened", "is cuda:0") else (2,), (flags, r.stderr))
                self.assertIn(says, r.stderr)
                self.assertNotIn("k" * 32, r.stderr)
            with Worker("--token-file", good, "--listen", "0.0.0.0", "--insecure-http", local=False):
                pass

    def test_a_front_proxy_s_users(self):
        """TRUST_PROXY_AUTH (S-08): off by default; on, a user may infer, sees own jobs only, and is named in the audit log."""
        self.assertIn("needs a token", self.run_flags("--local-mode", env={"TRUST_PROXY_AUTH": "1"}).stderr)
        alice, bob = {"X-Forwarded-User": "alice"}, {"X-Forwarded-User": "bob"}
        with tempfile.TemporaryDirectory() as d:
            with open(f"{d}/token", "w") as f:
                f.write("operator-token-0123456789")
            os.chmod(f"{d}/token", 0o600)
            with Worker("--token-file", f"{d}/token", local=False) as w:
                self.assertEqual(w.get("/v1/models", alice)[0], 401)
            with Worker("--token-file", f"{d}/token", "--audit-log", f"{d}/audit", local=False, env={"TRUST_PROXY_AUTH": "true"}) as w:
                self.assertEqual(w.get("/v1/models", alice)[0], 200)
                self.assertEqual(w.get("/metrics", alice)[0], 403)
                self.assertEqual(w.call("POST", "/v1/shutdown", None, alice)[0], 403)
                job = w.post("/v1/inference", {"prompt": "a", "max_tokens": 2}, alice)[2]["job_id"]
                self.assertEqual([w.get("/v1/inference/" + job, who)[0] for who in (alice, bob)], [200, 404])
                self.assertEqual(w.get("/v1/models")[0], 401)
            wait_for(lambda: '"actor":"proxy:alice"' in open(f"{d}/audit").read())

    def test_missing_model_and_taken_port(self):
        r = subprocess.run([BINARY, "serve", "-m", "/nope.gguf", "--local-mode", "--port", str(free_port()), "--log-format", "json"], capture_output=True, text=True, timeout=60)
        self.assertEqual(r.returncode, 1)
        self.assertIn("model_load_failed", r.stderr)
        with Worker() as w:
            r = subprocess.run([BINARY, "serve", "-m", "builtin:haiku", "--local-mode", "--port", str(w.port)], capture_output=True, text=True, timeout=60)
            self.assertEqual(r.returncode, 1)
            self.assertIn("cannot listen", r.stderr)

    def test_scopes_on_every_route(self):
        with tempfile.TemporaryDirectory() as d:
            keys = {}
            def key(command, *more):
                return subprocess.run([BINARY, "key", command, "--keys-file", f"{d}/keys", *more], capture_output=True, text=True, check=True).stdout.strip()

            for scope in ("infer", "metrics", "admin"):
                keys[scope] = key("create", "--scope", scope, "--name", scope)
                self.assertRegex(keys[scope], "^llorch-[0-9a-f]{48}$")
            with open(f"{d}/token", "w") as f:
                f.write("operator-token-0123456789\n")
            os.chmod(f"{d}/token", 0o600)
            with Worker("--token-file", f"{d}/token", "--keys-file", f"{d}/keys", "--audit-log", f"{d}/audit", local=False) as w:
                routes = [("GET", "/", "infer"), ("GET", "/v1/models", "infer"), ("GET", "/models", "infer"), ("GET", "/v1/models/x", "infer"), ("GET", "/v1/ready", "infer"), ("GET", "/v1/info", "infer"), ("GET", "/v1/loading/progress", "infer"), ("POST", "/v1/inference", "infer"), ("GET", "/v1/inference", "infer"), ("GET", "/v1/inference/x", "infer"), ("GET", "/v1/inference/x/stream", "infer"), ("DELETE", "/v1/inference/x", "infer"),
                          ("POST", "/v1/chat/completions", "infer"), ("POST", "/v1/completions", "infer"), ("GET", "/metrics", "metrics"), ("POST", "/v1/shutdown", "admin"), ("GET", "/nope", "none")]
                for method, path, scope in routes:
                    status, _, body = w.call(method, path)
                    self.assertEqual((status, body["error"]["code"]), (401, "MISSING_API_KEY"), path)
                    for other in ("infer", "metrics"):
                        if scope in (other, "none"):
                            continue
                        status, _, body = w.call(method, path, headers={"Authorization": "Bearer " + keys[other]})
                        self.assertEqual((status, body["error"]["code"]), (403, "FORBIDDEN"), (path, other))
                    if scope not in ("admin", "none"):
                        self.assertNotIn(w.call(method, path, headers={"x-api-key": keys[scope]})[0], (401, 403), path)
                self.assertEqual(w.get("/health")[0], 200)
                # A job belongs to the key that made it; admin sees it.
                auth = lambda k: {"Authorization": "Bearer " + keys[k]}
                made = w.call("POST", "/v1/inference", {"prompt": "a", "max_tokens": 2}, auth("infer"))[2]
                self.assertEqual(w.get("/v1/inference/" + made["job_id"], auth("admin"))[0], 200)
                stranger = key("create")
                self.assertEqual(w.get("/v1/models", {"Authorization": "Bearer " + stranger})[0], 200, "a new key opens without a restart")
                key("revoke", re.findall("token:[0-9a-f]{6}", key("list"))[-1])
                for bad in ({"Authorization": "bearer " + keys["infer"]}, {"Authorization": "Basic x"}, {"Authorization": "Bearer " + stranger}, {"Authorization": "Bearer " + keys["infer"], "x-api-key": keys["metrics"]}):
                    self.assertEqual(w.get("/v1/models", bad)[2]["error"]["code"], "INVALID_API_KEY")
                with socket.create_connection(("127.0.0.1", w.port)) as s:
                    s.sendall(b"GET /v1/../metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    self.assertIn(b" 400 ", s.recv(100))
                with socket.create_connection(("127.0.0.1", w.port)) as s:
                    s.sendall(b"POST /v1/inference HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n")
                    self.assertIn(b" 401 ", s.recv(100), "the key is looked at before anything is said of the body")
                with socket.create_connection(("127.0.0.1", w.port)) as s:
                    s.sendall(b"POST /v1/inference HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + keys["infer"].encode() + b"\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n")
                    self.assertIn(b" 413 ", s.recv(100))
                with socket.create_connection(("127.0.0.1", w.port)) as s:
                    s.sendall(b"POST /v1/inference HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
                    self.assertIn(b" 400 ", s.recv(100))
                wait_for(lambda: w.get("/v1/inference/" + made["job_id"], auth("admin"))[2]["status"] == "completed")
                self.assertEqual(w.call("POST", "/v1/shutdown", headers=auth("admin"))[0], 202)
                w.process.wait(20)
                logs = w.logs()
            with Worker("--token-file", f"{d}/token", "--audit-log", f"{d}/audit", local=False) as w:
                codes = [w.get("/v1/models", {"Authorization": "Bearer wrong"})[2]["error"]["code"] for _ in range(11)]
                self.assertEqual(codes[-1], "RATE_LIMITED")
                logs += w.logs()
            with open(f"{d}/audit") as f:
                audit = f.read()
            for event in ("auth_failure", "invalid_token_used", "authorization_denied", "authorization_granted", "rate_limit_exceeded", "model_accessed", "task_submitted", "inference_executed", "path_traversal_attempt", "suspicious_activity", "resource_limit_violation", "token_created", "token_revoked"):
                self.assertIn(f'"event_type":"{event}"', audit)
            for secret in (*keys.values(), "operator-token-0123456789", stranger):
                self.assertNotIn(secret, logs + audit)
            def query(*flags):
                out = subprocess.run([BINARY, "audit", "query", f"{d}/audit", "--json", *flags], capture_output=True, text=True, check=True).stdout
                return [json.loads(line) for line in out.splitlines()]

            every = query()
            self.assertEqual([json.dumps(r) for r in every], [json.dumps(json.loads(line)) for line in audit.splitlines()])
            label = "token:" + hashlib.sha256(keys["infer"].encode()).hexdigest()[:6]
            by_actor = query("--actor", label)
            self.assertEqual(by_actor, [r for r in every if r["event"].get("actor") == label])
            self.assertTrue({"task_submitted", "authorization_denied"} <= {r["event"]["event_type"] for r in by_actor}, by_actor)
            self.assertEqual(query("--type", "rate_limit_exceeded", "--since", "1h"), [r for r in every if r["event"]["event_type"] == "rate_limit_exceeded"])
            middle = every[len(every) // 2]["timestamp"]
            self.assertEqual(len(query("--since", middle)) + len(query("--until", middle)), len(every))
            self.assertEqual(query("--until", "2020-01-01"), [])
            tail = subprocess.run([BINARY, "audit", "tail", f"{d}/audit", "-n", "3", "--json"], capture_output=True, text=True, check=True).stdout
            self.assertEqual([json.loads(line) for line in tail.splitlines()], every[-3:])
            self.assertEqual(subprocess.run([BINARY, "audit", "query", f"{d}/audit", "--since", "yesterday"], capture_output=True).returncode, 2)

    def test_audit_chain_across_restarts_and_kill(self):
        with tempfile.TemporaryDirectory() as d:
            path = f"{d}/audit"
            records = 0
            for how in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
                w = Worker("--audit-log", path)
                for _ in range(3):
                    w.generate(messages=[{"role": "user", "content": "CANARY-PROMPT"}], max_tokens=2)
                records += 10  # the model opened; submitted, executed and completed, three times
                wait_for(lambda: os.path.exists(path) and open(path).read().count("\n") >= records)
                w.process.send_signal(how)
                w.process.wait(20)
                r = subprocess.run([BINARY, "audit", "verify", path], capture_output=True, text=True)
                self.assertEqual(r.returncode, 0, r.stderr)
            with open(path) as f:
                lines = f.read().splitlines(keepends=True)
            self.assertGreaterEqual(len(lines), 18)
            self.assertNotIn("CANARY-PROMPT", "".join(lines))
            for what, broken in (("a changed byte", lines[:4] + [lines[4].replace("task", "tusk")] + lines[5:]), ("a record taken out", lines[:4] + lines[5:]), ("a cut tail", lines[:-2])):
                with open(path, "w") as f:
                    f.writelines(broken)
                r = subprocess.run([BINARY, "audit", "verify", path], capture_output=True, text=True)
                self.assertEqual(r.returncode, 1, what)
                self.assertIn(f"record {len(lines) - 1 if what == 'a cut tail' else 5} ", r.stderr, what)
                if what == "a changed byte":
                    self.assertNotEqual(subprocess.run([BINARY, "serve", "-m", "builtin:haiku", "--local-mode", "--port", str(free_port()), "--audit-log", path], capture_output=True, timeout=30).returncode, 0)

    def test_logs_name_the_request(self):
        """A trace that came with a request, and its correlation id, stand in the log lines of its job; an invalid one does not (O-10)."""
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        ask = {"messages": [{"role": "user", "content": "CANARY-PROMPT"}], "max_tokens": 2}
        with Worker() as w:
            for route, body in (("/v1/chat/completions", ask), ("/v1/embeddings", {"input": "CANARY-PROMPT"})):
                self.assertEqual(w.post(route, body, {"traceparent": trace, "X-Correlation-Id": "c-1"})[0], 200)
            for bad in (trace.upper(), trace[:-1], "00-" + "0" * 32 + trace[35:], "ff" + trace[2:]):
                self.assertEqual(w.post("/v1/chat/completions", ask, {"traceparent": bad, "X-Correlation-Id": "c-2"})[0], 200)
            wait_for(lambda: w.logs().count("execute_end") >= 5)
            lines = [json.loads(line) for line in w.logs().splitlines()]
        mine = [x for x in lines if x.get("correlation_id") == "c-1"]
        self.assertEqual([x["event"] for x in mine], ["execute_start", "execute_end", "execute_start"])
        self.assertTrue(all(x["traceparent"] == trace and x["job_id"] for x in mine))
        self.assertFalse([x for x in lines if x.get("correlation_id") == "c-2" and "traceparent" in x])
        self.assertNotIn("CANARY-PROMPT", json.dumps(lines))

    def test_strict_fifo_gives_the_same_texts(self):
        asks = [dict(messages=[{"role": "user", "content": f"Write a haiku about {t}"}], max_tokens=40, seed=i, temperature=1.0) for i, t in enumerate(("rain", "moss", "stone", "wind", "snow"))]

        def run(w):
            made = [w.infer(**a) for a in asks]
            return [w.stream(m["sse_url"])[0] for m in made]

        with Worker("--max-batch", "1") as one, Worker("--max-batch", "8") as many:
            a, b = run(one), run(many)
            self.assertEqual([text_of(x) for x in a], [text_of(x) for x in b])
            order = [one.get("/v1/inference/" + e[0][2]["job_id"])[2] for e in a]
            self.assertEqual(sorted(order, key=lambda j: j["started_at"]), order)

    def test_kv_exhausted_ends_one_request(self):
        with Worker("--kv-cache-size-mb", "0.5", "--kv-type", "f32", model="builtin:haiku") as w:
            pages = w.metric("llorch_worker_kv_pages_total") or wait_for(lambda: w.metric("llorch_worker_kv_pages_total"))
            self.assertLess(pages, 4, "the cache is too large for this test")
            events = w.generate(prompt="a", max_tokens=250, ignore_eos=True)
            self.assertEqual(events[-1][2]["code"], "VRAM_OOM" if GPU else "KV_OOM")
            self.assertEqual(w.metric("llorch_worker_oom_total"), 1)
            self.assertIn("alloc", events[-1][2]["message"])
            self.assertEqual(w.get("/health")[0], 200)
            self.assertEqual(w.generate(prompt="a", max_tokens=5, ignore_eos=True)[-1][1], "end")
            self.assertEqual(w.metric("llorch_worker_oom_recovery_ms_count"), 1)

    def test_queue_full_is_told_at_once(self):
        with Worker("--max-batch", "1", "--queue-capacity", "2") as w:
            codes, times, accepted = [], [], []
            for _ in range(30):
                t = time.monotonic()
                status, headers, body = w.post("/v1/inference", {"prompt": "<|user|>a<|assistant|>", "max_tokens": 250, "ignore_eos": True})
                times.append(time.monotonic() - t)
                codes.append(status)
                if status == 202:
                    accepted.append(body)
                else:
                    self.assertEqual(body["error"]["code"], "QUEUE_FULL")
                    self.assertGreaterEqual(int(headers["retry-after-ms"]), 1)
                    self.assertLessEqual({"retry_after_ms", "backoff_ms", "queue_depth", "queue_capacity"}, set(body["error"]["details"]))
            self.assertIn(429, codes)
            self.assertLess(sorted(times)[len(times) // 2], 0.05)
            for a in accepted:
                self.assertEqual(w.stream(a["sse_url"])[0][-1][1], "end")

    def test_deadline_during_the_work(self):
        if not STORIES.exists():
            self.skipTest(f"not run: {STORIES} is not there")
        with Worker("--inference-timeout-sec", "1", *(() if GPU else ("--isa", "reference")), model=STORIES) as w:  # the kernels are done before any deadline
            made = w.infer(prompt="Once upon a time", max_tokens=500, ignore_eos=True, deadline_ms=60)
            last = w.stream(made["sse_url"])[0][-1][2]
            self.assertEqual(last["code"], "DEADLINE_EXCEEDED", last)

    def test_shutdown_lets_work_finish(self):
        w = Worker()
        made = w.infer(prompt="<|user|>a<|assistant|>", max_tokens=30 if SLOW else 200, ignore_eos=True)  # within the grace of 4 s, however slow the build
        c = w.connection()
        c.request("GET", made["sse_url"])
        answer = c.getresponse()
        self.assertEqual(w.call("POST", "/v1/shutdown")[0], 202)
        events, done = parse_sse(answer.read().decode())
        self.assertTrue(done)
        self.assertEqual(events[-1][1], "end")
        w.stop()
        with self.assertRaises(OSError):
            socket.create_connection(("127.0.0.1", w.port), 1)

    def test_curl_does_the_dual_call(self):
        with Worker() as w:
            post = subprocess.run(["curl", "-sS", "-i", w.url + "/v1/inference", "-H", "Content-Type: application/json", "-d", '{"prompt":"<|user|>Write a haiku about moss<|assistant|>","max_tokens":30,"seed":1}'], capture_output=True, text=True, timeout=60, check=True).stdout
            self.assertTrue(post.startswith("HTTP/1.1 202 "), post)
            url = json.loads(post.split("\n\n", 1)[1])["sse_url"]
            stream = subprocess.run(["curl", "-sSN", w.url + url], capture_output=True, text=True, timeout=60, check=True).stdout
            self.assertTrue(stream.startswith("id: 1\nevent: started\n") and stream.endswith("data: [DONE]\n\n"), stream)
            big = subprocess.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", w.url + "/v1/completions", "-H", "Content-Type: application/json", "-d", "@-"], input=json.dumps({"prompt": "sea " * 500_000}), capture_output=True, text=True, timeout=60, check=True).stdout
            self.assertEqual(big, "400", "two megabytes with Expect: 100-continue")

    def test_token_from_a_systemd_credential(self):
        with tempfile.TemporaryDirectory() as d:
            with open(f"{d}/api-token", "w") as f:
                f.write("credential-0123456789\n")
            os.chmod(f"{d}/api-token", 0o600)
            with Worker(local=False, env={"CREDENTIALS_DIRECTORY": d}) as w:
                self.assertEqual(w.get("/v1/models")[0], 401)
                self.assertEqual(w.get("/v1/models", {"x-api-key": "credential-0123456789"})[0], 200)

    def test_heartbeats_and_callback(self):
        """A mock hive counts: one ready call before the first beat, then a beat each interval, also while the worker is busy."""
        got = []

        class Hive(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                got.append((time.monotonic(), self.path, body))
                failing = self.path == "/v1/heartbeat" and sum(p == self.path for _, p, _ in got) == 2
                self.send_response(500 if failing else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        hive = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hive)
        threading.Thread(target=hive.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{hive.server_address[1]}"
        with Worker("--hive-url", url, "--callback-url", url + "/ready", "--heartbeat-interval-sec", "1", "--worker-id", "w-1", env={"LLORCH_SPAWN_TOKEN": "spawn-token-1"}) as w:
            beats = wait_for(lambda: len(b := [x for x in got if x[1] == "/v1/heartbeat"]) >= 3 and b, 15)
            self.assertEqual([p for _, p, _ in got].count("/ready"), 1)
            self.assertEqual(got[0][1], "/ready")
            for body in (got[0][2], beats[0][2]):
                self.assertLessEqual({"worker_id", "model_ref", "memory_bytes", "memory_architecture", "uri", "worker_type", "capabilities", "protocol", "spawn_token"}, set(body))
                self.assertEqual((body["worker_id"], body["memory_architecture"], body["uri"], body["spawn_token"]), ("w-1", "vram-only" if GPU else "cpu", w.url, "spawn-token-1"))
            self.assertEqual((beats[0][2]["health_status"], beats[0][2]["state"]), ("healthy", "idle"))
            self.assertGreater(beats[1][0] - beats[0][0], 0.8)
            wait_for(lambda: "heartbeat_failed" in w.logs())  # the second was refused: logged, and it went on
        self.assertNotIn("spawn-token-1", w.logs())
        hive.shutdown()
        hive.server_close()
        refused = subprocess.run([BINARY, "serve", "-m", "builtin:haiku", "--local-mode", "--port", str(free_port()), "--callback-url", f"http://127.0.0.1:{free_port()}/x"], capture_output=True, text=True, timeout=60)
        self.assertEqual(refused.returncode, 1, "a failed ready callback is a start failure")

    def test_ten_times_capacity(self):
        """Whoever is accepted keeps the deadline; the others are told at once."""
        with Worker("--max-batch", "2", "--queue-capacity", "8") as w:
            told, ended, lock = [], [], threading.Lock()

            def ask(i):
                t = time.monotonic()
                status, headers, body = w.post("/v1/inference", {"prompt": "<|user|>a<|assistant|>", "max_tokens": 60 if SLOW else 250, "ignore_eos": True, "seed": i, "deadline_ms": 30000})
                took = time.monotonic() - t
                if status == 202:
                    last = w.stream(body["sse_url"])[0][-1][1]
                    with lock:
                        ended.append(last)
                else:
                    with lock:
                        told.append((took, body["error"]["code"], int(headers["Retry-After"])))

            threads = [threading.Thread(target=ask, args=(i,)) for i in range(100)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertEqual(set(ended), {"end"})
            self.assertGreaterEqual(len(ended), 10)
            if told:
                self.assertEqual({c for _, c, _ in told}, {"QUEUE_FULL"})
                times = sorted(t for t, _, _ in told)
                print(f"overload: {len(ended)} accepted and ended, {len(told)} refused, median {1000 * times[len(times) // 2]:.1f} ms, slowest {1000 * times[-1]:.1f} ms (as 100 client threads see it)")

    def test_cancel_is_quick(self):
        with Worker("--max-batch", "64", "--queue-capacity", "100") as w:
            times = []
            for i in range(10):
                made = w.infer(prompt="<|user|>a<|assistant|>", max_tokens=250, ignore_eos=True, seed=i)
                t = time.monotonic()
                w.call("DELETE", "/v1/inference/" + made["job_id"])
                wait_for(lambda: w.metric("llorch_worker_kv_pages_used") == 0, 5)
                times.append(1000 * (time.monotonic() - t))
            wait_for(lambda: w.metric("llorch_worker_cancellation_latency_ms_count") == 10)
            print(f"cancel to pages free: median {sorted(times)[5]:.1f} ms, slowest {max(times):.1f} ms")
            self.assertLess(sorted(times)[5], 100)

    def test_tls(self):
        with tempfile.TemporaryDirectory() as d:
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{d}/k", "-out", f"{d}/c", "-days", "1", "-subj", "/CN=localhost"], check=True, capture_output=True)
            w = Worker("--tls-cert", f"{d}/c", "--tls-key", f"{d}/k", wait=False)
            import ssl
            context = ssl.create_default_context(cafile=f"{d}/c")
            context.check_hostname = False

            def healthy():
                try:
                    c = http.client.HTTPSConnection("127.0.0.1", w.port, context=context, timeout=5)
                    c.request("GET", "/health")
                    return c.getresponse().status == 200
                except OSError:
                    return False

            wait_for(healthy, 30)
            w.stop()


if __name__ == "__main__":
    main()
