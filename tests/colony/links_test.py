"""What other daemons say is not trusted: a hive and its workers that lie, stall and garble, message after message (S-70)."""
import contextlib
import copy
import http.client
import http.server
import json
import os
import random
import threading
import time
import unittest
import urllib.parse

from colony import Colony, main, parse_sse, wait_for
from listener import Listener

SEEDS = int(os.environ.get("LLORCH_LINK_SEEDS", "6"))
STEPS = 60
STRANGE = [None, True, -1, 0, 2**63 - 1, 2**63, 1e308, "", "x" * 3000, "\n\u202e", "unknown-state", "../../etc/passwd", [], {}, [[]] * 50, {"a": {"b": []}}]


def places(value, at=()):
    """The path of everything inside a JSON value."""
    yield at
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, at + (key,))


def mutated(rng, value):
    """The text of a message that may no longer be what it was."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((0, 0, 1, 1, 2, 4))):
        path = rng.choice(list(places(value)))
        if not path:
            continue
        holder = value
        for key in path[:-1]:
            holder = holder[key]
        if rng.random() < 0.3:
            del holder[path[-1]]
        else:
            holder[path[-1]] = copy.deepcopy(rng.choice(STRANGE))
    text = json.dumps(value)
    damage = rng.random()
    if damage < 0.05:
        return text[: rng.randrange(len(text) + 1)]
    return text.replace('"', "'", 1) if damage < 0.08 else text


class Liar(Listener):
    """A hive and its worker on one port, which answer whatever comes to their mind."""

    def __init__(self, seed):
        self.rng = rng = random.Random(seed)
        self.lock = threading.Lock()
        self.asked = self.answered = 0
        self.hold = None  # an event: answers wait for it, and are true
        liar = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if liar.hold:
                    return self.truth()
                with liar.lock:
                    liar.asked += 1
                    mood = rng.random()
                    body = liar.stream() if self.path.endswith("/stream") else mutated(rng, liar.reply(self.path)).encode()
                    status = rng.choice((200, 202, 202, 204, 302, 400, 404, 429, 500, 503)) if mood < 0.2 else 202 if self.command == "POST" else 200
                    stall = rng.random() * 0.3 if rng.random() < 0.1 else 0
                time.sleep(stall)
                if mood > 0.97:  # not HTTP at all
                    self.wfile.write(b"\x00\xff garbage\r\n\r\n")
                    self.close_connection = True
                    return
                self.send(status, body, "text/event-stream" if self.path.endswith("/stream") else "application/json", 50 if 0.93 < mood < 0.97 else 0)
                self.close_connection = mood > 0.9

            def send(self, status, body, kind, missing=0):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body) + missing))
                self.end_headers()
                self.wfile.write(body)

            def truth(self):
                liar.asked += 1
                liar.hold.wait(30)
                with contextlib.suppress(OSError):  # who is removed may not be listened to any more
                    self.send(200, json.dumps(liar.reply(self.path)).encode(), "application/json")
                liar.answered += 1

            do_GET = do_POST = do_DELETE = answer

        self.listen(Handler)

    def reply(self, path):
        if path == "/v1/capabilities":
            return {"devices": [{"id": "cpu", "name": "mock", "device_type": "cpu", "memory_total_bytes": 10**12, "memory_free_bytes": 10**12}], "models": [{"id": "m", "ref": "builtin:haiku", "name": "m", "size_bytes": 1, "quant": "Q8_0", "status": "Available"}], "workers_available": [{"id": "cpu", "kind": "cpu", "version": "0"}]}
        return {"job_id": "job-00000000-0000-4000-8000-000000000001", "sse_url": f"{path}/1/stream", "status": "queued", "queue_position": 0}

    def stream(self):
        rng = self.rng
        events = [{"type": "started", "seq": 1, "model": "builtin:haiku", "started_at": "2026-01-01T00:00:00.000Z", "correlation_id": "c", "seed": 1, "params": {}}]
        events += [{"type": "token", "seq": i + 2, "t": "a", "i": i, "token_id": 1} for i in range(rng.randrange(4))]
        events += [{"type": "narration", "seq": 9, "human": "h", "action": "a"}, {"type": "result", "seq": 10, "result": {"worker_id": "w", "uri": self.url, "port": 1, "pid": 1, "fits": True}}, {"type": "end", "seq": 11, "tokens_out": 1, "stop_reason": "EOS"}]
        if rng.random() < 0.3:
            rng.shuffle(events)
        text = "".join(f"id: {rng.choice((e['seq'], e['seq'], 'x'))}\nevent: {rng.choice((e['type'], e['type'], e['type'], 'opcode-77'))}\ndata: {mutated(rng, e)}\n\n" for e in events)
        if rng.random() < 0.7:
            text += "data: [DONE]\n\n"
        return text.encode()[: None if rng.random() < 0.8 else rng.randrange(len(text) + 1)]

    def beat(self):
        rng = self.rng
        worker = {"worker_id": rng.choice(("w", "w2")), "uri": self.url, "model_ref": "builtin:haiku", "device": "cpu", "kind": "cpu", "state": rng.choice(("starting", "ready", "ready", "busy", "stopping")), "pid": 1, "port": 8601}
        return {"hive_id": rng.choice(("liar", "liar", "liar-two")), "url": self.url, "version": "0", "revision": str(rng.randrange(3)), "node": {}, "workers": [worker] * rng.randrange(3)}


class Links(unittest.TestCase):
    def play(self, c, seed):
        liar, clients, ended = Liar(seed), [], []

        def ask():
            try:
                made = c.call("POST", "/v1/jobs", {"operation": "infer", "model": "builtin:haiku", "hive_id": "liar", "prompt": "x", "max_tokens": 4, "deadline_ms": 1500})
                if made[0] == 202:
                    events, done = parse_sse(c.call("GET", made[2]["sse_url"])[2])
                    ended.append((done, events[-1][1]))
                else:
                    ended.append((True, "error") if made[0] in (400, 404, 429, 503, 504) else made)
            except (OSError, http.client.HTTPException, ValueError, IndexError) as e:
                ended.append(repr(e))

        try:
            for _ in range(STEPS):
                with liar.lock:
                    step = liar.rng.choices(("beat", "ready", "failed", "ask", "look", "forget"), (10, 1, 2, 3, 2, 1))[0]
                    told = mutated(liar.rng, liar.beat()) if step == "beat" else mutated(liar.rng, {"hive_id": "liar", "worker_id": "w", "reason": "CRASHED", "message": "m"})
                if step in ("beat", "ready", "failed"):
                    path = {"beat": "/v1/heartbeat", "ready": "/v1/hive/ready", "failed": "/v1/workers/failed"}[step]
                    status, _, answer = c.report(told, path)
                    self.assertIn(status, (200, 400, 403, 404, 409), (seed, step, told, answer))
                elif step == "ask":
                    clients.append(threading.Thread(target=ask))
                    clients[-1].start()
                elif step == "look":
                    status, _, overview = c.call("GET", "/v1/status")
                    self.assertEqual((status, type(overview)), (200, dict), seed)
                    for w in overview["workers"]:
                        self.assertIn(w["state"], ("starting", "ready", "busy", "stopping"), seed)
                else:
                    self.assertIn(c.call("DELETE", "/v1/hives/liar")[0], (200, 404), seed)
            for t in clients:
                t.join(30)
            self.assertEqual(len(ended), len(clients), f"seed {seed}: somebody still waits")
            for outcome in ended:
                self.assertTrue(isinstance(outcome, tuple) and outcome[0] is True and outcome[1] in ("end", "error"), (seed, outcome))
        finally:
            liar.close()
            seen = c.call("GET", "/v1/status")[2]
            for hive in seen["hives"] + seen["offline"]:  # by whatever name a beat was taken
                c.call("DELETE", f"/v1/hives/{urllib.parse.quote(hive['id'], safe='')}")
        return liar.asked, len(ended)

    def test_a_hive_that_lies(self):
        with Colony() as c:
            queen = c.queen()
            asked = answered = 0
            for seed in range(SEEDS):
                with self.subTest(seed=seed):
                    a, e = self.play(c, seed)
                    asked, answered = asked + a, answered + e
            self.assertIsNone(queen.poll(), "the queen has ended")
            self.assertGreater(asked, 5 * SEEDS, "the queen hardly spoke with the liar")
            self.assertGreater(answered, SEEDS)
            # And she still works for those who are honest.
            events = c.infer()
            self.assertEqual(events[-1][1], "end", events[-1])
            wait_for(lambda: not [h for h in c.call("GET", "/v1/status")[2]["hives"] if "liar" in h["id"]])

    def test_a_hive_that_is_removed_while_it_is_asked_leaves_nothing(self):
        slow = Liar(1)
        self.addCleanup(slow.close)
        slow.hold = threading.Event()
        with Colony() as c:
            c.queen()
            beat = {"hive_id": "slow", "url": slow.url, "version": "0", "node": {}, "workers": []}
            self.assertEqual(c.report(beat)[0], 200)
            wait_for(lambda: slow.asked == 1)  # for its capabilities
            self.assertEqual(c.call("DELETE", "/v1/hives/slow")[0], 200)
            slow.hold.set()
            wait_for(lambda: slow.answered == 1)
            self.assertEqual(c.infer()[-1][1], "end")  # on this machine: its hive is started where the catalog is empty
            self.assertEqual(c.call("GET", "/v1/status")[2]["offline"], [])  # nor has the answer come to the catalog since

    def test_a_hive_that_is_away_is_named(self):
        box = Liar(1)
        self.addCleanup(box.close)
        box.hold = threading.Event()
        box.hold.set()
        with Colony() as c:
            queen = c.queen()
            self.assertEqual(c.report({"hive_id": "box", "url": box.url, "version": "0", "node": {}, "workers": []})[0], 200)
            wait_for(lambda: [h for h in c.call("GET", "/v1/status")[2]["hives"] if h["known"]])
            queen.terminate()
            queen.wait(30)
            queen = c.queen("--no-own-hive", heartbeat_s=5)  # who knows it from her catalog, and has not heard from it for less than an interval
            status = c.call("GET", "/v1/status")[2]
            self.assertEqual((status["hives"], status["offline"]), ([], [{"id": "box", "host": "127.0.0.1", "port": int(box.url.rsplit(":", 1)[1]), "revoked": False, "state": "unheard"}]))
            self.assertIn(f"hive box at {box.url.removeprefix('http://')}: starting, or offline: the queen has just begun to listen", c.keeper("status").stdout)
            wait_for(lambda: f"hive box at {box.url.removeprefix('http://')}: offline\n" in c.keeper("status").stdout, 20)
            _, kind, why = c.infer()[-1]
            self.assertEqual((kind, why["code"]), ("error", "NO_WORKERS_AVAILABLE"))
            self.assertIn("online: box", why["message"])
            _, kind, why = c.infer(hive_id="box")[-1]
            self.assertEqual((kind, why["code"], why["message"]), ("error", "NO_WORKERS_AVAILABLE", "the hive box is offline"))
            for operation in ({"operation": "worker_process_list"}, {"operation": "infer", "model": "haiku", "prompt": "x"}, {"operation": "model_load", "model": "haiku"}):
                status, _, answer = c.call("POST", "/v1/jobs", operation | {"hive_id": "nosuch"})
                self.assertEqual((status, answer["error"]["code"]), (404, "HIVE_NOT_FOUND"), answer)
                self.assertRegex(answer["error"]["message"], "there is no hive nosuch: the colony has .*box")
            queen.terminate()
            queen.wait(30)
            c.queen()
            self.assertEqual(c.infer()[-1][1], "end", "where nothing else suits, this machine's own hive is started")

    def test_an_unknown_word_is_refused(self):
        liar = Liar(1)
        self.addCleanup(liar.close)
        with Colony() as c:
            c.queen()
            beat = {"hive_id": "h", "url": liar.url, "version": "0", "node": {}, "workers": [{"worker_id": "w", "uri": liar.url, "model_ref": "builtin:haiku", "device": "cpu", "kind": "cpu", "state": "ready", "pid": 1, "port": 1}]}
            self.assertEqual(c.report(beat)[0], 200)
            beat["workers"][0]["state"] = "levitating"
            status, _, answer = c.report(beat)
            self.assertEqual((status, answer["error"]["code"]), (400, "INVALID_REQUEST"))
            self.assertIn("state", answer["error"]["message"])


if __name__ == "__main__":
    main()
