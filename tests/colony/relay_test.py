"""What the queen relays: answers without end, streams that nobody takes or that break off, and bodies of hives."""
import contextlib
import json
import re
import threading
import unittest

from actor import Actor
from colony import Colony, main, wait_for

CHAT = {"model": "builtin:haiku", "messages": [{"role": "user", "content": "x"}]}
MIB = 1 << 20


def head(status, kind, length=None):
    more = "" if length is None else f"Content-Length: {length}\r\n"
    return f"HTTP/1.1 {status} x\r\nContent-Type: {kind}\r\nConnection: close\r\n{more}\r\n".encode()


def sends(handler, first, piece=b"", pieces=0):
    """How many pieces the queen took before she closed; all of them when she did not."""
    handler.wfile.write(first)
    for i in range(pieces):
        try:
            handler.wfile.write(piece)
        except OSError:
            return i
    return pieces


class Relay(unittest.TestCase):
    def setUp(self):
        self.c = Colony()
        self.addCleanup(self.c.__exit__, None, None, None)
        self.c.__enter__()
        self.c.queen("--heartbeat-missed-threshold", "60")

    def worker(self, name, says):
        actor = Actor(name)
        actor.says = says
        self.addCleanup(actor.close)
        self.assertEqual(self.c.report(actor.beat())[0], 200)
        wait_for(lambda: f"hive-{name}" in {h["id"] for h in self.c.call("GET", "/v1/status")[2]["hives"] if h["known"]}, 15)
        return actor

    @contextlib.contextmanager
    def beats(self, actor):
        """A worker that has failed is known again by the next heartbeat."""
        over = threading.Event()

        def beat():
            while not over.wait(0.2):
                self.c.report(actor.beat())

        beating = threading.Thread(target=beat)
        beating.start()
        yield
        over.set()
        beating.join()

    def chat(self, headers=None, **more):
        return self.c.call("POST", "/v1/chat/completions", CHAT | more, headers)

    def feed(self, client):
        order = {"operation": "infer", "model": "builtin:haiku", "prompt": f"client {client}", "max_tokens": 60, "ignore_eos": True, "seed": client, "temperature": 1}
        events = self.c.job(order)
        self.assertEqual(events[-1][1], "end", events[-1])
        return [d["t"] for _, kind, d in events if kind == "token"]

    def fed(self):
        return int(re.search(r"^llorch_queen_jobs_fed_total (\d+)", self.c.call("GET", "/metrics")[2], re.M)[1])

    def test_many_answers_of_a_worker_come_on_one_stream(self):
        alone = [self.feed(i) for i in range(12)]
        self.assertEqual(self.fed(), 0, "one at a time has a stream of its own")
        together = {}

        def client(i):
            for _ in range(5):
                together.setdefault(i, []).append(self.feed(i))

        threads = [threading.Thread(target=client, args=(i,)) for i in range(12)]
        [t.start() for t in threads], [t.join() for t in threads]
        for i in range(12):
            self.assertEqual(together[i], [alone[i]] * 5)
        self.assertGreater(self.fed(), 10)

    def test_a_worker_that_knows_no_feeds_is_followed_stream_by_stream(self):
        together, ends = threading.Barrier(4), []

        def says(handler):
            together.wait(20)
            handler.wfile.write(head(200, "text/event-stream") + actor.native(0) + actor.native(1) + b"data: [DONE]\n\n")

        actor = self.worker("old", says)
        threads = [threading.Thread(target=lambda: ends.append(self.c.infer()[-1][1])) for _ in range(8)]
        [t.start() for t in threads], [t.join() for t in threads]
        self.assertEqual(ends, ["end"] * 8)
        self.assertIn("GET /v1/feed", actor.paths)
        self.assertEqual(self.fed(), 0)

    def test_a_worker_that_names_no_path_for_its_stream_has_failed(self):
        actor = self.worker("ant", None)
        actor.reply = lambda path: {"job_id": "j", "sse_url": "@127.0.0.1:1/x", "status": "queued", "queue_position": 0}
        self.c.report(actor.beat())
        with self.beats(actor):
            events = self.c.infer(worker_id="worker-ant")
        self.assertIn("POST /v1/inference", actor.paths)
        self.assertEqual(events[-1][1], "error")
        self.assertNotEqual(events[-1][2]["code"], "INVALID_REQUEST", "the client did nothing wrong")

    def test_a_whole_answer_has_a_limit(self):
        took = []
        self.worker("ant", lambda h: took.append(sends(h, head(200, "application/json"), b" " * MIB, 128)))
        status, _, body = self.chat()
        self.assertEqual((status, body["error"]["code"]), (500, "INFERENCE_FAILED"))
        wait_for(lambda: took, 10)
        self.assertEqual(len(took), 1, "it was tried again")
        self.assertLess(took[0], 64)

    def test_a_stream_that_its_client_does_not_take_is_called_off(self):
        took = []
        frame = b"data: " + b"x" * (MIB - 8) + b"\n\n"
        self.worker("ant", lambda h: took.append(sends(h, head(200, "text/event-stream"), frame, 128)))
        body = json.dumps(CHAT | {"stream": True})
        with self.c.socket() as client:
            client.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            wait_for(lambda: took, 30)
        self.assertLess(took[0], 64)
        self.c.wait_logged("queen", "the client does not take its stream")

    def test_a_job_holds_no_more_than_its_log(self):
        took = []
        frames = [b'id: 1\nevent: started\ndata: {"type":"started","seq":1}\n\n']
        token = json.dumps({"type": "token", "seq": 2, "t": "x" * (MIB // 2), "i": 0, "token_id": 1}, separators=(",", ":"))
        piece = f"id: 2\nevent: token\ndata: {token}\n\n".encode()
        self.worker("ant", lambda h: took.append(sends(h, head(200, "text/event-stream") + frames[0], piece, 192)))
        for stream in (True, False):
            with self.subTest(stream=stream):
                took.clear()
                made = self.c.call("POST", "/v1/jobs", {"operation": "infer", "model": "builtin:haiku", "prompt": "x", "resumable": True, "stream": stream})[2]
                wait_for(lambda: took, 60)
                self.assertLess(took[0], 128)
                text = self.c.call("GET", made["sse_url"])[2]
                self.assertIn("INFERENCE_FAILED", text)

    def test_a_status_that_is_none_is_a_failed_try(self):
        for status in (102, 700):
            with self.subTest(status):
                asked = []

                def says(handler):
                    asked.append(1)
                    whole = b'{"choices":[]}'
                    handler.wfile.write(head(status if len(asked) == 1 else 200, "application/json", len(whole)) + whole)

                actor = self.worker(f"ant{status}", says)
                with self.beats(actor):
                    answer = self.chat()
                self.assertEqual(answer[0], 200, answer)
                self.assertEqual(len(asked), 2)
                actor.close()
                self.c.call("DELETE", f"/v1/hives/hive-ant{status}")

    def test_an_answer_that_is_no_json_is_a_failed_try(self):
        whole = b'{"choices":[]}'
        long = b'{"choices":["' + b"x" * MIB
        for kind, text in (("text/html", b"<html>not the worker</html>"), ("application/json", b""), ("application/json", b'{"choices":['), ("application/json", b"null"), ("application/json", long)):
            with self.subTest(kind, text=text[:20]):
                asked = []

                def says(handler):
                    asked.append(1)
                    first = len(asked) == 1
                    handler.wfile.write(head(200, kind if first else "application/json", len(text if first else whole)) + (text if first else whole))

                name = f"ant{len(text)}"
                actor = self.worker(name, says)
                with self.beats(actor):
                    answer = self.chat()
                self.assertEqual((answer[0], answer[2]), (200, {"choices": []}))
                self.assertEqual(len(asked), 2)
                actor.close()
                self.c.call("DELETE", f"/v1/hives/hive-{name}")

    def test_an_answer_that_is_never_json_is_a_failed_request(self):
        actor = self.worker("ant", lambda h: h.wfile.write(head(200, "text/html", 5) + b"hello"))
        with self.beats(actor):
            status, _, body = self.chat({"Idempotency-Key": "k"})
        self.assertEqual((status, body["error"]["code"]), (503, "WORKER_CRASHED"))
        text = self.c.call("GET", "/metrics")[2]
        self.assertIn('llorch_queen_requests_total{outcome="failed"} 1', text)
        self.assertNotIn('outcome="completed"', text)

    def test_prompts_of_jobs_that_wait_count_as_bodies(self):
        actor = Actor("ant")  # its worker starts for ever
        self.addCleanup(actor.close)
        beat = actor.beat()
        beat["workers"][0]["state"] = "starting"
        self.assertEqual(self.c.report(beat)[0], 200)
        order = {"operation": "infer", "model": "builtin:haiku", "raw": True, "messages": [{"role": "user", "content": "x" * (7 * MIB)}]}

        def bodies():
            return int(re.search(r"^llorch_queen_bodies_bytes\S* (\S+)", self.c.call("GET", "/metrics")[2], re.M)[1])

        jobs, refused = [], None
        while len(jobs) < 40 and not refused:
            status, _, body = self.c.call("POST", "/v1/jobs", order)
            if status == 202:
                jobs.append(body["job_id"])
            else:
                refused = (status, body["error"]["code"])
        self.assertEqual(refused, (429, "QUEUE_FULL"), f"{len(jobs)} jobs of 7 MiB")
        self.assertEqual(len(jobs), 36, "256 MiB")
        self.assertGreater(bodies(), 250 * MIB)
        self.assertEqual(self.c.call("POST", "/v1/jobs", {"operation": "hive_check", "hive_id": "hive-ant"})[0], 202, "others go on")
        for j in jobs:
            self.assertEqual(self.c.call("DELETE", f"/v1/jobs/{j}")[0], 200)
        wait_for(lambda: bodies() == 0, 10)
        status, _, body = self.c.call("POST", "/v1/jobs", order)
        self.assertEqual(status, 202)
        self.c.call("DELETE", f"/v1/jobs/{body['job_id']}")

    def test_a_stream_without_its_end_says_so(self):
        part = b'data: {"choices":[]}\n\n'
        told = b'data: {"error":{"code":"INFERENCE_FAILED"}}\n\n'
        stream = []
        self.worker("ant", lambda h: sends(h, head(200, "text/event-stream", len(stream[0])) + stream[0]))
        for sent, expected in ((part, True), (part + part[:12], True), (part + told, False), (part + b"data: [DONE]\n\n", False)):
            with self.subTest(sent):
                stream[:] = [sent]
                status, _, text = self.chat(stream=True)
                self.assertEqual(status, 200)
                self.assertTrue(text.startswith(sent.decode()))
                self.assertEqual("\n\ndata: {" in text and "WORKER_CRASHED" in text, expected, text)

    def test_a_chat_completion_that_is_taken_up_again(self):
        part = lambda i: b'data: {"choices":[{"delta":{"content":"%d"}}]}\n\n' % i
        go, ending, closed = threading.Event(), [b"data: [DONE]\n\n"], threading.Event()

        def says(handler):
            handler.wfile.write(head(200, "text/event-stream") + b"".join(map(part, range(5))))
            go.wait(20)
            try:
                for i in range(5, 10):
                    handler.wfile.write(part(i))
                handler.wfile.write(ending[0])
                while not ending[0]:
                    handler.wfile.write(b": ping\n\n")
            except OSError:
                closed.set()

        self.worker("ant", says)

        def begin():
            """Where the stream is, of which five events have come; the client has left."""
            go.clear()
            connection = self.c.connection()
            connection.request("POST", "/v1/chat/completions", json.dumps(CHAT | {"stream": True}), {"Content-Type": "application/json", "X-Resumable": "1"})
            answer = connection.getresponse()
            text = b""
            while text.count(b"\n\n") < 5:
                text += answer.read1()
            self.assertIn(b'id: 5\ndata: {"choices":[{"delta":{"content":"4"}}]}', text)
            connection.close()
            return answer.headers["X-Sse-Url"]

        url = begin()
        go.set()
        rest = self.c.call("GET", url, None, {"Last-Event-ID": "3"})[2]
        self.assertEqual(re.findall(r'^id: (\d+)\ndata: .*"content":"(\d)"', rest, re.M), [(str(i + 1), str(i)) for i in range(3, 10)])
        self.assertTrue(rest.endswith("\n\ndata: [DONE]\n\n"), rest[-60:])
        self.assertNotIn("X-Sse-Url", self.chat(stream=True)[1], "without the header it is passed on as it is")
        ending[0] = b'data: {"error":{"code":"DEADLINE_EXCEEDED","message":"no"}}\n\n'
        url = begin()
        go.set()
        rest = self.c.call("GET", url, None, {"Last-Event-ID": "9"})[2]
        self.assertIn('"content":"9"', rest)
        self.assertEqual([json.loads(line)["error"] | {"type": 0} for line in re.findall(r'(?m)^data: (\{.*"error".*)$', rest)], [{"code": "DEADLINE_EXCEEDED", "message": "no", "type": 0}], "the worker's, once, in OpenAI's shape")
        self.assertNotIn("[DONE]", rest)
        ending[0] = b""
        url = begin()
        self.assertEqual(self.c.call("DELETE", url.removesuffix("/stream"))[0] // 100, 2)
        go.set()
        self.assertTrue(closed.wait(10), "the worker is not left at work")
        self.assertEqual(self.c.call("POST", "/v1/chat/completions", CHAT | {"stream": True, "model": "no-such-alias"}, {"X-Resumable": "1"})[0], 404)

    def test_an_end_that_stands_within_an_answer_is_none(self):
        call = b'{"message":{"tool_calls":[{"function":{"name":"x","arguments":{"done":true}}}]},"done":false}\n'
        text = b'data: {"choices":[{"delta":{"content":"data: [DONE]"},"finish_reason":null}]}\n\n'
        stream = []
        self.worker("ant", lambda h: sends(h, head(200, stream[0], len(stream[1])) + stream[1]))
        for path, kind, sent, cut in (("/api/chat", "application/x-ndjson", call, True), ("/api/chat", "application/x-ndjson", call + b'{"done":true}\n', False), ("/v1/chat/completions", "text/event-stream", text, True)):
            with self.subTest(sent):
                stream[:] = [kind, sent]
                status, _, body = self.c.call("POST", path, CHAT | {"stream": True})
                self.assertEqual((status, body.startswith(sent.decode()), "the worker's stream ended" in body), (200, True, cut), body)

    def test_an_answer_is_given_again_under_its_key(self):
        whole = b'{"choices":[],"id":"one"}'
        actor = self.worker("ant", lambda h: sends(h, head(200, "application/json", len(whole)) + whole))
        asked = lambda: sum(p.startswith("POST /v1/chat") for p in actor.paths)
        key = {"Idempotency-Key": "k"}
        first, second = self.chat(key), self.chat(key)
        self.assertEqual((first[0], first[2]), (200, {"choices": [], "id": "one"}))
        self.assertEqual((second[0], second[2], second[1]["Idempotent-Replayed"]), (200, first[2], "true"))
        self.assertEqual(asked(), 1)
        status, _, body = self.chat(key, temperature=0.5)
        self.assertEqual((status, body["error"]["code"]), (409, "IDEMPOTENCY_MISMATCH"))
        self.assertEqual(asked(), 1)
        self.assertEqual(self.chat({"Idempotency-Key": "another"})[0], 200)
        self.assertEqual(asked(), 2)

    def test_bodies_of_hives_are_small(self):
        large = {"filler": "x" * (MIB + 1)}
        for path in ("/v1/heartbeat", "/v1/workers/failed", "/v1/hive/join"):
            self.assertEqual(self.c.report(large, path)[0], 413, path)


if __name__ == "__main__":
    main()
