"""What goes wrong in a colony: things die, restart, lie, or are not allowed; and what it then says."""
import contextlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request

from colony import BIN, MAY_STOP, Colony, free_port, listens, main, narrations, parse_sse, text_of, wait_for

TOKEN = "operator-token-0123456789"


class Trouble(unittest.TestCase):
    def hives(self, c):
        return {h["id"] for h in c.call("GET", "/v1/status")[2]["hives"] if h["known"]}

    def workers(self, c):
        return c.call("GET", "/v1/status")[2]["workers"]

    def test_several_hives_share_the_load_and_one_may_die(self):
        with Colony() as c:
            c.queen("--worker-slots", "1")
            ports = {name: free_port() for name in ("ant", "bee", "cow")}
            hives = {name: c.hive(name, port) for name, port in ports.items()}
            wait_for(lambda: self.hives(c) == set(ports))
            for name in ports:
                self.assertEqual(c.job({"operation": "worker_install", "worker_id": "cpu", "hive_id": name})[-1][1], "end")
                self.assertEqual(c.job({"operation": "worker_spawn", "model": "builtin:haiku", "hive_id": name})[-1][1], "end")
            wait_for(lambda: len([w for w in self.workers(c) if w["state"] == "ready"]) == 3)
            events = []
            askers = [threading.Thread(target=lambda: events.append(c.infer(max_tokens=200, ignore_eos=True))) for _ in range(6)]
            for t in askers:
                t.start()
            for t in askers:
                t.join()
            used = {next(d["hive_id"] for _, k, d in e if k == "started") for e in events}
            self.assertEqual(used, set(ports), "with one request for each worker, all hives work")
            self.assertTrue(all(e[-1][1] == "end" for e in events))
            hives["bee"].send_signal(signal.SIGKILL)
            wait_for(lambda: self.hives(c) == {"ant", "cow"}, 10)
            for _ in range(4):
                self.assertEqual(c.infer()[-1][1], "end")
            # The same name from another address, while the first is alive, is refused; after its death it may come back.
            other = c.hive("ant", free_port())
            time.sleep(1.5)
            self.assertEqual([h["url"] for h in c.call("GET", "/v1/status")[2]["hives"] if h["id"] == "ant"], [f"{c.scheme}://127.0.0.1:{ports['ant']}"])
            other.send_signal(signal.SIGTERM)
            other.wait(10)
            c.hive("bee", free_port())
            wait_for(lambda: self.hives(c) == set(ports), 10)

    def test_a_worker_that_dies_before_its_first_token(self):
        with Colony() as c:
            c.queen()
            c.infer()
            pid = self.workers(c)[0]["pid"]
            os.kill(pid, signal.SIGSTOP)
            made = c.call("POST", "/v1/jobs", {"operation": "infer", "model": "haiku", "prompt": "x", "max_tokens": 20})[2]
            time.sleep(0.3)
            os.kill(pid, signal.SIGKILL)
            events, _ = parse_sse(c.call("GET", made["sse_url"])[2])
            self.assertEqual(events[-1][1], "end", "it is tried again")
            self.assertEqual(sum(d.get("action") == "retry" for _, _, d in events), 1)
            self.assertEqual([d["i"] for _, k, d in events if k == "token"], list(range(events[-1][2]["tokens_out"])))
            self.assertNotIn(pid, [w["pid"] for w in self.workers(c)])

    def test_a_worker_that_dies_in_the_middle_of_an_answer(self):
        with Colony() as c:
            c.queen()
            c.infer()
            made = c.call("POST", "/v1/jobs", {"operation": "infer", "model": "haiku", "prompt": "x", "max_tokens": 240, "ignore_eos": True})[2]
            r = c.urlopen(made["sse_url"])
            text = b""
            while b"event: token" not in text:
                text += r.readline()
            os.kill(self.workers(c)[0]["pid"], signal.SIGKILL)
            events, done = parse_sse((text + r.read()).decode())
            self.assertEqual((done, events[-1][1], events[-1][2]["code"]), (True, "error", "WORKER_CRASHED"))
            self.assertTrue(text_of(events), "what came before stays delivered")
            self.assertEqual(c.infer()[-1][1], "end", "the colony goes on, with a new worker")

    def test_a_queen_that_is_killed_says_so_afterwards(self):
        with Colony() as c:
            q = c.queen()
            c.infer()
            c.hive("own", port := free_port())
            wait_for(lambda: "own" in self.hives(c))
            made = c.call("POST", "/v1/jobs", {"operation": "infer", "model": "haiku", "prompt": "CANARY-PROMPT", "max_tokens": 240, "ignore_eos": True, "resumable": True})[2]
            wait_for(lambda: c.call("GET", "/v1/jobs/" + made["job_id"])[2]["status"] == "running")
            q.send_signal(signal.SIGKILL)
            q.wait()
            wait_for(lambda: not listens(c.hive_port), 10)  # what she had started has gone with her
            self.assertTrue(listens(port), "a hive that came on its own stays")
            c.queen()
            state = c.call("GET", "/v1/jobs/" + made["job_id"])[2]
            self.assertEqual((state["status"], state["error"]["code"]), ("failed", "WORKER_CRASHED"))
            events, done = parse_sse(c.call("GET", made["sse_url"])[2])
            self.assertEqual((done, [k for _, k, _ in events]), (True, ["error"]))
            # A reader that had seen some of it is not sent away, and the number goes up.
            events, done = parse_sse(c.call("GET", made["sse_url"], None, {"Last-Event-ID": "57"})[2])
            self.assertEqual((done, [k for _, k, _ in events]), (True, ["error"]))
            self.assertGreater(events[0][0], 57)
            self.assertEqual(events[0][2]["seq"], events[0][0])
            wait_for(lambda: self.hives(c) == {"own"}, 10)
            self.assertEqual(c.infer()[-1][1], "end")
            path = c.home / ".local/share/llorch/queen.db"
            self.assertEqual(path.stat().st_mode & 0o777, 0o600)

            def kept(sql):
                db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
                try:
                    return db.execute(sql).fetchall()
                finally:
                    db.close()

            self.assertEqual(kept("SELECT status, error_code FROM jobs WHERE job_id = '%s'" % made["job_id"]), [("failed", "WORKER_CRASHED")])
            wait_for(lambda: kept("SELECT DISTINCT last_event_type FROM sse_checkpoints JOIN jobs USING(job_id) WHERE status = 'completed'") == [("end",)])
            wait_for(lambda: kept("SELECT count(*) FROM queue") == [(0,)])
            self.assertEqual(kept("SELECT value FROM config WHERE key = 'mode'"), [("one-machine",)])
            for f in c.home.rglob("*"):
                if f.is_file():
                    self.assertNotIn(b"CANARY-PROMPT", f.read_bytes(), f)

    def test_a_queen_that_is_slow_keeps_her_hive(self):  # H-34: silence of three beats' length is no loss
        with Colony(**MAY_STOP) as c:
            queen = c.queen()
            c.infer(max_tokens=2)
            hive = next(pid for pid, line in c.census() if "llorch-hive" in line)
            queen.send_signal(signal.SIGSTOP)
            time.sleep(5)
            queen.send_signal(signal.SIGCONT)
            self.assertEqual(c.infer(max_tokens=2)[-1][1], "end")
            self.assertEqual([pid for pid, line in c.census() if "llorch-hive" in line], [hive])

    def test_a_queen_that_is_gone_ends_her_hive(self):  # H-34, without the death signal
        with Colony() as c, open(c.home / "own.log", "w") as log:
            began = time.monotonic()
            hive = c.start(BIN / "llorch-hive", "--local-mode", "--queen-started", "--port", c.hive_port, "--queen-url", c.url.replace("https", "http"), "--data-dir", c.home / "own", "--heartbeat-interval-sec", "1", "--worker-port", c.worker_port, stdout=log, stderr=log)
            self.assertEqual(hive.wait(30), 0)
            self.assertGreater(time.monotonic() - began, 3)
            self.assertIn("three heartbeats in a row did not reach the queen", (c.home / "own.log").read_text())

    def test_amounts_of_memory_are_the_operators_to_read(self):
        """In narration and in errors, of jobs and of OpenAI's routes (J-04)."""
        with Colony() as c:
            (c.home / "token").write_text(TOKEN)
            (c.home / "token").chmod(0o600)
            made = json.loads(subprocess.run([BIN / "llorch", "key", "create", "--json", "--name", "laptop"], capture_output=True, text=True, env=c.env).stdout)
            c.queen("--token-file", c.home / "token", "--keys-file", made["keys_file"], "--no-own-hive", local=False)
            log = open(c.home / "tight.log", "a")
            c.start(BIN / "llorch-hive", *c.trusted_by("tight"), "--token-file", c.home / "token", "--port", free_port(), "--hive-id", "tight", "--queen-url", c.url, "--data-dir", c.home / "tight", "--heartbeat-interval-sec", "1", "--memory-limit-mb", "1", "--log-format", "json", stdout=log, stderr=log)
            admin, infer = {"Authorization": "Bearer " + TOKEN}, {"Authorization": "Bearer " + made["key"]}
            wait_for(lambda: [h for h in c.call("GET", "/v1/status", None, admin)[2]["hives"] if h["known"]], 30)
            for who, key in (("admin", admin), ("infer", infer)):
                events = c.job({"operation": "infer", "model": "haiku", "prompt": "x", "max_tokens": 5}, key)
                self.assertEqual(events[-1][1], "error", events[-1])
                status, _, answer = c.call("POST", "/v1/completions", {"model": "haiku", "prompt": "x"}, key)
                self.assertEqual((status, answer["error"]["code"]), (503, "NO_WORKERS_AVAILABLE"), answer)
                for text in (" ".join(d.get("human", "") for _, _, d in events), json.dumps(events[-1][2]), answer["error"]["message"]):
                    if who == "admin":
                        self.assertRegex(text, r"[0-9] MB")
                    else:
                        self.assertNotRegex(text, r"[0-9] ?[kMGT]B")
                        self.assertIn("... MB", text)

    def test_keys(self):
        with Colony() as c:
            (c.home / "token").write_text(TOKEN)
            (c.home / "token").chmod(0o600)
            made = json.loads(subprocess.run([BIN / "llorch", "key", "create", "--json", "--name", "laptop"], capture_output=True, text=True, env=c.env).stdout)
            key = made["key"]
            self.assertEqual(made["keys_file"], str(c.home / ".config/llorch/keys"))
            c.queen("--token-file", c.home / "token", "--keys-file", made["keys_file"], local=False)
            admin, infer = {"Authorization": "Bearer " + TOKEN}, {"Authorization": "Bearer " + key}
            for method, path in (("GET", "/v1/status"), ("POST", "/v1/jobs"), ("GET", "/v1/jobs"), ("POST", "/v1/heartbeat"), ("POST", "/v1/shutdown"), ("GET", "/metrics"), ("GET", "/"), ("POST", "/v1/chat/completions"), ("GET", "/v1/models"),
                                 ("POST", "/v1/workers/failed"), ("GET", "/v1/heartbeats/stream")):
                self.assertEqual(c.call(method, path)[0], 401, path)
            for method, path in (("POST", "/v1/heartbeat"), ("POST", "/v1/shutdown"), ("GET", "/metrics")):
                self.assertEqual(c.call(method, path, None, infer)[0], 403, path)
            self.assertEqual(c.call("GET", "/health")[0], 200)
            # The whole flow, with hive and worker behind the same token.
            events = c.job({"operation": "infer", "model": "haiku", "prompt": "x", "max_tokens": 5}, infer)
            self.assertEqual(events[-1][1], "end", events[-1])
            self.assertEqual(c.call("GET", "/v1/capabilities", None, None, c.hive_port)[0], 401)
            worker = c.call("GET", "/v1/status", None, admin)[2]["workers"][0]
            self.assertEqual(c.call("GET", "/v1/models", None, None, worker["port"])[0], 401)
            self.assertEqual(c.call("POST", "/v1/jobs", {"operation": "worker_process_list"}, infer)[0], 403)
            made = c.call("POST", "/v1/jobs", {"operation": "status"}, admin)[2]
            self.assertEqual(c.call("GET", "/v1/jobs/" + made["job_id"], None, infer)[0], 404, "another key's job")
            r = c.keeper("run", "haiku", "Write a haiku about tea", "--quiet", "--token-file", c.home / "token")
            self.assertEqual(r.returncode, 0, r.stderr)
            r = c.keeper("status", "--quiet")
            self.assertEqual(r.returncode, 1)
            self.assertIn("MISSING_API_KEY", r.stderr)
            subprocess.run([BIN / "llorch", "key", "revoke", "laptop"], check=True, capture_output=True, env=c.env)
            self.assertEqual(c.call("GET", "/v1/models", None, infer)[2]["error"]["code"], "INVALID_API_KEY", "a revoked key still opens")
            for pid, line in c.census():
                self.assertNotIn(TOKEN, line)
            for f in c.home.rglob("*.log"):
                self.assertNotIn(TOKEN, f.read_text())
                self.assertNotIn(key, f.read_text())

    def test_only_declared_sockets_listen(self):
        """S-71: what our programs listen on, as the kernel knows it."""
        with Colony() as c:
            c.queen()
            c.infer()
            loopback = "0100007F"
            expected = {("tcp", loopback, c.queen_port), ("tcp", loopback, c.hive_port), ("tcp", loopback, c.worker_port)}

            def listening():
                sockets = set()
                for pid, _ in c.census():
                    for fd in os.scandir(f"/proc/{pid}/fd"):
                        with contextlib.suppress(OSError):
                            sockets.add(os.readlink(fd.path))
                found = set()
                for table in ("tcp", "tcp6", "udp", "udp6", "raw"):
                    for line in open(f"/proc/net/{table}").readlines()[1:]:
                        words = line.split()
                        if f"socket:[{words[9]}]" in sockets and (words[3] == "0A" or table not in ("tcp", "tcp6")):
                            address, port = words[1].split(":")
                            found.add((table, address, int(port, 16)))
                return found

            wait_for(lambda: listening() == expected, 5)  # a port that is tried for a worker is open for a moment

    def test_a_worker_that_never_loads(self):
        """H-31: no sign of progress for so long, and it is ended and told."""
        with Colony() as c:
            programs = c.home / "programs"
            programs.mkdir()
            script = programs / "llorch-worker-cpu"
            mark = f"sleep 10{free_port()}"
            script.write_text("""#!/bin/sh
[ "$1" = --build-info ] && { echo '{"backend":"cpu","version":"0.1.0","build_id":"x"}'; exit 0; }
exec MARK
""".replace("MARK", mark))
            script.chmod(0o755)
            c.queen()
            c.hive("slow", free_port(), "--worker-dir", programs, "--loading-timeout-sec", "1")
            wait_for(lambda: "slow" in self.hives(c))
            self.assertEqual(c.job({"operation": "worker_install", "worker_id": "cpu", "hive_id": "slow"})[-1][1], "end")
            events = c.job({"operation": "worker_spawn", "model": "builtin:haiku", "hive_id": "slow"})
            self.assertEqual((events[-1][1], events[-1][2]["code"]), ("error", "LOADING_TIMEOUT"), events[-1])
            wait_for(lambda: c.job({"operation": "worker_process_list", "hive_id": "slow"})[-2][2]["result"] == [])
            wait_for(lambda: subprocess.run(["pgrep", "-fx", mark], capture_output=True).returncode == 1, 10)  # its process is gone

    def test_a_stranger_s_heartbeat_and_lies(self):
        with Colony() as c:
            c.queen()
            c.infer()
            for body in ({}, {"hive_id": "x"}, {"hive_id": "../x", "url": "http://127.0.0.1:1", "version": "1", "workers": []}, {"hive_id": "x", "url": "file:///etc", "version": "1", "workers": []},
                         {"hive_id": "x", "url": "http://127.0.0.1:1", "version": "1", "workers": [{"worker_id": 5}]}):
                self.assertEqual(c.report(body)[0], 400, body)
            # Another clock is reported, and decides nothing; a time that is none is refused (S-07).
            beat = {"hive_id": "late", "url": "http://127.0.0.1:1", "version": "1", "node": {}, "workers": []}
            self.assertEqual(c.report(beat | {"ts": "yesterday"})[0], 400)
            self.assertEqual(len(c.call("GET", "/v1/status")[2]["hives"]), 1)
            for seconds in (-20, -3600):
                at = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() + seconds))
                self.assertEqual(c.report(beat | {"ts": at})[0], 200)
                hives = {h["id"]: h["clock_skew_s"] for h in c.call("GET", "/v1/status")[2]["hives"]}
                self.assertAlmostEqual(hives["late"], seconds if seconds < -30 else 0, delta=5)
            self.assertEqual([v for k, v in hives.items() if k != "late"], [0])
            c.wait_logged("queen", r"the clock of hive late is 3\d\d\d s behind ours")
            wait_for(lambda: len(c.call("GET", "/v1/status")[2]["hives"]) == 1, 20)
            worker = self.workers(c)[0]
            lie = {"worker_id": worker["worker_id"], "uri": worker["uri"], "state": "idle", "spawn_token": "guess"}
            self.assertEqual(c.call("POST", "/v1/heartbeat", lie, None, c.hive_port)[0], 403)
            self.assertEqual(c.call("POST", "/v1/heartbeat", lie | {"worker_id": "stranger"}, None, c.hive_port)[0], 404)

    def test_interactive_before_batch_and_a_full_queue(self):
        with Colony(**MAY_STOP) as c:
            c.queen("--worker-slots", "1", "--admission-capacity", "6")
            c.infer()
            order = {"operation": "infer", "model": "haiku", "prompt": "x", "max_tokens": 60, "ignore_eos": True}
            pid = self.workers(c)[0]["pid"]
            os.kill(pid, signal.SIGSTOP)  # the one seat is taken and stays so
            first = c.call("POST", "/v1/jobs", order)[2]
            time.sleep(0.3)
            jobs = {}
            for i, priority in enumerate(["batch", "interactive", "batch", "interactive", "interactive"]):
                jobs[f"{priority}-{i}"] = c.call("POST", "/v1/jobs", order | {"priority": priority})[2]
            status, headers, body = None, None, None
            for _ in range(3):
                start = time.monotonic()
                status, headers, body = c.call("POST", "/v1/jobs", order)
                took = time.monotonic() - start
                if status == 429:
                    break
            self.assertEqual((status, body["error"]["code"]), (429, "QUEUE_FULL"))
            self.assertGreaterEqual(int(headers["Retry-After"]), 1)
            self.assertIn("queue_capacity", body["error"]["details"])
            self.assertLess(took, 5)  # it does not wait for room
            os.kill(pid, signal.SIGCONT)
            started = {}
            for name, made in jobs.items():
                events, _ = parse_sse(c.call("GET", made["sse_url"])[2])
                self.assertEqual(events[-1][1], "end")
                started[name] = next(d["started_at"] for _, k, d in events if k == "started")
            self.assertEqual(sorted(started, key=started.get), ["interactive-1", "interactive-3", "interactive-4", "batch-0", "batch-2"])

    def test_open_binds_are_refused(self):
        for program in ("llorch-queen", "llorch-hive"):
            for flags, why in ((["--listen", "0.0.0.0"], "needs a token"), (["--listen", "0.0.0.0", "--local-mode"], "loopback")):
                with tempfile.TemporaryDirectory() as d:
                    r = subprocess.run([BIN / program, "--port", str(free_port()), "--data-dir", d, *flags], capture_output=True, text=True, timeout=20, env={"HOME": d, "PATH": os.environ["PATH"]})
                    self.assertEqual(r.returncode, 2, r.stderr)
                    self.assertIn(why, r.stderr)


class Counts(unittest.TestCase):
    """What the queen lets in ends once in her counters, whatever happens to it."""
    LONG = {"model": "haiku", "prompt": "x", "max_tokens": 240, "ignore_eos": True}
    CHAT = {"model": "haiku", "messages": [{"role": "user", "content": "x"}], "max_tokens": 240, "stream": True, "ignore_eos": True}

    def read(self, c):
        text = c.call("GET", "/metrics")[2]
        value = lambda name: int(next((line.rsplit(" ", 1)[1] for line in text.splitlines() if line.startswith(name + " ")), "0"))
        ends = {o: value(f'llorch_queen_requests_total{{outcome="{o}"}}') for o in ("completed", "failed", "cancelled")}
        return value("llorch_queen_requests_started_total"), ends

    def expect(self, c, **ends):
        """So many more have ended, and nothing is under way; the counts go on from here."""
        for outcome, n in ends.items():
            self.ends[outcome] += n
        wait_for(lambda: self.read(c) == (sum(self.ends.values()), self.ends), 20)

    def begin(self, c):
        self.ends = {"completed": 0, "failed": 0, "cancelled": 0}
        c.queen()
        c.infer()
        self.expect(c, completed=1)

    def chat(self, c, **fields):
        r = urllib.request.Request(c.url + "/v1/chat/completions", json.dumps(self.CHAT | fields).encode(), {"Content-Type": "application/json"})
        return c.urlopen(r)

    def started_job(self, c):
        """The reader of a job that has brought its first token, and the job."""
        made = c.call("POST", "/v1/jobs", {"operation": "infer", **self.LONG})[2]
        r = c.urlopen(made["sse_url"])
        while b"event: token" not in r.readline():
            pass
        return r, made

    def test_completed(self):
        with Colony() as c:
            self.begin(c)
            self.chat(c, max_tokens=4).read()
            self.chat(c, max_tokens=4, stream=False).read()
            self.expect(c, completed=2)
            self.assertEqual(c.call("POST", "/v1/jobs", {"operation": "infer"})[0], 400)
            self.assertEqual(c.call("POST", "/v1/chat/completions", {"messages": []})[0], 400)
            self.assertEqual(c.job({"operation": "status"})[-1][1], "end")
            self.expect(c)  # what was refused at the door, and what is no request for a model, do not count

    def test_cancelled(self):
        with Colony(**MAY_STOP) as c:
            self.begin(c)
            r, made = self.started_job(c)
            self.assertEqual(c.call("DELETE", made["sse_url"].removesuffix("/stream"))[0], 200)
            r.read()
            self.expect(c, cancelled=1)
            r, _ = self.started_job(c)
            r.close()  # its reader has left
            self.expect(c, cancelled=1)
            with stopped(self.worker(c)):  # the answer cannot be whole before its client has left
                r = self.chat_socket(c)
                r.close()
                self.expect(c, cancelled=1)

    def test_failed(self):
        with Colony() as c:
            self.begin(c)
            for route in ("native", "chat"):
                self.dies_under(c, "llorch-worker", route)
            status, _, text = c.call("POST", "/v1/chat/completions", self.CHAT | {"max_tokens": -2})
            self.assertEqual(status, 400, text)
            self.expect(c, failed=1)  # the worker says no
            job = c.job({"operation": "infer", **self.LONG, "temperature": -1})
            self.assertEqual(job[-1][1], "error", job[-1])
            self.expect(c, failed=1)

    def test_the_hive_dies(self):
        with Colony() as c:
            self.begin(c)
            for route in ("native", "chat"):
                self.dies_under(c, "llorch-hive", route)  # and its workers with it

    def dies_under(self, c, program, route):
        """A program is killed after a request's first token: at once, for the answer is whole after 40 ms."""
        pid = next(pid for pid, line in c.census() if program in line)
        r = self.started_job(c)[0] if route == "native" else self.chat(c)
        r.readline()
        os.kill(pid, signal.SIGKILL)
        self.assertIn(b"WORKER_CRASHED", r.read())
        self.expect(c, failed=1)
        c.infer()
        self.expect(c, completed=1)

    def worker(self, c):
        return next(pid for pid, line in c.census() if "llorch-worker" in line)

    def chat_socket(self, c):
        """A connection whose request has reached the queen."""
        body = json.dumps(self.CHAT).encode()
        s = c.socket()
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        wait_for(lambda: self.read(c)[0] == sum(self.ends.values()) + 1)
        return s


class Repeated(unittest.TestCase):
    """Idempotency-Key at the queen's own API."""
    ORDER = {"operation": "infer", "model": "haiku", "prompt": "x", "max_tokens": 4, "resumable": True}

    def post(self, c, key, **fields):
        return c.call("POST", "/v1/jobs", self.ORDER | fields, {"Idempotency-Key": key})

    def jobs(self, c):
        return {j["job_id"] for j in c.call("GET", "/v1/jobs")[2]["jobs"]}

    def test_ten_equal_keys_make_one_job(self):
        with Colony() as c:
            c.queen()
            for padding in ("", "x" * 3_000_000):  # read on the loop, and on a background thread
                answers = []
                threads = [threading.Thread(target=lambda: answers.append(self.post(c, f"key{len(padding)}", prompt="x" + padding))) for _ in range(10)]
                before = self.jobs(c)
                [t.start() for t in threads], [t.join() for t in threads]
                self.assertEqual([a[0] for a in answers], [202] * 10)
                made = {a[2]["job_id"] for a in answers}
                self.assertEqual((len(made), made), (1, self.jobs(c) - before))
                self.assertEqual(sum(a[1].get("Idempotent-Replayed") == "true" for a in answers), 9)
                c.call("DELETE", f"/v1/jobs/{made.pop()}")

    def test_a_key_belongs_to_its_body_and_is_free_where_nothing_was_made(self):
        with Colony() as c:
            c.queen()
            self.assertEqual(self.post(c, "k", prompt="")[0], 400)
            first = self.post(c, "k")
            self.assertEqual((first[0], first[1].get("Idempotent-Replayed")), (202, None))
            status, _, answer = self.post(c, "k", max_tokens=5)
            self.assertEqual((status, answer["error"]["code"]), (409, "IDEMPOTENCY_MISMATCH"))
            self.assertEqual(self.post(c, "k")[2]["job_id"], first[2]["job_id"])
            self.assertEqual(self.post(c, "")[0], 400)
            self.assertEqual(self.post(c, "x" * 257)[0], 400)
            order = {"operation": "status"}
            ids = {c.call("POST", "/v1/jobs", order, {"Idempotency-Key": "s"})[2]["job_id"] for _ in range(2)}
            self.assertEqual(len(ids), 1)


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


if __name__ == "__main__":
    main()
