"""Several queens on one etcd: what one is told holds at all, hives of one serve all, and one of them may die."""
import contextlib
import json
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request

from colony import BIN, Colony, free_port, main, parse_sse, wait_for

TOKEN = "planted-token-of-this-fleet"
WHO = {"Authorization": "Bearer " + TOKEN}
HAIKU = {"model": "haiku", "messages": [{"role": "user", "content": "Write a haiku about rain"}], "max_tokens": 20}


class Etcd:
    """One member on loopback, which can be killed and comes back with what it had."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="llorch-etcd-"))
        self.port, self.peer = free_port(), free_port()
        self.start()

    def start(self):
        client, peer = (f"http://127.0.0.1:{p}" for p in (self.port, self.peer))
        log = open(self.folder / "log", "a")
        self.process = subprocess.Popen(["etcd", "--name", "m", "--data-dir", self.folder / "m", "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"m={peer}", "--heartbeat-interval", "10", "--election-timeout", "100", "--unsafe-no-fsync", "--logger", "zap"], stdout=log, stderr=log)
        wait_for(self.healthy, 30)  # one that is killed before it has led once does not come back

    def healthy(self):
        with contextlib.suppress(OSError):
            return json.load(urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2))["health"] == "true"

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def url(self):
        return f"etcd://127.0.0.1:{self.port}"


@unittest.skipIf(shutil.which("etcd") is None, "not run: no etcd on this machine (Debian package etcd-server)")
class FleetCase(unittest.TestCase):
    def setUp(self):
        self.etcd = Etcd()
        self.addCleanup(self.etcd.close)
        self.a, self.b = (Colony(tls=False).__enter__() for _ in "ab")
        for c in (self.a, self.b):
            self.addCleanup(c.close)
            (c.home / "token").write_text(TOKEN)
            (c.home / "token").chmod(0o600)
        self.queens = {}

    def queen(self, c, *flags, store=True, ready=True):
        more = ["--coord", self.etcd.url] if store else []
        self.queens[c] = c.queen("--token-file", c.home / "token", "--no-own-hive", *more, *flags, local=False)
        if ready:
            wait_for(lambda: c.call("GET", "/v1/aliases", headers=WHO)[0] == 200)
        return self.queens[c]

    def both(self, *flags):
        for c in (self.a, self.b):
            self.queen(c, *flags)

    def hive(self, name, c, *flags):
        """A hive that is told of one queen's address alone, and lives in that one's home."""
        log = open(c.home / f"{name}.log", "a")
        return c.start(BIN / "llorch-hive", "--token-file", c.home / "token", "--port", free_port(), "--hive-id", name, "--queen-url", c.url, "--data-dir", c.home / name, "--heartbeat-interval-sec", "1", "--log-format", "json", "--worker-port", free_port(), *flags, stdout=log, stderr=log)

    def ask(self, c, method, path, body=None, headers=WHO):
        status, _, answer = c.call(method, path, body, headers)
        return status, answer

    def json_of(self, c, method, path, body=None):
        status, answer = self.ask(c, method, path, body)
        self.assertEqual(status, 200, answer)
        return answer

    def status(self, c):
        return self.json_of(c, "GET", "/v1/status")

    def hives(self, c):
        return {h["id"]: h["via"] for h in self.status(c)["hives"]}

    def job(self, c, order):
        events = c.job(order, WHO)
        self.assertEqual(events[-1][1], "end", events)

    def chat(self, c):
        status, answer = self.ask(c, "POST", "/v1/chat/completions", HAIKU)
        self.assertEqual(status, 200, answer)
        return answer["choices"][0]["message"]["content"]

    def migrate(self, c, *flags):
        return subprocess.run([str(x) for x in (BIN / "llorch", "queen", "migrate", *flags)], capture_output=True, text=True, env=c.env, timeout=60)

    def end(self, c):
        self.queens[c].terminate()
        self.queens[c].wait(20)


class FleetStore(FleetCase):
    def within_a_second(self, what):
        wait_for(what, 1)

    def test_what_one_is_told_holds_at_the_other_within_a_second(self):
        self.both()
        aliases = lambda c: self.json_of(c, "GET", "/v1/aliases")["aliases"]
        self.job(self.a, {"operation": "model_alias", "name": "poet", "model": "builtin:haiku"})
        self.assertEqual(aliases(self.a)["poet"], "builtin:haiku", "whoever was answered sees it")
        self.within_a_second(lambda: aliases(self.b).get("poet") == "builtin:haiku")
        self.assertEqual(self.ask(self.b, "DELETE", "/v1/aliases/poet")[0], 200)
        self.assertNotIn("poet", aliases(self.b))
        self.within_a_second(lambda: "poet" not in aliases(self.a))

        setting = lambda c: {k: v["value"] for k, v in self.json_of(c, "GET", "/v1/model-settings/builtin:haiku")["settings"].items()}
        self.assertEqual(self.ask(self.a, "PUT", "/v1/model-settings/builtin:haiku", {"ctx": 512})[0], 200)
        self.within_a_second(lambda: setting(self.b) == {"ctx": "512"})
        self.assertEqual(self.ask(self.b, "PUT", "/v1/model-settings/builtin:haiku", {"threads": 1})[0], 200)
        self.within_a_second(lambda: setting(self.a) == {"ctx": "512", "threads": "1"})
        status, answer = self.ask(self.b, "PUT", "/v1/model-settings/builtin:haiku", {"ctx": "many"})
        self.assertEqual((status, answer["error"]["code"], answer["error"]["param"]), (400, "INVALID_REQUEST", "ctx"))
        self.assertEqual(self.ask(self.b, "DELETE", "/v1/model-settings/builtin:haiku")[0], 200)
        self.within_a_second(lambda: setting(self.a) == {})

        self.job(self.a, {"operation": "model_pin", "model": "builtin:haiku"})
        self.within_a_second(lambda: self.status(self.b)["pinned"] == ["builtin:haiku"])

    def test_a_key_of_one_opens_the_other_until_either_revokes_it(self):
        self.both()
        made = self.json_of(self.a, "POST", "/v1/keys", {"name": "laptop", "scope": "infer"})
        opens = lambda c: self.ask(c, "GET", "/v1/models", headers={"Authorization": "Bearer " + made["key"]})[0]
        self.assertEqual(opens(self.a), 200)
        names = lambda c: [k["name"] for k in self.json_of(c, "GET", "/v1/keys")["keys"]]
        self.within_a_second(lambda: names(self.b) == ["laptop"])
        self.assertEqual(opens(self.b), 200)
        self.assertEqual(self.ask(self.b, "DELETE", "/v1/keys/laptop")[0], 200)
        self.assertEqual(opens(self.b), 401)
        self.within_a_second(lambda: names(self.a) == [])
        self.assertEqual(opens(self.a), 401)
        self.assertNotIn(made["key"].encode(), b"".join(f.read_bytes() for f in self.etcd.folder.rglob("*") if f.is_file()), "the store has hashes alone")

    def test_changes_of_one_key_at_both_at_once_are_all_kept(self):
        self.both()
        path = "/v1/model-settings/builtin:haiku"
        keys = {self.a: {"ctx": "256", "threads": "1", "top-k": "3"}, self.b: {"max-batch": "4", "parallel": "2", "top-p": "0.5"}}
        known = {k["key"] for k in self.json_of(self.a, "GET", "/v1/model-settings")["keys"]}
        wanted = {c: {k: v for k, v in of.items() if k in known} for c, of in keys.items()}
        self.assertGreaterEqual(min(map(len, wanted.values())), 2, known)
        answers = []
        threads = [threading.Thread(target=lambda c=c, k=k, v=v: answers.append(self.ask(c, "PUT", path, {k: v})[0])) for c, of in wanted.items() for k, v in of.items()]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(set(answers), {200})
        have = lambda: {k: v["value"] for k, v in self.json_of(self.a, "GET", path)["settings"].items()}
        wait_for(lambda: have() == wanted[self.a] | wanted[self.b], 2)

    def test_a_hive_of_one_serves_requests_of_the_other(self):
        self.both()
        self.hive("red", self.a)
        self.hive("blue", self.b)
        wait_for(lambda: self.hives(self.a).keys() == self.hives(self.b).keys() == {"red", "blue"})
        own = {c: next(q for q in self.status(c)["fleet"]["queens"] if q["id"] == self.status(c)["fleet"]["id"])["id"] for c in (self.a, self.b)}
        self.assertEqual(self.hives(self.a), {"red": "", "blue": own[self.b]})
        self.assertEqual(self.hives(self.b), {"red": own[self.a], "blue": ""})
        events = self.b.job({"operation": "infer", "model": "builtin:haiku", "prompt": "Write a haiku about rain", "max_tokens": 20, "hive_id": "red"}, WHO)
        self.assertEqual(events[-1][1], "end", events)
        wait_for(lambda: any(w["hive_id"] == "red" for w in self.status(self.a)["workers"]))
        self.assertTrue(self.chat(self.a))
        self.assertTrue(self.chat(self.b))

    def beats_at(self, c):
        """The hive speaks to this queen itself: not only what another one left of it is there."""
        seen = lambda: [h["seen_s_ago"] for h in self.status(c)["hives"] if not h["via"]]
        wait_for(lambda: max(seen(), default=9) < 0.5, 20)
        time.sleep(2.5)
        wait_for(lambda: max(seen(), default=9) < 1.5, 2)

    def test_a_hive_that_has_joined_one_over_tls_serves_the_other_and_moves_to_her(self):
        a, b = (Colony(tls=True).__enter__() for _ in "ab")
        for c in (a, b):
            self.addCleanup(c.close)
            (c.home / "token").write_text(TOKEN)
            (c.home / "token").chmod(0o600)
        self.queen(a)
        for c, action in ((a, "export"), (b, "import")):  # both sign under one root
            r = subprocess.run([str(x) for x in (BIN / "llorch", "ca", action, self.etcd.folder / "root")], capture_output=True, text=True, env=c.env, timeout=30)
            self.assertEqual(r.returncode, 0, r.stderr)
        self.queen(b)
        once = a.home / "once"
        once.write_text(self.json_of(a, "POST", "/v1/join-tokens", {})["token"])
        once.chmod(0o600)
        log = open(a.home / "box.log", "a")
        a.start(BIN / "llorch-hive", "--tls", "--port", free_port(), "--hive-id", "box", "--queen-url", a.url, "--join-token-file", once, "--data-dir", a.home / "box", "--heartbeat-interval-sec", "1", "--log-format", "json", "--worker-port", free_port(), stdout=log, stderr=log)
        wait_for(lambda: "box" in self.hives(a) and "box" in self.hives(b))
        self.assertTrue(self.chat(b))
        self.queens[a].kill()
        wait_for(lambda: self.hives(b) == {"box": ""}, 20)
        self.beats_at(b)
        self.assertTrue(self.chat(b))
        self.queen(a)
        wait_for(lambda: "box" in self.hives(a))
        self.assertEqual(self.ask(b, "POST", "/v1/ca/revoked/box")[0], 200)
        offline = lambda c: {h["id"]: h["revoked"] for h in self.status(c)["offline"]}
        wait_for(lambda: offline(a) == offline(b) == {"box": True}, 10)
        time.sleep(2)  # it beats once a second, at one of them
        self.assertEqual((self.hives(a), self.hives(b)), ({}, {}))

    def test_status_and_metrics_show_the_fleet(self):
        self.both()
        for c in (self.a, self.b):
            wait_for(lambda c=c: len(self.status(c)["fleet"]["queens"]) == 2 and self.status(c)["fleet"]["leader"])
        fleets = [self.status(c)["fleet"] for c in (self.a, self.b)]
        self.assertEqual(fleets[0]["leader"], fleets[1]["leader"])
        self.assertEqual([sum(q["leads"] for q in f["queens"]) for f in fleets], [1, 1])
        self.assertEqual({q["url"] for q in fleets[0]["queens"]}, {self.a.url, self.b.url})
        for f in fleets:
            self.assertEqual((f["healthy"], f["lag_s"]), (True, 0))
            self.assertIn(f"127.0.0.1:{self.etcd.port}", f["store"])
        r = subprocess.run([str(BIN / "llorch"), "status", "--queen", self.a.url, "--token-file", self.a.home / "token"], capture_output=True, text=True, env=self.a.env, timeout=30)
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn(f"at {self.b.url}", r.stdout)
        self.assertEqual(r.stdout.count(", leads"), 1, r.stdout)
        self.assertIn(f"store: etcd at 127.0.0.1:{self.etcd.port}, answers", r.stdout)
        texts = [self.ask(c, "GET", "/metrics")[1] for c in (self.a, self.b)]
        value = lambda text, name: float(next(line.split()[1] for line in text.splitlines() if line.startswith(f"llorch_queen_{name} ")))
        for text in texts:
            self.assertGreater(value(text, "store_latency_ms_count"), 0)
            self.assertEqual((value(text, "store_watch_lag_seconds"), value(text, "store_lease_losses_total"), value(text, "store_queens")), (0, 0, 2))
        self.assertEqual(sum(value(text, "store_leads") for text in texts), 1)

    def test_the_death_of_a_queen_is_survived(self):
        self.both()
        self.hive("red", self.a)
        wait_for(lambda: "red" in self.hives(self.b))
        self.chat(self.b)
        wait_for(lambda: len(self.status(self.a)["fleet"]["queens"]) == 2)
        first = self.status(self.a)["fleet"]["id"]
        wait_for(lambda: (self.a.home / "red/queens").exists())
        self.queens[self.a].kill()
        for _ in range(3):
            self.assertTrue(self.chat(self.b), "the other one goes on")
        wait_for(lambda: self.hives(self.b) == {"red": ""}, 15)
        self.beats_at(self.b)
        wait_for(lambda: self.status(self.b)["fleet"]["leader"] == self.status(self.b)["fleet"]["id"] != first, 30)
        self.assertEqual(len(self.status(self.b)["fleet"]["queens"]), 1)
        self.assertTrue(self.chat(self.b))
        self.queen(self.a)
        wait_for(lambda: "red" in self.hives(self.a))
        self.assertTrue(self.chat(self.a), "who comes back knows what the other one hears")

    def test_a_queen_that_ends_is_gone_at_once(self):
        self.both()
        wait_for(lambda: len(self.status(self.b)["fleet"]["queens"]) == 2)
        self.queens[self.a].send_signal(signal.SIGTERM)
        wait_for(lambda: len(self.status(self.b)["fleet"]["queens"]) == 1, 5)
        wait_for(lambda: self.status(self.b)["fleet"]["leader"] == self.status(self.b)["fleet"]["id"], 5)

    def test_without_the_store_requests_are_taken_for_a_while(self):
        self.both("--coord-grace", "10")
        self.hive("red", self.a)
        wait_for(lambda: "red" in self.hives(self.b))
        self.chat(self.b)
        status, _, made = self.b.call("POST", "/v1/jobs", {"operation": "infer", "model": "builtin:haiku", "prompt": "Write a haiku about rain", "max_tokens": 100}, WHO)
        self.assertEqual(status, 202)
        self.etcd.kill()
        lost = time.monotonic()
        events, done = parse_sse(self.b.call("GET", made["sse_url"], None, WHO)[2])
        self.assertTrue(done and events[-1][1] == "end", "what runs goes on")
        self.assertTrue(self.chat(self.b), "and so do requests, for a while")
        self.assertLess(time.monotonic() - lost, 10, "this machine was too slow for the test to say anything")

        def refused():
            status, headers, answer = self.b.call("POST", "/v1/chat/completions", HAIKU, WHO)
            return status == 503 and (headers, answer)

        headers, answer = wait_for(refused, 40)
        self.assertEqual(answer["error"]["code"], "STORE_UNAVAILABLE")
        self.assertEqual(headers["Retry-After"], "1")
        self.assertIn(f"127.0.0.1:{self.etcd.port}", answer["error"]["message"])
        status, answer = self.ask(self.a, "PUT", "/v1/model-settings/builtin:haiku", {"ctx": 512})
        self.assertEqual((status, answer["error"]["code"]), (503, "STORE_UNAVAILABLE"))
        fleet = self.status(self.b)["fleet"]
        self.assertFalse(fleet["healthy"])
        self.assertIn(f"cannot connect to 127.0.0.1:{self.etcd.port}", fleet["problem"])
        self.etcd.start()
        wait_for(lambda: self.ask(self.b, "POST", "/v1/chat/completions", HAIKU)[0] == 200, 30)
        wait_for(lambda: len(self.status(self.b)["fleet"]["queens"]) == 2 and self.hives(self.b).keys() == {"red"}, 30)
        self.assertTrue(self.chat(self.a))

    def test_a_job_of_one_is_followed_and_cancelled_at_the_other(self):
        self.both()
        self.hive("red", self.a)
        wait_for(lambda: "red" in self.hives(self.b))
        order = {"operation": "infer", "model": "builtin:haiku", "prompt": "Write a haiku about rain", "max_tokens": 40, "resumable": True}
        status, _, made = self.a.call("POST", "/v1/jobs", order, WHO)
        self.assertEqual(status, 202, made)
        there, done = parse_sse(self.b.call("GET", made["sse_url"], None, WHO)[2])
        self.assertTrue(done)
        self.assertEqual(there[-1][1], "end", there)
        self.assertEqual(there, parse_sse(self.a.call("GET", made["sse_url"], None, WHO)[2])[0], "the same events with the same numbers")
        half = there[len(there) // 2][0]
        self.assertEqual(parse_sse(self.b.call("GET", made["sse_url"], None, WHO | {"Last-Event-ID": str(half)})[2])[0], [e for e in there if int(e[0] or 0) > int(half)])
        path = "/v1/jobs/" + made["job_id"]
        self.assertEqual(self.ask(self.b, "GET", path), self.ask(self.a, "GET", path))
        nobody = {"Authorization": "Bearer " + self.json_of(self.a, "POST", "/v1/keys", {"name": "other", "scope": "infer"})["key"]}
        for headers, where in ((nobody, path), (WHO, "/v1/jobs/job-00000000-0000-4000-8000-000000000000")):
            status, answer = self.ask(self.b, "GET", where, headers=headers)
            self.assertEqual((status, answer["error"]["code"]), (404, "JOB_NOT_FOUND"))
        status, _, long = self.a.call("POST", "/v1/jobs", order | {"max_tokens": 4000}, WHO)
        self.assertEqual(self.ask(self.b, "DELETE", "/v1/jobs/" + long["job_id"])[0], 200)
        wait_for(lambda: self.ask(self.a, "GET", "/v1/jobs/" + long["job_id"])[1]["status"] in ("cancelled", "completed", "done"))
        self.queens[self.a].kill()
        status, answer = self.ask(self.b, "GET", path)
        self.assertEqual((status, answer["error"]["code"]), (404, "JOB_NOT_FOUND"))
        self.assertIn(f"127.0.0.1:{self.a.queen_port}", answer["error"]["message"])

    def test_a_request_that_is_repeated_at_another_queen_makes_no_second_job(self):
        self.both()
        self.hive("red", self.a)
        wait_for(lambda: "red" in self.hives(self.b))
        order = {"operation": "infer", "model": "builtin:haiku", "prompt": "Write a haiku about rain", "max_tokens": 10}
        post = lambda c, key, **more: c.call("POST", "/v1/jobs", order | more, WHO | {"Idempotency-Key": key})
        status, _, made = post(self.a, "one")
        self.assertEqual(status, 202, made)
        status, headers, again = post(self.b, "one")
        self.assertEqual((status, again, headers["Idempotent-Replayed"]), (202, made, "true"))
        self.assertTrue(parse_sse(self.b.call("GET", again["sse_url"], None, WHO)[2])[1])
        status, _, answer = post(self.b, "one", max_tokens=11)
        self.assertEqual((status, answer["error"]["code"]), (409, "IDEMPOTENCY_MISMATCH"))
        status, _, answer = post(self.b, "flawed", frobnicate=1)
        self.assertEqual(status, 400, answer)
        wait_for(lambda: post(self.a, "flawed")[0] == 202, 2)  # what came to nothing has left the key free
        answers = []
        threads = [threading.Thread(target=lambda c=c: answers.append(post(c, "many"))) for c in (self.a, self.b) * 4]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual({a[0] for a in answers}, {202}, answers)
        self.assertEqual(len({a[2]["job_id"] for a in answers}), 1)

    def test_what_a_queen_had_on_her_own_becomes_the_fleets(self):
        alone = self.queen(self.a, store=False)
        self.job(self.a, {"operation": "model_alias", "name": "poet", "model": "builtin:haiku"})
        self.assertEqual(self.ask(self.a, "PUT", "/v1/model-settings/builtin:haiku", {"ctx": 512})[0], 200)
        self.job(self.a, {"operation": "model_pin", "model": "builtin:haiku"})
        alone.terminate()
        alone.wait(20)
        self.queen(self.a)
        self.queen(self.b)
        wait_for(lambda: self.json_of(self.b, "GET", "/v1/aliases")["aliases"].get("poet") == "builtin:haiku")
        wait_for(lambda: self.status(self.b)["pinned"] == ["builtin:haiku"])
        self.assertEqual(self.json_of(self.b, "GET", "/v1/model-settings/builtin:haiku")["settings"]["ctx"]["value"], "512")
        # Once only: what the fleet has taken back does not come again.
        self.assertEqual(self.ask(self.b, "DELETE", "/v1/aliases/poet")[0], 200)
        self.queens[self.a].terminate()
        self.queens[self.a].wait(20)
        self.queen(self.a)
        self.assertNotIn("poet", self.json_of(self.a, "GET", "/v1/aliases")["aliases"])

    def test_a_house_moves_to_the_fleet_and_back(self):
        self.queen(self.a, store=False)
        refused = self.migrate(self.a, "--to", self.etcd.url)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("llorch-queen on port", refused.stderr, "she must be asleep")
        self.job(self.a, {"operation": "model_alias", "name": "poet", "model": "builtin:haiku"})
        self.assertEqual(self.ask(self.a, "PUT", "/v1/model-settings/builtin:haiku", {"ctx": 512})[0], 200)
        self.job(self.a, {"operation": "model_pin", "model": "builtin:haiku"})
        key = self.json_of(self.a, "POST", "/v1/keys", {"name": "laptop", "scope": "infer"})["key"]
        self.end(self.a)
        moved = self.migrate(self.a, "--to", self.etcd.url)
        self.assertEqual((moved.returncode, moved.stdout), (0, f"4 entries were copied from own to {self.etcd.url}; what was there stays\n"), moved.stderr)
        self.assertEqual(self.migrate(self.a, "--to", self.etcd.url).stdout[:2], "0 ", "once more does no harm")

        def expect(c):
            aliases = self.json_of(c, "GET", "/v1/aliases")["aliases"]
            self.assertEqual(aliases.get("poet"), "builtin:haiku")
            self.assertEqual(self.json_of(c, "GET", "/v1/model-settings/builtin:haiku")["settings"]["ctx"]["value"], "512")
            self.assertEqual(self.status(c)["pinned"], ["builtin:haiku"])
            self.assertEqual(self.ask(c, "GET", "/v1/models", headers={"Authorization": "Bearer " + key})[0], 200)
            return aliases

        self.queen(self.b)
        expect(self.b)
        self.job(self.b, {"operation": "model_alias", "name": "bard", "model": "builtin:haiku"})
        self.end(self.b)
        back = self.migrate(self.b, "--from", self.etcd.url, "--to", "own")
        self.assertEqual((back.returncode, back.stdout[:2]), (0, "5 "), back.stderr)
        self.queen(self.b, store=False)
        self.assertIn("bard", expect(self.b))
        self.job(self.b, {"operation": "model_alias", "name": "poet", "model": "file:/elsewhere.gguf"})
        self.end(self.b)
        clash = self.migrate(self.b, "--to", self.etcd.url)
        self.assertNotEqual(clash.returncode, 0)
        self.assertIn("has aliases/poet already", clash.stderr)

    def test_a_file_is_a_store_of_one_queen(self):
        for _ in range(2):
            p = self.queen(self.a, "--coord", "sqlite", store=False)
            self.queens[self.a] = p
            self.job(self.a, {"operation": "model_alias", "name": "poet", "model": "builtin:haiku"})
            self.assertIn("poet", self.json_of(self.a, "GET", "/v1/aliases")["aliases"])
            self.assertIn("SQLite at ", self.status(self.a)["fleet"]["store"])
            p.terminate()
            p.wait(20)
        self.queen(self.a, "--coord", "sqlite", store=False)
        self.assertIn("poet", self.json_of(self.a, "GET", "/v1/aliases")["aliases"])

    def test_a_store_that_is_none_is_said_so(self):
        for flags, words in ((["--coord", "zookeeper://a"], "must be 'sqlite'"), (["--coord", "etcd://a", "--coord-prefix", "x"], "the prefix 'x'"), (["--coord", "etcd://a", "--no-token"], "need a token")):
            token = [] if "--no-token" in flags else ["--token-file", self.a.home / "token"]
            r = subprocess.run([str(x) for x in (BIN / "llorch-queen", "--port", self.a.queen_port, *token, *(f for f in flags if f != "--no-token"))], capture_output=True, text=True, env=self.a.env, timeout=30)
            self.assertNotEqual(r.returncode, 0, r.stdout)
            self.assertIn(words, r.stderr)

    def test_a_queen_that_begins_without_the_store_says_so(self):
        self.etcd.kill()
        self.queen(self.a, ready=False)
        wait_for(lambda: f"127.0.0.1:{self.etcd.port}" in str(self.ask(self.a, "GET", "/v1/models")[1]), 15)
        status, headers, answer = self.a.call("GET", "/v1/models", headers=WHO)
        self.assertEqual((status, answer["error"]["code"], headers["Retry-After"]), (503, "STORE_UNAVAILABLE", "1"))
        self.assertEqual(self.ask(self.a, "GET", "/health", headers={})[0], 200)
        self.assertFalse(self.status(self.a)["fleet"]["healthy"])
        self.etcd.start()
        wait_for(lambda: self.ask(self.a, "GET", "/v1/models")[0] == 200, 20)


if __name__ == "__main__":
    main()
