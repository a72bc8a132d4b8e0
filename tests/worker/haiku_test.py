"""haiku_generation_anti_cheat (T-20): a word and a nonce that nobody could know beforehand, through the real worker, and the
proof that hard-coded, replayed and cached texts fail the same check."""
import datetime
import http.server
import json
import os
import platform
import random
import re
import string
import sys
import threading
import time
import unittest

import harness
from harness import ROOT, SANITIZED, Worker, main, parse_sse, text_of

ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = {2: "twenty", 3: "thirty", 4: "forty", 5: "fifty"}


def spell(minute):
    if minute < 20:
        return ONES[minute]
    return TENS[minute // 10] + ("-" + ONES[minute % 10] if minute % 10 else "")


def prompt_for(word, nonce):
    return f'Write a haiku about GPU computing that includes the word "{word}" (nonce: {nonce})'


def count(word, text):
    """Whole words: "twenty-nine" holds no "nine"."""
    return len(re.findall(rf"(?<![\w-]){word}(?![\w-])", text.lower()))


class Failed(Exception):
    pass


def check(client, run_dir=None):
    """One run. `client` answers call(method, path, body) as harness.Worker does. Raises Failed with the reason."""
    def need(ok, why):
        if not ok:
            raise Failed(why)

    def metric():
        text = client.call("GET", "/metrics")[2]
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith("llorch_worker_tokens_out_total ")), text

    for attempt in range(2):
        started = time.time()
        minute = datetime.datetime.now(datetime.timezone.utc).minute
        word = spell(minute)
        nonce = "".join(random.SystemRandom().choices(string.ascii_letters + string.digits, k=8))
        prompt = prompt_for(word, nonce)
        before, _ = metric()
        body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": 100, "temperature": 0.7, "seed": int(time.time())}
        status, _, made = client.call("POST", "/v1/inference", body)
        need(status == 202, f"POST answered {status}")
        status, _, raw = client.call("GET", made["sse_url"])
        need(status == 200, f"GET answered {status}")
        events, done = parse_sse(raw)
        after, snapshot = metric()
        if datetime.datetime.now(datetime.timezone.utc).minute == minute:
            break
        need(attempt == 0, "the minute turned twice")
    haiku = text_of(events)
    elapsed = time.time() - started
    if run_dir:
        os.makedirs(run_dir, exist_ok=True)
        started_event = events[0][2] if events else {}
        end = events[-1][2] if events else {}
        verification = {"minute": minute, "word": word, "nonce": nonce, "prompt": prompt, "haiku": haiku, "model": started_event.get("model"), "timings": {"elapsed_s": elapsed, "prefill_ms": end.get("prefill_time_ms"), "decode_ms": end.get("decode_time_ms")}}
        device = {"machine": platform.machine(), "system": platform.platform(), "cpus": os.cpu_count(), "info": client.call("GET", "/v1/info")[2]}
        files = {"verification.json": json.dumps(verification, indent=2), "sse_transcript.ndjson": "".join(json.dumps(d) + "\n" for _, _, d in events), "metrics_snapshot.json": json.dumps({"tokens_out_before": before, "tokens_out_after": after, "text": snapshot}, indent=2), "device_env.json": json.dumps(device, indent=2), "logs.jsonl": client.logs(),
                 "test_report.md": f"# haiku_generation_anti_cheat\n\nminute {minute} ({word}), nonce {nonce}, {elapsed:.2f} s\n\n```\n{haiku}\n```\n"}
        for name, text in files.items():
            with open(f"{run_dir}/{name}", "w") as f:
                f.write(text)
    print(f"minute {minute}, word {word}:\n{haiku}")
    kinds = [kind for _, kind, _ in events]
    need(kinds and kinds[0] == "started", f"the first event is {kinds[:1]}")
    need(kinds.count("token") >= 1, "no token")
    need(sum(k in ("end", "error") for k in kinds) == 1 and kinds[-1] == "end" and done, "the terminal event is not one, last, before [DONE]")
    need(count(word, haiku) == 1, f"the word {word!r} occurs {count(word, haiku)} times")
    named = sum(count(spell(m), haiku) > 0 for m in range(60))
    need(named <= 4, f"the text names {named} different minutes: a list, not a haiku about one")
    out = events[-1][2]["tokens_out"]
    need(out > 0 and after - before == out, f"tokens_out is {out}, the counter grew by {after - before}")
    need(elapsed < 30, f"it took {elapsed:.0f} s")
    return haiku


class Cheat:
    """A server with the right shapes and no model: hard-coded, replayed, or cached text."""

    def __init__(self, kind, transcript):
        self.kind, self.transcript, self.tokens = kind, transcript, 0.0
        cheat = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self, status, kind, text):
                data = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.answer(202, "application/json", '{"job_id":"job-1","sse_url":"/s"}')

            def do_GET(self):
                if self.path == "/metrics":
                    return self.answer(200, "text/plain", f"llorch_worker_tokens_out_total {cheat.tokens}\n")
                events, _ = parse_sse(cheat.transcript)
                if cheat.kind != "cached":  # counts as an honest one would
                    cheat.tokens += events[-1][2]["tokens_out"]
                self.answer(200, "text/event-stream", cheat.transcript)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    call = Worker.call
    connection = Worker.connection

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Haiku(unittest.TestCase):
    def test_haiku_generation_anti_cheat(self):
        run = time.strftime("%Y%m%d-%H%M%S", time.gmtime()) + "-" + "".join(random.choices("0123456789abcdef", k=8))
        run_dir = os.environ.get("LLORCH_PROOF_DIR", str(ROOT / ".test-results/haiku")) + "/" + run
        with Worker() as w:
            check(w, run_dir)
        self.assertEqual(sorted(os.listdir(run_dir)), ["device_env.json", "logs.jsonl", "metrics_snapshot.json", "sse_transcript.ndjson", "test_report.md", "verification.json"])

    def test_all_spellings_and_determinism(self):
        words = [spell(m) for m in range(60)]
        self.assertEqual(len(set(words)), 60)
        self.assertEqual((words[0], words[13], words[29], words[40], words[59]), ("zero", "thirteen", "twenty-nine", "forty", "fifty-nine"))
        with Worker() as w:
            ask = dict(messages=[{"role": "user", "content": prompt_for("seven", "abcd1234")}], max_tokens=100, temperature=0.7, seed=42)
            one, two = (w.generate(**ask) for _ in range(2))
            self.assertEqual([d["token_id"] for _, k, d in one if k == "token"], [d["token_id"] for _, k, d in two if k == "token"])
            held = sum(count(word, text_of(w.generate(messages=[{"role": "user", "content": prompt_for(word, "Zz9Zz9Zz")}], max_tokens=100, temperature=0.7, seed=7))) == 1 for word in words)
            print(f"word exactly once: {held} of 60 minutes")
            self.assertGreaterEqual(held, 55)

    def test_cheats_fail(self):
        minute = datetime.datetime.now(datetime.timezone.utc).minute
        other = spell((minute + 30) % 60)
        with Worker() as w:
            made = w.infer(messages=[{"role": "user", "content": prompt_for(other, "00000000")}], max_tokens=100, temperature=0.7, seed=1)
            recorded = w.get(made["sse_url"])[2]
        word = spell(minute)
        # A text that lists every word, as a hard-coded answer might.
        everything = recorded.replace('"t":"', '"t":" ' + " ".join(spell(m) for m in range(60)) + " ", 1)
        # Even with the right word: the token counter gives the cached text away.
        lines = [{"type": "started"}, *({"type": "token", "t": t} for t in ("The ", word, " lights glow")), {"type": "end", "tokens_out": 3}]
        honest_text = "".join(f"id: {i}\nevent: {d['type']}\ndata: {json.dumps(d)}\n\n" for i, d in enumerate(lines, 1)) + "data: [DONE]\n\n"
        for kind, transcript in (("replayed", recorded), ("hard-coded", everything), ("cached", honest_text), ("empty", "data: [DONE]\n\n")):
            cheat = Cheat(kind, transcript) if kind != "empty" else Cheat("cached", transcript)
            cheat.logs = lambda: ""
            try:
                with self.assertRaises((Failed, IndexError), msg=kind) as e:
                    check(cheat)
                print(f"{kind}: refused, {e.exception}")
            finally:
                cheat.close()

    def test_without_a_model_it_fails(self):
        with self.assertRaisesRegex(AssertionError, "/nope.gguf"):
            Worker(model="/nope.gguf")


if __name__ == "__main__":
    main()
