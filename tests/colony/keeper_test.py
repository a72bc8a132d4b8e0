"""The keeper against a queen made by the test: it follows the address that it is given, survives any framing, and tells a cut stream from a whole one."""
import contextlib
import http.server
import json
import os
import pty
import re
import signal
import socket
import subprocess
import threading
import time
import unittest

from colony import BIN, MAY_STOP, Colony, listens, main, text_of, wait_for
from listener import Listener


def frame(number, kind, **fields):
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps({'type': kind, 'seq': number} | fields)}\n\n"


START = frame(1, "started", job_id="job-x", model="m", seed=1, params={})
TOKENS = frame(2, "token", t="salt ", i=0) + frame(3, "token", t="wind", i=1)
END = frame(4, "end", tokens_out=2, stop_reason="EOS", tokens_in=1)
DONE = "data: [DONE]\n\n"


MADE = b'{"job_id":"job-x","sse_url":"/v7/elsewhere?of=x","status":"queued","queue_position":0}'


class Queen(Listener):
    """Answers with `body`, in pieces of `step` bytes, on a path that no client could have built; a chat completion with `chat`, which may also be called with the handler."""

    def __init__(self, body, step=1 << 20, refusals=(), made=MADE, chat=None):
        queen, self.asked, self.posted, self.requests, refusals = self, [], [], [], list(refusals)

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def answer(self, status, data, kind="application/json", retry_after=None):
                self.send_response(status)
                if retry_after:
                    self.send_header("Retry-After", retry_after)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                for at in range(0, len(data), step):
                    self.wfile.write(data[at : at + step])
                    self.wfile.flush()

            def do_GET(self):
                queen.asked.append(self.path)
                if self.path == "/health":
                    self.answer(200, b'{"status":"healthy"}')
                elif self.path == "/v7/elsewhere?of=x":
                    self.answer(200, body.encode(), "text/event-stream")
                else:
                    self.answer(404, b'{"error":{"code":"NOT_FOUND","message":"no such route","type":"not_found_error"}}')

            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                queen.posted.append(time.monotonic())
                queen.requests.append((self.path, request))
                if chat is not None and request.get("operation") == "model_load":
                    return self.answer(202, made)
                if refusals:
                    status, retry_after = refusals.pop(0)
                    return self.answer(status, b'{"error":{"code":"QUEUE_FULL","message":"come again","type":"rate_limit_error"}}', retry_after=retry_after)
                if callable(chat):
                    return chat(self)
                if chat is not None:
                    return self.answer(200, chat.encode(), "text/event-stream")
                self.answer(202, made)

        self.listen(Handler)


class ElsewhereWorker(Listener):
    """A hive and its worker, as far as a queen looks at them; the worker's stream lies at a path of its own choice."""

    def __init__(self):
        self.asked = asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def answer(self, status, body, kind="application/json"):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def do_GET(self):
                asked.append(self.path)
                if self.path == "/v1/capabilities":
                    self.answer(200, '{"devices":[{"id":"cpu","name":"mock","device_type":"cpu","memory_total_bytes":1,"memory_free_bytes":1}],"models":[],"workers_available":[]}')
                elif self.path == "/v9/over/there?number=7":
                    self.answer(200, START + TOKENS + END + DONE, "text/event-stream")
                else:
                    self.answer(200, "{}")

            def do_POST(self):
                self.rfile.read(int(self.headers["Content-Length"]))
                self.answer(202, '{"job_id":"job-7","sse_url":"/v9/over/there?number=7","status":"queued","queue_position":0}')

        self.listen(Handler)
        self.beat = {"hive_id": "mock", "url": self.url, "version": "0", "node": {}, "workers": [{"worker_id": "w", "uri": self.url, "model_ref": "builtin:haiku", "device": "cpu", "kind": "cpu", "state": "ready", "pid": 1, "port": self.port}]}


class Keeper(unittest.TestCase):
    def infer(self, body, step=1 << 20):
        queen = Queen(body, step)
        self.addCleanup(queen.close)
        with Colony() as c:
            r = subprocess.run([*c.command("infer", "--model", "m", "hello", "--queen", queen.url, "--no-autostart", "--quiet")], capture_output=True, text=True, env=c.env, timeout=60)
            self.partial = [f.read_text() for f in c.home.rglob("partial-*.txt")]
        self.assertEqual([p for p in queen.asked if p not in ("/health", "/v1/info")], ["/v7/elsewhere?of=x"])
        return r

    def test_the_path_is_followed_as_it_is_given(self):
        r = self.infer(START + TOKENS + END + DONE)
        self.assertEqual((r.returncode, r.stdout.strip()), (0, "salt wind"), r.stderr)

    def test_the_queen_follows_a_workers_path_as_it_is_given(self):
        mock = ElsewhereWorker()
        self.addCleanup(mock.close)
        with Colony() as c:
            c.queen()
            self.assertEqual(c.report(mock.beat)[0], 200)
            events = c.infer()
            self.assertEqual((events[-1][1], text_of(events)), ("end", "salt wind"), events)
            self.assertEqual([p for p in mock.asked if "v1/inference" in p or "v9" in p], ["/v9/over/there?number=7"])

    def test_a_full_queen_is_asked_again_when_she_said_and_then_ever_later(self):
        """After Retry-After, then 1, 2 and 4 s; then the refusal is told (K-06)."""
        for refusals, waits, code in (([(503, "2"), (429, None), (429, "9")], (2, 1, 2), 0), ([(429, "1")] * 9, (1, 1, 2, 4), 1)):
            queen = Queen(START + TOKENS + END + DONE, refusals=refusals)
            self.addCleanup(queen.close)
            with Colony() as c:
                r = subprocess.run([*c.command("infer", "--model", "m", "hello", "--queen", queen.url, "--no-autostart")], capture_output=True, text=True, env=c.env, timeout=60)
            self.assertEqual(r.returncode, code, r.stderr)
            self.assertIn("QUEUE_FULL", r.stderr)
            gaps = [b - a for a, b in zip(queen.posted, queen.posted[1:])]
            self.assertEqual(len(gaps), len(waits), gaps)
            for gap, wait in zip(gaps, waits):
                self.assertGreaterEqual(gap, wait)
                self.assertLess(gap, wait + 5)

    def test_any_framing(self):
        whole = ": hello\n\n" + START + "event: weather\ndata: {}\n\n" + TOKENS + ": ping\n\n" + END + DONE
        for body, step in ((whole, 1), (whole, 3), (whole.replace("\n", "\r\n"), 1), (whole.replace('"t": "wind"', '\ndata: "t": "wind"'), 7)):
            r = self.infer(body, step)
            self.assertEqual((r.returncode, r.stdout.strip()), (0, "salt wind"), r.stderr)

    def test_a_cut_stream_is_no_answer(self):
        for body in (START + TOKENS, START + TOKENS + END[:-9], START + TOKENS + END):
            r = self.infer(body)
            self.assertEqual(r.returncode, 1, body)
            self.assertIn("STREAM_TRUNCATED", r.stderr)
            self.assertIn("salt wind", r.stdout, "what came is kept")
            self.assertEqual(self.partial, ["salt wind"], "and in a file (K-06)")
            self.assertIn("what had come so far is in", r.stderr)

    def test_a_malformed_stream_is_no_answer(self):  # 15.23
        """Also where an end follows: nothing behind what is wrong is believed."""
        token = frame(9, "token", t="false")
        for wrong, what in (("event: token\ndata: {nonsense\n\n", "is no JSON object"), ("event: token\ndata: [1]\n\n", "is no JSON object"), (f"data: {'x' * (17 << 20)}\n\n", "is too long")):
            r = self.infer(START + TOKENS + wrong + token + END + DONE)
            self.assertEqual(r.returncode, 1, (what, r.stderr))
            self.assertRegex(r.stderr, rf"STREAM_MALFORMED: event \d+ of the stream, behind byte \d+, {what}")
            self.assertEqual(r.stdout.strip(), "salt wind")

    def test_an_answer_that_is_no_json_is_no_answer(self):  # 15.23
        for made in (b"<html>proxy</html>", MADE[:-1], b""):
            queen = Queen(START + TOKENS + END + DONE, made=made)
            self.addCleanup(queen.close)
            with Colony() as c:
                r = subprocess.run([*c.command("infer", "--model", "m", "hello", "--queen", queen.url, "--no-autostart")], capture_output=True, text=True, env=c.env, timeout=60)
                listed = subprocess.run([*c.command("status", "--queen", queen.url, "--no-autostart")], capture_output=True, text=True, env=c.env, timeout=60)
            self.assertEqual((r.returncode, r.stdout.strip()), (1, ""), made)
            self.assertIn("the answer to POST /v1/jobs is no JSON" if made else "lacks job_id", r.stderr)
            self.assertNotEqual(listed.returncode, 0)

    def test_a_hive_is_asked_no_question(self):
        with Colony() as c:
            for command in (("run", "haiku", "x"), ("infer", "-m", "haiku", "x"), ("chat", "haiku")):
                r = c.keeper(*command, "--direct")
                self.assertEqual(r.returncode, 2)
                self.assertIn("a hive, which runs workers and answers no questions\n  leave out --direct", r.stderr)

    def test_another_server_at_the_queen_s_address_is_told(self):
        class Other(Listener):
            def __init__(self, status, body):
                class Handler(http.server.BaseHTTPRequestHandler):
                    def log_message(self, *_):
                        pass

                    def do_GET(self):
                        self.send_response(status)
                        self.send_header("Content-Length", str(len(body)))
                        self.end_headers()
                        self.wfile.write(body)

                self.listen(Handler)

        with Colony() as c:
            for status, body in ((404, b"<html>not found</html>"), (200, b"hello"), (200, b'{"status": "ok"}'), (404, b'{"detail": "Not Found"}')):
                other = Other(status, body)
                try:
                    for command in (("status",), ("queen", "status"), ("queen", "start"), ("run", "haiku", "x")):
                        r = c.keeper(*command, "--queen", other.url)
                        self.assertEqual(r.returncode, 1, (command, r.stdout))
                        self.assertIn(f"something answers at {other.url}, and it is no queen of llama-orch\n  another program has that port", r.stderr)
                finally:
                    other.close()

    def test_a_hive_before_its_first_heartbeat_is_not_offline(self):
        with Colony() as c:
            c.queen()
            c.infer(max_tokens=2)
            self.assertEqual(c.keeper("queen", "stop").returncode, 0)
            c.queen()
            told = c.keeper("status").stdout
            self.assertIn("asleep: the queen starts it when it is needed", told)
            slow = c.home / "slow-hive"
            slow.write_text(f'#!/bin/sh\nsleep 3\nexec {BIN}/llorch-hive "$@"\n')
            slow.chmod(0o755)
            self.assertEqual(c.keeper("queen", "stop").returncode, 0)
            c.queen("--hive-program", slow)
            asking = c.start(*c.command("run", "haiku", "x", "-n", "2", "--quiet"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_for(lambda: re.search("hive .*: starting\n", c.keeper("status").stdout), 10)
            self.assertEqual(asking.wait(60), 0)

    def test_a_hive_of_the_queen_s_own_that_does_not_answer_or_cannot_start(self):
        with Colony(**MAY_STOP) as c:
            queen = c.queen()
            c.infer(max_tokens=2)
            [hive] = [pid for pid, command in c.census() if "llorch-hive" in command.split(" ")[0]]
            os.kill(hive, signal.SIGSTOP)
            try:
                wait_for(lambda: re.search("hive .*: offline: it runs, and does not answer\n", c.keeper("status").stdout), 20)
            finally:
                with contextlib.suppress(ProcessLookupError):  # its queen replaces it in the end
                    os.kill(hive, signal.SIGCONT)
            wait_for(lambda: c.call("GET", "/v1/status")[2]["offline"] == [], 20)
            queen.terminate()
            queen.wait(20)
            broken = c.home / "broken-hive"
            broken.write_text("#!/bin/sh\necho 'error: IO: no room on the disk' >&2\nexit 1\n")
            broken.chmod(0o755)
            c.queen("--hive-program", broken)
            self.assertIn("asleep: the queen starts it when it is needed", c.keeper("status").stdout)
            self.assertEqual(c.infer(max_tokens=2)[-1][1], "error")
            self.assertRegex(c.keeper("status").stdout, "hive .*: offline: .*no room on the disk\n")

    def test_direct_asks_this_machine_s_hive_wherever_it_listens(self):
        with Colony() as c:
            c.queen()
            c.infer(max_tokens=2)
            self.assertNotEqual(c.hive_port, 8600)
            r = c.keeper("worker", "list", "--direct")
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertIn("builtin:haiku", r.stdout)
            r = c.keeper("worker", "list", "--direct=http://127.0.0.1:9")
            self.assertIn("the hive at http://127.0.0.1:9 does not answer", r.stderr, "and no other than was named")

    def test_a_second_queen_has_a_hive_of_her_own(self):
        """Of another data directory, on a machine where the hive's usual port is taken."""
        with Colony() as c:
            del c.env["LLORCH_HIVE_PORT"]
            with socket.create_server(("127.0.0.1", 8600)) if not listens(8600) else contextlib.nullcontext():
                c.queen()
                c.infer(max_tokens=2)
                [hive] = c.call("GET", "/v1/status")[2]["hives"]
                self.assertNotEqual(hive["url"].rsplit(":", 1)[1], "8600")

    def test_a_key_that_nobody_has_seen_is_revoked(self):
        with Colony() as c:
            made = subprocess.run([BIN / "llorch", "key", "list"], capture_output=True, text=True, env=c.env, timeout=20)
            self.assertEqual(made.returncode, 0, made.stderr)
            self.assertIn("admits no keys: `llorch key create` makes one", made.stderr)
            for json_flag in ((), ("--json",)):
                with open("/dev/full", "w") as full:
                    r = subprocess.run([BIN / "llorch", "key", "create", *json_flag], stdout=full, stderr=subprocess.PIPE, text=True, env=c.env, timeout=20)
                self.assertEqual(r.returncode, 1)
                self.assertIn("the key could not be printed, and was revoked", r.stderr)
                self.assertEqual(json.loads(subprocess.run([BIN / "llorch", "key", "list", "--json"], capture_output=True, env=c.env, timeout=20).stdout), [])
                nobody, pipe = os.pipe()
                os.close(nobody)
                r = subprocess.run([BIN / "llorch", "key", "create", *json_flag], stdout=pipe, stderr=subprocess.PIPE, text=True, env=c.env, timeout=20)
                os.close(pipe)
                self.assertEqual(r.returncode, 1)
                self.assertIn("the key could not be printed, and was revoked", r.stderr)
                self.assertEqual(json.loads(subprocess.run([BIN / "llorch", "key", "list", "--json"], capture_output=True, env=c.env, timeout=20).stdout), [])
            self.assertEqual(subprocess.run([BIN / "llorch", "key", "create"], capture_output=True, env=c.env, timeout=20).returncode, 0)
            self.assertEqual(len(json.loads(subprocess.run([BIN / "llorch", "key", "list", "--json"], capture_output=True, env=c.env, timeout=20).stdout)), 1)

    def test_a_queue_of_no_place_is_refused(self):
        r = subprocess.run([BIN / "llorch-queen", "--local-mode", "--queue-capacity", "0"], capture_output=True, text=True, timeout=20)
        self.assertEqual(r.returncode, 2)
        self.assertIn("0 is no number of requests: 1 or more, as each waits for its worker, or -1", r.stderr)

    def test_why_a_queen_did_not_start_is_told(self):
        """Not where it can be read: her last error of this start, without what an older one left."""
        with Colony() as c:
            log = c.home / ".local/share/llorch/queen.log"
            log.parent.mkdir(parents=True)
            log.write_text('{"level":"error","message":"of another day"}\n')
            for text, words in (("echo '{\"level\":\"error\",\"message\":\"the port is taken\"}'; echo '{\"level\":\"info\",\"message\":\"bye\"}'", "while starting: the port is taken (her log"), ("echo no such library", "while starting: no such library ("), (":", "while starting:  (")):
                program = c.home / "queen"
                program.write_text(f"#!/bin/sh\n{text}\nexit 3\n")
                program.chmod(0o755)
                r = c.keeper("queen", "start", "--queen-program", program)
                self.assertEqual(r.returncode, 1)
                self.assertIn("the queen ended with 3 " + words, r.stderr)

    def test_a_long_computation_is_no_silence(self):
        """Of a queen who says nothing before the first token, and then a comment every 5 s."""
        def chat(handler):
            time.sleep(3)
            handler.answer(200, b'data: {"choices": [{"index": 0, "delta": {"content": "salt"}}]}\n\ndata: [DONE]\n\n', "text/event-stream")

        with Colony() as c:
            (c.home / "tools.json").write_text('[{"name": "clock"}]')
            queen = Queen(START + END + DONE, chat=chat)
            self.addCleanup(queen.close)
            r = subprocess.run(c.command("run", "m", "hello", "--tools", c.home / "tools.json", "--queen", queen.url, "--no-autostart", "--timeout", "1"), capture_output=True, text=True, env=c.env, timeout=60, stdin=subprocess.DEVNULL)
            self.assertEqual((r.returncode, r.stdout), (0, "salt\n"), r.stderr)

    def test_a_queen_that_drips_does_not_hold_a_person_up(self):
        """A byte of her answer now and then: she is never silent, and never done."""
        ear = socket.create_server(("127.0.0.1", 0))

        def drip():
            try:
                while True:
                    with ear.accept()[0] as caller:
                        caller.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                        for _ in range(60):
                            caller.sendall(b"x")
                            time.sleep(0.5)
            except OSError:
                pass

        threading.Thread(target=drip, daemon=True).start()
        with ear, Colony() as c:
            began = time.monotonic()
            r = subprocess.run(c.command("status", "--queen", f"http://127.0.0.1:{ear.getsockname()[1]}", "--no-autostart"), capture_output=True, text=True, env=c.env, timeout=60)
            self.assertLess(time.monotonic() - began, 12)
        self.assertIn("asleep", r.stdout)

    def test_a_queen_says_where_she_is_while_she_listens(self):
        with Colony() as c:
            queen, place = c.queen(), c.home / ".local/share/llorch/queen-url"
            wait_for(place.exists)
            self.assertEqual((place.read_text(), place.stat().st_mode & 0o777), (c.url, 0o600))
            del c.env["LLORCH_QUEEN_URL"]
            r = c.keeper("status")
            self.assertNotIn("asleep", r.stdout + r.stderr, "whoever names no queen finds her there")
            queen.terminate()
            queen.wait(30)
            self.assertFalse(place.exists())

    def test_a_file_that_cannot_be_used_is_named(self):
        with Colony() as c:
            (c.home / "garbage").write_text("garbage")
            for url in (c.url, f"https://127.0.0.1:{c.queen_port}"):
                for file, words in ((c.home / "none", "cannot be read"), (c.home / "garbage", "no root certificate") if url.startswith("https") else (c.home, "cannot be read")):
                    r = c.keeper("status", "--queen", url, "--ca-file", file)
                    self.assertEqual((r.returncode, r.stdout), (2, ""), r.stderr)
                    self.assertIn(words, r.stderr)
                    self.assertIn(str(file), r.stderr)
            r = c.keeper("status", "--token-file", c.home / "none")
            self.assertEqual((r.returncode, r.stdout), (2, ""), r.stderr)
            self.assertIn(str(c.home / "none"), r.stderr)

    def test_an_error_is_told_with_its_code(self):
        r = self.infer(START + TOKENS + frame(4, "error", code="WORKER_CRASHED", message="the worker ended", retriable=True) + DONE)
        self.assertEqual(r.returncode, 1)
        self.assertIn("WORKER_CRASHED: the worker ended", r.stderr)

    def test_a_terminal_counts_the_seconds_down_and_a_file_does_not(self):
        with Colony() as c:
            (c.home / "ssh").write_text("#!/bin/sh\nsleep 2.5\necho there\n")
            (c.home / "ssh").chmod(0o755)
            env = c.env | {"PATH": f"{c.home}:{os.environ['PATH']}"}
            ours, theirs = pty.openpty()
            for err in (theirs, subprocess.PIPE):
                r = subprocess.run(c.command("hive", "status", "-a", "attic.lan")[:-2], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err, env=env, text=True, timeout=60)
                self.assertIn("there", r.stdout)
            os.close(theirs)
            told = os.read(ours, 4096).decode()
            os.close(ours)
            self.assertRegex(told, r"\r\x1b\[Kasking for the hive: 19 s left\r\x1b\[Kasking for the hive: 18 s left\r\x1b\[K")
            self.assertEqual(r.stderr, "")


if __name__ == "__main__":
    main()
