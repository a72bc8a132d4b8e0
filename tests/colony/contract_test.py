"""One contract, three daemons: the dual call, resuming, errors and keys, unchanged against worker, hive and queen (T-36)."""
import json
import os
import re
import time
import unittest

import anthropic
import openai

from colony import BIN, Colony, free_port, listens, main, parse_sse, wait_for

TOKEN = "operator-token-0123456789"
# O-20's names; a GPU's are there where one is.
METRICS = {
    "queen": ["queue_depth", "tasks_enqueued_total", "tasks_dispatched_total", "tasks_started_total", "tasks_canceled_total", "tasks_rejected_total", "scheduling_latency_ms", "worker_connections_active", "admission_backpressure_events_total", "hives_online"],
    "hive": ["gpus_total", "workers_total", "worker_starts_total", "worker_stops_total", "model_downloads_total"],
    "worker": ["vram_bytes", "memory_bytes", "requests_total", "requests_started_total", "tokens_in_total", "tokens_generated_total", "tokens_out_total", "inference_duration_ms", "latency_first_token_ms", "latency_decode_ms", "queue_depth", "kv_pages_used", "prefix_cache_hits_total", "requests_rested_total", "oom_total", "oom_recovery_ms", "uptime_seconds"],
    "all": ["deadline_exceeded_by_ms", "cancellation_latency_ms", "client_disconnect_detection_ms", "narration_dropped_total", "audit_dropped_total", "build_info"],
}
UUID = r"job-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


class Daemon:
    """Where it is, how a job is made there, and what else it may be asked."""

    def __init__(self, colony, name, port, prefix, order, slow):
        self.colony, self.name, self.port, self.prefix, self.order, self.slow = colony, name, port, prefix, order, slow

    def call(self, method, path, body=None, headers=None):
        return self.colony.call(method, path, body, headers, self.port)

    def open(self, path, headers=None):
        c = self.colony.connection(self.port)
        c.request("GET", path, None, headers or {})
        return c, c.getresponse()


class Contract:
    """Mixed into one class for each daemon."""

    @classmethod
    def setUpClass(cls):
        cls.colony = Colony()
        cls.colony.__enter__()
        cls.colony.queen()
        cls.colony.infer()
        worker = cls.colony.call("GET", "/v1/status")[2]["workers"][0]
        cls.d = cls.make(cls.colony, worker)

    @classmethod
    def tearDownClass(cls):
        cls.colony.close()

    def kept(self, order):
        """An order whose events are kept when they have been read: a hive keeps those of all."""
        return order if self.d.name == "hive" else order | {"resumable": True}

    def create(self, order=None):
        status, headers, made = self.d.call("POST", self.d.prefix, order or self.d.order)
        self.assertEqual(status, 202, made)
        self.assertIn("application/json", headers["Content-Type"])
        self.assertRegex(made["job_id"], f"^{UUID}$")
        self.assertEqual(made["status"], "queued")
        self.assertIsInstance(made["queue_position"], int)
        return made

    def read(self, made, headers=None):
        status, h, text = self.d.call("GET", made["sse_url"], None, headers)
        self.assertEqual(status, 200, text)
        return text

    def test_grammar_of_a_stream(self):
        made = self.create(self.d.order | {"job_id": "job-mine"})
        time.sleep(0.3)  # a late reader loses nothing
        c, r = self.d.open(made["sse_url"])
        self.assertEqual((r.headers["Content-Type"], r.headers["Cache-Control"], r.headers["X-Accel-Buffering"]), ("text/event-stream", "no-cache", "no"))
        text = r.read().decode()
        c.close()
        for block in text.strip().split("\n\n"):
            self.assertRegex(block, r"^(id: \d+\nevent: [a-z]+\ndata: \{.*\}|data: \[DONE\]|: ?.*)$")
        events, done = parse_sse(text)
        self.assertTrue(done)
        self.assertEqual([e[0] for e in events], list(range(1, len(events) + 1)))
        for seq, kind, data in events:
            self.assertEqual((data["seq"], data["type"]), (seq, kind))
        kinds = [k for _, k, _ in events if k not in ("narration", "progress", "metrics")]
        self.assertEqual(kinds[0], "started")
        self.assertEqual(sum(k in ("end", "error") for k in kinds), 1)
        self.assertEqual(kinds[-1], "end")
        state = self.d.call("GET", f"{self.d.prefix}/{made['job_id']}")[2]
        self.assertEqual((state["job_id"], state["status"]), (made["job_id"], "completed"))
        self.assertTrue(state["created_at"] <= state["started_at"] <= state["completed_at"])
        self.assertIn(made["job_id"], [j["job_id"] for j in self.d.call("GET", self.d.prefix)[2]["jobs"]])

    def test_cut_at_every_event_and_resumed(self):
        made = self.create(self.kept(self.d.order))
        whole = self.read(made)
        count = len(parse_sse(whole)[0])
        for n in range(count + 1):
            rest = self.read(made, {"Last-Event-ID": str(n)})
            self.assertTrue(whole.endswith(rest), n)
            self.assertEqual(len(parse_sse(rest)[0]), count - n)
        lines = [json.loads(x) for x in self.read(made, {"Accept": "application/x-ndjson"}).splitlines()]
        self.assertEqual(lines, [d for _, _, d in parse_sse(whole)[0]])

    def test_one_reader(self):
        seen = set()
        for _ in range(10):  # a job may be over before the second reader comes
            made = self.create(self.d.slow)
            c, r = self.d.open(made["sse_url"])
            r.readline()
            status, _, body = self.d.call("GET", made["sse_url"])
            c.close()
            seen.add((status, body["error"]["code"] if status != 200 else ""))
            if status != 200:
                break
        self.assertIn((409, "STREAM_IN_USE"), seen)

    def test_cancel(self):
        made = self.create(self.kept(self.d.slow))
        status, _, body = self.d.call("DELETE", f"{self.d.prefix}/{made['job_id']}")
        self.assertEqual((status, body["job_id"]), (200, made["job_id"]))
        self.assertIn(body["status"], ("cancelled", "completed"))
        events, done = parse_sse(self.read(made))
        self.assertTrue(done)
        if body["status"] == "cancelled":
            self.assertEqual((events[-1][1], events[-1][2]["code"]), ("error", "CANCELLED"))
        self.assertEqual(self.d.call("DELETE", f"{self.d.prefix}/{made['job_id']}")[2]["status"], body["status"])
        self.assertEqual(self.read(made), self.read(made), "a finished job has changed")

    def test_errors_have_one_shape(self):
        nobody = "job-00000000-0000-4000-8000-000000000000"
        for method, path, body, headers, expected in (
            ("GET", f"{self.d.prefix}/{nobody}", None, None, (404, "JOB_NOT_FOUND")), ("GET", f"{self.d.prefix}/{nobody}/stream", None, None, (404, "JOB_NOT_FOUND")),
            ("DELETE", f"{self.d.prefix}/{nobody}", None, None, (404, "JOB_NOT_FOUND")), ("GET", "/v1/nothing", None, None, (404, "NOT_FOUND")),
            ("DELETE", "/health", None, None, (405, "METHOD_NOT_ALLOWED")), ("POST", self.d.prefix, "{", None, (400, "INVALID_REQUEST")), ("POST", self.d.prefix, "[]", None, (400, "INVALID_REQUEST")),
            ("POST", self.d.prefix, "{}", {"Content-Type": "text/plain"}, (415, "UNSUPPORTED_MEDIA_TYPE")), ("GET", "/health", None, {"Host": "evil.example"}, (403, "HOST_NOT_ALLOWED")),
            ("POST", self.d.prefix, "{}", {"Origin": "http://evil.example"}, (403, "FORBIDDEN"))):
            status, h, answer = self.d.call(method, path, body, headers)
            self.assertEqual((status, answer["error"]["code"]), expected, (method, path))
            self.assertLessEqual({"code", "message", "type", "correlation_id"}, set(answer["error"]))
            self.assertEqual(h["X-Correlation-Id"], answer["error"]["correlation_id"])
            self.assertEqual(h["x-request-id"], answer["error"]["correlation_id"])
        _, h, _ = self.d.call("GET", "/health", None, {"X-Correlation-Id": "my-own-id"})
        self.assertEqual(h["X-Correlation-Id"], "my-own-id")

    def test_metrics_can_be_read(self):
        status, h, text = self.d.call("GET", "/metrics")
        self.assertEqual(status, 200)
        self.assertTrue(h["Content-Type"].startswith("text/plain"))
        for line in text.splitlines():
            self.assertRegex(line, r"^(#.*|llorch_(worker|hive|queen)_[a-z0-9_]+(\{[^}]*\})? -?[0-9.e+-]+(Inf|NaN)?)$")
            if not line.startswith("#"):
                self.assertTrue(line.startswith(f"llorch_{self.d.name}_"), line)
        for name in METRICS[self.d.name] + METRICS["all"]:
            self.assertIn(f"# TYPE llorch_{self.d.name}_{name} ", text)

    def metric(self, name):
        return sum(float(line.split()[-1]) for line in self.d.call("GET", "/metrics")[2].splitlines() if re.match(rf"llorch_{self.d.name}_{name}[ {{]", line))

    def test_cancellations_and_readers_that_leave_are_timed(self):
        for name, leave in (("cancellation_latency_ms_count", False), ("client_disconnect_detection_ms_count", True)):
            before = self.metric(name)
            for _ in range(100):  # a job may be over before it can be cancelled
                made = self.create(self.d.slow)
                if leave:
                    c, r = self.d.open(made["sse_url"])
                    r.readline()
                    c.sock and c.sock.close()
                    r.close(), c.close()
                else:
                    self.d.call("DELETE", f"{self.d.prefix}/{made['job_id']}")
                wait_for(lambda: self.d.call("GET", f"{self.d.prefix}/{made['job_id']}")[2]["status"] not in ("queued", "running"))
                if self.metric(name) > before:
                    break
            if leave and self.d.name == "hive":  # what a hive does goes on without its reader
                self.assertEqual(self.metric(name), before)
            else:
                self.assertGreater(self.metric(name), before, name)


class WorkerContract(Contract, unittest.TestCase):
    @staticmethod
    def make(c, worker):
        return Daemon(c, "worker", worker["port"], "/v1/inference", {"prompt": "<|user|>x<|assistant|>", "max_tokens": 20}, {"prompt": "<|user|>x<|assistant|>", "max_tokens": 240, "ignore_eos": True})


class HiveContract(Contract, unittest.TestCase):
    @staticmethod
    def make(c, worker):
        return Daemon(c, "hive", c.hive_port, "/v1/jobs", {"operation": "worker_install", "worker_id": "cpu"}, {"operation": "worker_spawn", "model": "builtin:haiku"})


class QueenContract(Contract, unittest.TestCase):
    @staticmethod
    def make(c, worker):
        return Daemon(c, "queen", c.queen_port, "/v1/jobs", {"operation": "infer", "model": "builtin:haiku", "prompt": "x", "max_tokens": 20}, {"operation": "infer", "model": "builtin:haiku", "prompt": "x", "max_tokens": 240, "ignore_eos": True})

    def openai(self, port):
        return openai.OpenAI(base_url=f"{self.colony.scheme}://127.0.0.1:{port}/v1", api_key="unused", max_retries=0, http_client=openai.DefaultHttpxClient(verify=self.colony.trusting() or True))

    def test_the_openai_client(self):
        """What a worker answers comes through the queen: the same text, chunks, usage, error classes."""
        client = self.openai(self.d.port)
        worker = self.colony.call("GET", "/v1/status")[2]["workers"][0]
        direct = self.openai(worker["port"])
        self.assertIn("builtin:haiku", [m.id for m in client.models.list()])
        fields = dict(messages=[{"role": "user", "content": "Write a haiku about the sea"}], seed=7, temperature=0.9, logprobs=True, top_logprobs=2, n=2)
        through, there = client.chat.completions.create(model="haiku", **fields), direct.chat.completions.create(model="builtin:haiku", **fields)
        self.assertEqual([c.message.content for c in through.choices], [c.message.content for c in there.choices])
        self.assertEqual(through.usage.completion_tokens, there.usage.completion_tokens)
        self.assertEqual(through.choices[0].logprobs, there.choices[0].logprobs)
        text = ""
        for chunk in client.chat.completions.create(model="builtin:haiku", stream=True, stream_options={"include_usage": True}, **(fields | {"n": 1})):
            text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            usage = chunk.usage
        self.assertEqual(text, there.choices[0].message.content)
        self.assertGreater(usage.completion_tokens, 0)
        self.assertEqual(len(client.embeddings.create(model="haiku", input=["a", "b"]).data), 2)
        with self.assertRaises(openai.NotFoundError):
            client.chat.completions.create(model="no-such-alias", messages=fields["messages"])
        with self.assertRaises(openai.BadRequestError) as e:
            client.chat.completions.create(model="haiku", messages=[{"role": "user", "content": "word " * 5000}])
        self.assertEqual(e.exception.code, "context_length_exceeded")
        with self.assertRaises(openai.BadRequestError) as e:
            client.chat.completions.create(model="haiku", messages=fields["messages"], temperature=9)
        self.assertEqual(e.exception.param, "temperature")
        client.close(), direct.close()

    def test_the_default_of_sampling_is_the_worker_s(self):
        body = {"model": "haiku", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
        for more in ({}, {"stream": True}):
            status, headers, _ = self.colony.call("POST", "/v1/chat/completions", body | more, None, self.d.port)
            self.assertEqual((status, headers["X-Llorch-Sampling"]), (200, "temperature=0.8, top_p=0.95, top_k=40, min_p=0.05"))
        started = next(data for _, kind, data in self.colony.infer(max_tokens=2) if kind == "started")
        self.assertEqual({name: started["params"][name] for name in ("temperature", "top_p", "top_k", "min_p")}, {"temperature": 0.8, "top_p": 0.95, "top_k": 40, "min_p": 0.05})

    def test_tokens_and_probabilities_of_prompts(self):
        worker = self.colony.call("GET", "/v1/status")[2]["workers"][0]
        for path, body in (("/tokenize", {"content": "the sea"}), ("/v1/tokenize", {"messages": [{"role": "user", "content": "x"}], "with_pieces": True}), ("/detokenize", {"tokens": [273, 1206]}), ("/v1/rerank", {"query": "a", "documents": ["b"]})):
            through, there = (self.colony.call("POST", path, body | {"model": model}, None, port) for model, port in (("haiku", self.d.port), ("builtin:haiku", worker["port"])))
            self.assertEqual(through[0], 400 if path == "/v1/rerank" else 200, through)
            self.assertIsNone(through[1]["X-Llorch-Ignored"])
            if through[0] == 200:
                self.assertEqual(through[2], there[2])
            else:
                self.assertEqual(through[2]["error"]["message"], there[2]["error"]["message"])
        _, _, scored = self.colony.call("POST", "/v1/completions", {"model": "haiku", "prompt": "the sea", "max_tokens": 0, "echo": True, "logprobs": 1})
        self.assertEqual(scored["choices"][0]["logprobs"]["token_logprobs"][0], None)
        _, _, text = self.colony.call("POST", "/v1/chat/completions", {"model": "haiku", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2, "stream": True, "return_progress": True})
        self.assertIn('"prompt_progress":{"total":', text)

    def test_pages_of_other_origins(self):
        page = "http://localhost:3000"
        with Colony() as c:
            c.queen("--cors-origin", page)
            ask = {"model": "builtin:haiku", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
            for more, status in (({}, 200), ({"stream": True}, 200), ({"model": "nope"}, 404), ({"temperature": 9}, 400)):
                got, headers, _ = c.call("POST", "/v1/chat/completions", ask | more, {"Origin": page})
                self.assertEqual((got, headers["Access-Control-Allow-Origin"]), (status, page), more)
                self.assertEqual(c.call("POST", "/v1/chat/completions", ask | more, {"Origin": "http://evil.example"})[0], 403)
            preflight = {"Access-Control-Request-Method": "POST"}
            self.assertEqual(c.call("OPTIONS", "/v1/jobs", None, {"Origin": page} | preflight)[0], 204)
            self.assertEqual(c.call("OPTIONS", "/v1/jobs", None, {"Origin": "http://evil.example"} | preflight)[0], 403)
            for path in ("/health", "/v1/models", "/"):
                self.assertEqual(c.call("HEAD", path)[0], 200)
            self.assertEqual(c.call("HEAD", "/v1/heartbeats/stream")[0], 405)

    def test_responses_and_messages(self):
        """Whole and streamed, through the queen and without her: the same texts, events in order, a whole end, each API's own errors."""
        worker = self.colony.call("GET", "/v1/status")[2]["workers"][0]
        said = set()
        for port in (self.d.port, worker["port"]):
            with self.openai(port) as c, anthropic.Anthropic(base_url=f"{self.colony.scheme}://127.0.0.1:{port}", api_key="unused", max_retries=0, http_client=anthropic.DefaultHttpxClient(verify=self.colony.trusting() or True)) as a:
                ask = dict(model="builtin:haiku", input="Write a haiku about the sea", temperature=0, max_output_tokens=40)
                said.add(c.responses.create(**ask).output_text)
                events = list(c.responses.create(stream=True, **ask))
                self.assertEqual([e.sequence_number for e in events], list(range(len(events))))
                said.add(events[-1].response.output_text)
                ask = dict(model="builtin:haiku", messages=[{"role": "user", "content": "Write a haiku about the sea"}], max_tokens=40, extra_body={"temperature": 0})
                said.add(a.messages.create(**ask).content[0].text)
                with a.messages.stream(**ask) as stream:
                    said.add("".join(stream.text_stream))
                self.assertEqual(a.messages.count_tokens(model="builtin:haiku", messages=ask["messages"]).input_tokens, 8)
                with self.assertRaises(anthropic.NotFoundError) as e:
                    a.messages.create(**(ask | {"model": "nobody"}))
                self.assertEqual(e.exception.body["error"]["type"], "not_found_error")
        self.assertEqual(len(said), 1, said)
        with self.openai(self.d.port) as c:
            ask = dict(model="builtin:haiku", max_output_tokens=8)
            first = c.responses.create(input="x", **ask)
            events = list(c.responses.create(input="and then?", previous_response_id=first.id, stream=True, **ask))
            second = events[-1].response
            self.assertGreater(second.usage.input_tokens, first.usage.input_tokens + first.usage.output_tokens, "the first stands before it")
            self.assertEqual(c.responses.retrieve(second.id).output_text, second.output_text)
            self.assertEqual([item.content[0].text for item in c.responses.input_items.list(second.id)], ["and then?"])
            page = c.responses.input_items.list(c.responses.create(input=[{"role": "user", "content": text} for text in "abc"], **ask).id, limit=1, order="asc")
            self.assertEqual(([item.content for item in page.data], page.has_more), (["a"], True))
            c.responses.delete(second.id)
            for gone in (second.id, "resp_none", c.responses.create(input="x", store=False, **ask).id):
                with self.assertRaises(openai.NotFoundError):
                    c.responses.retrieve(gone)
                with self.assertRaises(openai.NotFoundError) as e:
                    c.responses.create(input="x", previous_response_id=gone, **ask)
                self.assertEqual(e.exception.param, "previous_response_id")

    def test_a_client_that_leaves_frees_its_worker(self):
        body = json.dumps({"model": "haiku", "messages": [{"role": "user", "content": "x"}], "stream": True, "max_tokens": 240, "ignore_eos": True})
        with self.colony.socket(self.d.port) as s:
            s.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            s.recv(1000)
        wait_for(lambda: self.colony.call("GET", "/v1/status")[2]["workers"][0]["inflight"] == 0, 30)

    def test_operations_are_checked(self):
        for order, code, param in (({"operation": "nope"}, "UNKNOWN_OPERATION", "operation"), ({"operation": "infer", "model": "haiku"}, "INVALID_REQUEST", "prompt"), ({"operation": "infer", "prompt": "x"}, "INVALID_REQUEST", "model"),
                                   ({"operation": "infer", "model": "haiku", "prompt": "x", "nonsense": 1}, "INVALID_REQUEST", "nonsense"), ({"operation": "infer", "model": "haiku", "prompt": "x", "priority": "high"}, "INVALID_REQUEST", "priority"),
                                   ({"operation": "worker_process_list", "hive_id": "nobody"}, "HIVE_NOT_FOUND", "hive_id")):
            _, _, body = self.d.call("POST", "/v1/jobs", order)
            self.assertEqual((body["error"]["code"], body["error"].get("param")), (code, param), order)
        for order, param in (({"name": "a b", "model": "haiku"}, "name"), ({"name": "builtin:x", "model": "haiku"}, "name"), ({"name": "x", "model": "../y"}, "model")):
            status, _, body = self.d.call("POST", "/v1/jobs", {"operation": "model_alias"} | order)
            self.assertEqual((status, body["error"].get("param")), (400, param), order)
        self.colony.job({"operation": "model_alias", "name": "poet", "model": "haiku"})
        events = self.colony.job({"operation": "infer", "model": "poet", "prompt": "x", "max_tokens": 3})
        self.assertEqual(events[-1][1], "end", events[-1])
        events = self.colony.infer(temperature=9)
        self.assertEqual((events[-1][1], events[-1][2]["code"]), ("error", "INVALID_REQUEST"))


if __name__ == "__main__":
    main()
