"""Who is believed in a colony, and who is sent a key: heartbeats of strangers, lost tokens, wrong keys, folders with two daemons."""
import contextlib
import http.server
import json
import os
import pathlib
import resource
import signal
import ssl
import subprocess
import unittest
import urllib.error
import urllib.request

from colony import BIN, Colony, free_port, listens, main, parse_sse, wait_for
from listener import Listener

OPERATOR = "the-operators-own-token"


def secret(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


class Ear(Listener):
    """A listener that answers like a hive and remembers which keys it was shown."""

    def __init__(self, address="127.0.0.1", status=200):
        self.shown, self.paths = [], []
        ear = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                ear.shown.append(self.headers.get("Authorization"))
                ear.paths.append(self.path)
                body = json.dumps({"devices": [{"id": "cpu", "name": "ear", "device_type": "cpu", "memory_total_bytes": 10**12, "memory_free_bytes": 10**12}], "models": [], "workers_available": []} if status == 200 else {"error": {"code": "RATE_LIMITED", "message": "not now"}}).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_DELETE = answer

        self.listen(Handler, address)


def bearer(key):
    return {"Authorization": "Bearer " + key}


class Trust(unittest.TestCase):
    def ear(self, *arguments, **more):
        ear = Ear(*arguments, **more)
        self.addCleanup(ear.close)
        return ear

    @contextlib.contextmanager
    def keyed(self, *flags, **more):
        """A colony whose queen has an operator's token, and a key of scope node in her keys file."""
        with Colony(**more) as c:
            token = secret(c.home / "token", OPERATOR)
            made = json.loads(subprocess.run([BIN / "llorch", "key", "create", "--scope", "node", "--json"], capture_output=True, text=True, env=c.env, check=True).stdout)
            c.queen("--token-file", token, "--keys-file", made["keys_file"], *(c.home / f if f == "AUDIT" else f for f in flags), local=False)
            yield c, made["key"]

    def beat(self, url, hive="stranger", worker=None):
        workers = [{"worker_id": "w", "uri": worker, "model_ref": "builtin:haiku", "device": "cpu", "kind": "cpu", "state": "ready", "pid": 1, "port": 1}] if worker else []
        return {"hive_id": hive, "url": url, "version": "0", "node": {}, "workers": workers}

    def hives(self, c, key=OPERATOR):
        return {h["id"] for h in c.call("GET", "/v1/status", None, bearer(key))[2]["hives"]}

    def join(self, c, hive, own, url=None, by_name=False):
        """A hive joins; the key that it shows from then on."""
        once = c.call("POST", "/v1/join-tokens", {"hive_id": hive} if by_name else {}, bearer(OPERATOR))[2]["token"].split(".")[0]
        status, _, answer = c.call("POST", "/v1/hive/join", {"hive_id": hive, "token": own} | ({"url": url} if url else {}) | c.certificate_request(), bearer(once))
        self.assertEqual(status, 200, answer)
        return answer["node_token"]

    # 15.2
    def test_a_key_of_scope_node_is_sent_no_token(self):
        ear = self.ear()
        with self.keyed() as (c, node):
            status, _, answer = c.call("POST", "/v1/heartbeat", self.beat(ear.url), bearer(node))
            self.assertEqual(status, 403, answer)
            self.assertIn("join", answer["error"]["message"])
            self.assertEqual((self.hives(c), ear.shown), (set(), []))
            self.assertEqual(c.call("POST", "/v1/workers/failed", {"worker_id": "w", "hive_id": "h"}, bearer(node))[0], 403)

    def test_a_hive_whose_token_is_lost_must_join_again(self):  # without certificates: those have tests of their own
        ear = self.ear()
        with self.keyed(tls=False) as (c, _):
            key = self.join(c, "box", "what-opens-the-box")
            self.assertEqual(c.call("POST", "/v1/heartbeat", self.beat(ear.url, "box"), bearer(key))[0], 200)
            wait_for(lambda: ear.shown)
            self.assertEqual(set(ear.shown), {"Bearer what-opens-the-box"})
            c.children[0].terminate()
            c.children[0].wait(20)
            (c.home / ".local/share/llorch/hive-tokens/box").unlink()
            ear.shown.clear()
            c.queen("--token-file", c.home / "token", local=False)
            status, _, answer = c.call("POST", "/v1/heartbeat", self.beat(ear.url, "box"), bearer(key))
            self.assertEqual(status, 403, answer)
            self.assertIn("join again", answer["error"]["message"])
            self.assertEqual((self.hives(c), ear.shown), (set(), []))
            unnamed = c.call("POST", "/v1/join-tokens", None, bearer(OPERATOR))[2]["token"]
            status, _, answer = c.call("POST", "/v1/hive/join", {"hive_id": "box", "token": "another-that-opens-it"}, bearer(unnamed))
            self.assertEqual(status, 409, "an invitation for machines that nobody knows takes no other's place")
            self.assertIn("--hive-id box", answer["error"]["message"])
            key = self.join(c, "box", "another-that-opens-it", by_name=True)
            self.assertEqual(c.call("POST", "/v1/heartbeat", self.beat(ear.url, "box"), bearer(key))[0], 200)
            wait_for(lambda: ear.shown)
            self.assertEqual(set(ear.shown), {"Bearer another-that-opens-it"})

    def test_a_hive_that_joins_over_plain_http_opens_no_file_on_its_event_loop(self):  # 15.21; with TLS it joins before it serves
        with self.keyed(tls=False) as (c, _):
            once = secret(c.home / "once", c.call("POST", "/v1/join-tokens", None, bearer(OPERATOR))[2]["token"])
            with open(c.home / "box.log", "a") as log:
                hive = c.start(BIN / "llorch-hive", "--port", c.hive_port, "--hive-id", "box", "--queen-url", c.url, "--join-token-file", once, "--data-dir", c.home / "box", "--log-format", "json", stdout=log, stderr=log)
            wait_for(lambda: self.hives(c) == {"box"} or hive.poll() is not None)
            self.assertIsNone(hive.poll(), "LLORCH_ROLES=1: " + (c.home / "box.log").read_text()[-2000:])
            self.assertEqual((once.exists(), (c.home / "box/node-token").exists()), (False, True))

    def test_addresses_of_a_heartbeat_are_the_peers_or_those_given_at_joining(self):
        ear = self.ear()
        elsewhere = "http://192.0.2.7:8600"
        with self.keyed(tls=False) as (c, _):
            key = self.join(c, "box", "what-opens-the-box")
            for beat in (self.beat(elsewhere, "box"), self.beat("http://box.example:8600", "box"), self.beat(ear.url, "box", elsewhere)):
                for who in (key, OPERATOR):
                    status, _, answer = c.call("POST", "/v1/heartbeat", beat, bearer(who))
                    self.assertEqual(status, 403, (beat, answer))
            self.assertEqual((self.hives(c), ear.shown), (set(), []))
            # 0.0.0.0 is the peer's own, wherever it stands; in a path it is nothing.
            port = ear.url.rsplit(":", 1)[1]
            self.assertEqual(c.call("POST", "/v1/heartbeat", self.beat(f"http://0.0.0.0:{port}", "box"), bearer(key))[0], 200)
            self.assertEqual([h["url"] for h in c.call("GET", "/v1/status", None, bearer(OPERATOR))[2]["hives"]], [ear.url])
            # What was given at joining holds, also after a restart; other hives' addresses do not.
            far = self.join(c, "far", "what-opens-the-far-one", elsewhere)
            self.assertEqual(c.call("POST", "/v1/heartbeat", self.beat(elsewhere, "far", "http://192.0.2.7:8601"), bearer(far))[0], 200)
            self.assertEqual(c.call("POST", "/v1/heartbeat", self.beat(elsewhere, "box"), bearer(key))[0], 403)
            c.children[0].terminate()
            c.children[0].wait(20)
            c.queen("--token-file", c.home / "token", local=False)
            self.assertEqual(c.call("POST", "/v1/heartbeat", self.beat(elsewhere, "far"), bearer(far))[0], 200)

    def test_a_worker_s_address_is_what_its_hive_has_given_it(self):
        """The key that opens a worker goes there and nowhere else."""
        with Colony() as c:
            c.queen()
            self.assertEqual(c.infer()[-1][1], "end")
            worker = c.call("GET", "/v1/status")[2]["workers"][0]
            spawn = next(v for v in (pathlib.Path(f"/proc/{worker['pid']}/environ").read_bytes().split(b"\0")) if v.startswith(b"LLORCH_SPAWN_TOKEN=")).decode().split("=", 1)[1]
            beat = {"worker_id": worker["worker_id"], "uri": f"http://192.0.2.7:{worker['port']}", "state": "idle", "spawn_token": spawn}
            self.assertEqual(c.call("POST", "/v1/heartbeat", beat, None, c.hive_port)[0], 403)
            self.assertEqual(c.call("POST", "/v1/heartbeat", beat | {"uri": worker["uri"]}, None, c.hive_port)[0], 200)

    # 15.17
    def test_without_keys_only_the_queen_s_own_hive_is_believed(self):
        ear = self.ear()
        with Colony() as c:
            c.queen()
            self.assertEqual(c.infer()[-1][1], "end")
            beat = self.beat(ear.url, "stranger", ear.url)
            for headers in (None, bearer("guess-of-a-stranger")):
                self.assertEqual(c.call("POST", "/v1/heartbeat", beat, headers)[0], 403)
                self.assertEqual(c.call("POST", "/v1/workers/failed", {"worker_id": c.call("GET", "/v1/status")[2]["workers"][0]["worker_id"]}, headers)[0], 403)
            status = c.call("GET", "/v1/status")[2]
            self.assertEqual((len(status["hives"]), len(status["workers"]), ear.paths), (1, 1, []))
            self.assertEqual((c.home / ".local/share/llorch/node-token").stat().st_mode & 0o777, 0o600)
            for pid, line in c.census():  # workers do not inherit it
                if "worker" in line.split()[0]:
                    self.assertNotIn(c.node_key().encode(), pathlib.Path(f"/proc/{pid}/environ").read_bytes())

    def test_without_keys_a_hive_of_the_same_user_is_believed(self):
        with Colony() as c:
            c.queen()
            port = free_port()
            flags = ("--hive-id", "hand", "--port", port, "--worker-port", free_port(), "--heartbeat-interval-sec", "1")
            added = c.keeper("hive", "add", *flags)
            try:
                self.assertEqual(added.returncode, 0, added.stderr)
                self.assertEqual(c.infer(hive_id="hand")[-1][1], "end")
            finally:
                stopped = c.keeper("hive", "stop", "--hive-id", "hand")
            self.assertEqual(stopped.returncode, 0, stopped.stderr)

    # 15.18
    def test_the_queen_s_own_hive_works_wherever_she_listens(self):
        addresses = subprocess.run(["hostname", "-I"], capture_output=True, text=True).stdout.split()
        lan = [a for a in addresses if ":" not in a][:1]
        if not lan:
            print("not run: a queen on a LAN address: this machine has none")
        for address in ["127.0.0.2", *lan]:
            with self.subTest(address=address), Colony() as c:
                token = secret(c.home / "token", OPERATOR)
                log = open(c.home / "queen.log", "a")
                c.start(BIN / "llorch-queen", "--listen", address, "--port", c.queen_port, "--worker-port", c.worker_port, "--heartbeat-interval-sec", "1", "--token-file", token, stdout=log, stderr=log)
                wait_for(lambda: "listens" in (c.home / "queen.log").read_text(), 20)
                r = None

                def asked():
                    nonlocal r
                    r = subprocess.run(c.command("infer", "--model", "haiku", "rain", "--queen", f"{'http' if address.startswith('127.') else 'https'}://{address}:{c.queen_port}", "--token-file", token, "--no-autostart", "--max-tokens", "5"), capture_output=True, text=True, env=c.env, timeout=60)
                    return "does not answer" not in r.stderr
                wait_for(asked, 20)
                self.assertEqual(r.returncode, 0, r.stderr + (c.home / "queen.log").read_text()[-2000:])

    def test_people_and_daemons_speak_tls_with_a_queen_that_has_a_certificate(self):
        with Colony() as c:
            subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", c.home / "k", "-out", c.home / "c", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"], check=True, capture_output=True)
            log = open(c.home / "queen.log", "a")
            c.start(BIN / "llorch-queen", "--local-mode", "--port", c.queen_port, "--worker-port", c.worker_port, "--heartbeat-interval-sec", "1", "--tls-cert", c.home / "c", "--tls-key", c.home / "k", stdout=log, stderr=log)
            trusting = ssl.create_default_context(cafile=c.home / "c")

            def haiku():
                order = {"operation": "infer", "model": "builtin:haiku", "prompt": "Write a haiku about rain", "max_tokens": 5}
                to = urllib.request.Request(f"https://localhost:{c.queen_port}/v1/jobs", json.dumps(order).encode(), {"Content-Type": "application/json"})
                with contextlib.suppress(urllib.error.URLError, ConnectionError):
                    job = json.load(urllib.request.urlopen(to, context=trusting, timeout=30))
                    with urllib.request.urlopen(f"https://localhost:{c.queen_port}{job['sse_url']}", context=trusting, timeout=60) as events:
                        return parse_sse(events.read().decode())[0][-1][1]
            wait_for(lambda: haiku() == "end", 30)
            with self.assertRaises(urllib.error.URLError):
                urllib.request.urlopen(f"https://localhost:{c.queen_port}/health", timeout=10)

    # 15.5
    def test_a_second_daemon_leaves_a_folder_alone(self):
        with Colony() as c:
            queen = c.queen()
            self.assertEqual(c.infer()[-1][1], "end")
            folder = c.home / ".local/share/llorch"
            before = {p.relative_to(folder): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file() and p.suffix in (".pid", "") and p.name != "lock"}
            made = c.call("POST", "/v1/jobs", {"operation": "infer", "model": "haiku", "prompt": "x", "max_tokens": 200, "ignore_eos": True})[2]
            for program, where, more in (("llorch-queen", folder, ()), ("llorch-hive", folder / "hive", ("--queen-url", c.url))):
                holder = f"{program} on port {c.queen_port if program == 'llorch-queen' else c.hive_port} (process "
                second = subprocess.run([BIN / program, "--local-mode", "--port", str(free_port()), "--data-dir", where, *more], capture_output=True, text=True, env=c.env, timeout=20)
                self.assertEqual(second.returncode, 1, second.stderr)
                self.assertIn("RESOURCE_IN_USE", second.stderr)
                self.assertIn(holder, second.stderr)
            events = c.call("GET", made["sse_url"])[2]
            self.assertIn("event: end", events)
            self.assertEqual(len(c.call("GET", "/v1/status")[2]["workers"]), 1)
            after = {p.relative_to(folder): p.stat().st_mtime_ns for p in folder.rglob("*") if p.relative_to(folder) in before}
            self.assertEqual(before, after)
            # Killed, it holds nothing: whoever comes next has the folder at once.
            queen.send_signal(signal.SIGKILL)
            queen.wait()
            c.queen()

    def test_a_queen_that_follows_a_killed_one_has_a_hive_at_once(self):
        """The old one's hive still ends its workers, on the same folder and port."""
        with Colony() as c:
            queen = c.queen()
            made = c.call("POST", "/v1/jobs", {"operation": "infer", "model": "haiku", "prompt": "x", "max_tokens": 200, "ignore_eos": True})[2]
            wait_for(lambda: c.call("GET", "/v1/jobs/" + made["job_id"])[2]["status"] == "running")
            queen.send_signal(signal.SIGKILL)
            queen.wait()
            c.queen()
            end = c.infer()[-1]
            self.assertEqual(end[1], "end", end)

    # 15.6
    def test_wrong_keys_shut_nobody_out(self):
        with self.keyed("--log-level", "debug") as (c, _):
            hive = c.start(BIN / "llorch-hive", "--token-file", c.home / "token", "--port", free_port(), "--hive-id", "own", "--queen-url", c.url, "--data-dir", c.home / "own", *c.trusted_by("own"), "--heartbeat-interval-sec", "1", "--worker-port", free_port(), stdout=subprocess.DEVNULL, stderr=open(c.home / "own.log", "a"))
            wait_for(lambda: "own" in self.hives(c))
            codes = [c.call("GET", "/v1/status", None, bearer(f"a-wrong-key-{i:04}"))[0] for i in range(30)]
            self.assertEqual(set(codes[:10]), {401})
            self.assertEqual(set(codes[11:]), {429}, "who tries keys is held up")
            self.assertEqual(c.call("GET", "/v1/status", None, bearer(OPERATOR))[0], 200, "who has the right key is not")
            heartbeats = lambda: (c.home / "queen.log").read_text().count("POST /v1/heartbeat 200")
            before = heartbeats()

            def four_more():
                self.assertEqual(c.call("GET", "/v1/status", None, bearer("a-wrong-key-0099"))[0], 429)
                self.assertEqual(self.hives(c), {"own"})
                return heartbeats() >= before + 4  # after three that are not believed a hive ends

            wait_for(four_more, 20)
            self.assertIsNone(hive.poll())

    def test_a_hive_goes_on_while_its_heartbeats_are_refused(self):
        queen = self.ear(status=429)
        with Colony() as c:
            log = open(c.home / "own.log", "a")
            hive = c.start(BIN / "llorch-hive", "--local-mode", "--queen-started", "--port", c.hive_port, "--queen-url", queen.url, "--data-dir", c.home / "own", "--heartbeat-interval-sec", "1", "--worker-port", c.worker_port, "--log-format", "json", stdout=log, stderr=log)
            wait_for(lambda: len(queen.paths) >= 6, 20)  # a second apart
            self.assertIsNone(hive.poll(), (c.home / "own.log").read_text())
            c.wait_logged("own", "not now")

    # 15.22
    def test_what_cannot_be_written_down_is_told_and_where_asked_not_done(self):
        for required in (False, True):
            with self.subTest(required=required), self.keyed("--audit-log", "AUDIT", *(["--audit-required"] if required else [])) as (c, _):
                log, queen = c.home / "AUDIT", c.children[0]

                def ask():
                    status, _, answer = c.call("POST", "/v1/join-tokens", None, bearer(OPERATOR))
                    return status, json.dumps(answer)

                self.assertEqual(ask()[0], 200)
                wait_for(lambda: log.read_text().count("\n") >= 1)
                none = resource.prlimit(queen.pid, resource.RLIMIT_FSIZE)
                resource.prlimit(queen.pid, resource.RLIMIT_FSIZE, (log.stat().st_size + 50, none[1]))  # as a full disk would
                for _ in range(3):
                    status, answer = ask()
                    if required:
                        self.assertEqual((status, "token" in json.loads(answer)), (503, False), answer)
                        self.assertIn("AUDIT_UNAVAILABLE", answer)
                    else:
                        self.assertEqual(status, 200, answer)
                self.assertEqual(c.call("GET", "/v1/models", None, bearer(OPERATOR))[0], 503 if required else 200)
                self.assertEqual(c.call("GET", "/health")[0], 200)
                c.wait_logged("queen", "audit_failed")
                resource.prlimit(queen.pid, resource.RLIMIT_FSIZE, none)
                wait_for(lambda: ask()[0] == 200)
                queen.terminate()
                self.assertEqual(queen.wait(20), 0)
                verified = subprocess.run([BIN / "llorch", "audit", "verify", log], capture_output=True, text=True, env=c.env, timeout=20)
                self.assertEqual(verified.returncode, 0, verified.stderr)
                self.assertIn("audit_overflow", log.read_text())

    def test_a_keyed_audit_log(self):
        with Colony() as c:
            token, key = secret(c.home / "token", OPERATOR), secret(c.home / "audit-key", "0123456789abcdef" * 4)
            log = c.home / "audit"
            queen = c.queen("--token-file", token, "--audit-log", log, "--audit-key-file", key, local=False)
            self.assertEqual(c.call("POST", "/v1/join-tokens", None, bearer(OPERATOR))[0], 200)
            queen.terminate()
            self.assertEqual(queen.wait(20), 0)

            def verify(*flags):
                r = subprocess.run([BIN / "llorch", "audit", "verify", log, *flags], capture_output=True, text=True, env=c.env, timeout=20)
                return r.returncode, r.stdout + r.stderr

            self.assertEqual(verify("--audit-key-file", key)[0], 0)
            code, said = verify()
            self.assertEqual(code, 1)
            self.assertIn("--audit-key-file", said)
            # Somebody who may write the files, and does not have the key, makes a log of their own.
            for path in c.home.glob("audit*"):
                if path != key:
                    path.unlink()
            queen = c.queen("--token-file", token, "--audit-log", log, local=False)
            self.assertEqual(c.call("POST", "/v1/join-tokens", None, bearer(OPERATOR))[0], 200)
            queen.terminate()
            queen.wait(20)
            self.assertEqual(verify()[0], 0)
            code, said = verify("--audit-key-file", key)
            self.assertEqual(code, 1)
            self.assertIn("not keyed", said)


if __name__ == "__main__":
    main()
