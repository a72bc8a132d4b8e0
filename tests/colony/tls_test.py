"""Between machines everything is encrypted, and nobody believes a stranger: a colony in network namespaces whose wire is recorded
(tcpdump), a man in the middle, certificates that are expired, revoked, foreign or self-made, renewal in seconds (needs root)."""
import json
import os
import re
import shutil
import signal
import subprocess
import time
import unittest

from colony import BIN, ROOT, main, parse_sse, text_of, wait_for
from lan import NET, ROOT_CERTIFICATE, WHY_NOT, Lan, run
from machines import HOME, TOKEN, Machines, Person

PROMPT = "planted-prompt about the zanzibar"
QUEEN = "queen.llorch.internal"
COLONY_URL = f"https://{QUEEN}:8500"
TO_QUEEN = ("-H", f"Host: {NET}.1:8500", "--connect-to", f"{QUEEN}:8500:{NET}.1:8500", "--cacert", "/root/root.pem")


@unittest.skipIf(WHY_NOT, f"not run: {WHY_NOT}")
class Wire(Machines):
    names = ("q", "a", "m")

    def setUp(self):
        if not shutil.which("tcpdump"):
            self.skipTest("not run: there is no tcpdump")
        self.record = self.lan.folder / "wire"
        self.tcpdump = subprocess.Popen(["ip", "netns", "exec", f"{self.lan.tag}-lan", "tcpdump", "-i", "br0", "-U", "-w", self.record, "-s", "0", "-Z", "root", "tcp"], stderr=subprocess.DEVNULL)
        self.addCleanup(self.tcpdump.wait)
        self.addCleanup(self.tcpdump.kill)
        wait_for(lambda: self.record.exists() and self.record.stat().st_size, 10)

    def seen(self, *words):
        bytes_ = self.record.read_bytes()
        return [w for w in words if w.encode() in bytes_]

    def test_a_newcomer_joins_with_one_command_and_nothing_is_readable(self):
        words = self.invited()
        r = self.join("a", words)
        self.assertEqual(r.returncode, 0, r.stderr + self.hive_log("a"))
        wait_for(lambda: "a" in self.hives(), 15)
        secret, fingerprint = words[4].split(".")
        self.assertEqual(fingerprint, self.json_of("GET", "/v1/ca")["fingerprint"])
        # Load and chat, from the other machine; then a stream that is left and resumed, one that is cancelled, and the end of all.
        chat = {"model": "builtin:haiku", "messages": [{"role": "user", "content": PROMPT}]}
        answer = self.json_of("POST", "/v1/chat/completions", chat)["choices"][0]["message"]["content"]
        order = {"operation": "infer", "model": "builtin:haiku", "prompt": PROMPT, "hive_id": "a", "max_tokens": 60, "ignore_eos": True, "resumable": True}
        made = self.json_of("POST", "/v1/jobs", order)
        first = self.ask("GET", made["sse_url"])[1]
        again = self.at("a", "curl", "-sS", "--cacert", "/root/root.pem", "-H", f"Authorization: Bearer {TOKEN}", "-H", "Last-Event-ID: 3", self.url + made["sse_url"]).stdout
        self.assertIn(again.strip(), first)
        text = text_of(parse_sse(first)[0])
        made = self.json_of("POST", "/v1/jobs", order | {"max_tokens": 240})
        self.assertIn(self.ask("DELETE", f"/v1/jobs/{made['job_id']}")[0], (200, 202))
        folder = self.folder("a")
        keys = [(folder / name).read_text().strip() for name in ("token", "node-token")]
        self.assertEqual(self.ask("POST", "/v1/shutdown", {})[0] // 100, 2)  # drained
        self.queen.wait(30)
        type(self).start_queen()
        wait_for(lambda: "a" in self.hives(), 15)
        lines = [line for line in (answer + "\n" + text).splitlines() if len(line) > 8]
        self.assertGreater(len(lines), 1)
        self.assertGreater(self.record.stat().st_size, 20_000, "it was said on the wire")
        self.assertEqual(self.seen(TOKEN, secret, PROMPT, "zanzibar", *keys, *lines, "HTTP/1.", "Authorization", "Bearer ", '"t":', "data:", "heartbeat"), [])
        # What would be readable is seen: the same words over plain HTTP.
        self.at("m", "curl", "-s", "-m", "2", "-H", f"Authorization: Bearer {TOKEN}", f"http://{NET}.1:8500/")
        wait_for(lambda: self.seen(TOKEN, "HTTP/1.", "Bearer ") == [TOKEN, "HTTP/1.", "Bearer "], 10)


class Middle:
    """A machine that poses as the queen, with a certificate of its own making; keeps what it is told."""

    def __init__(self, lan, name):
        self.lan, self.name, folder = lan, name, lan.folder
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", folder / "middle.key", "-out", folder / "middle.pem", "-days", "2", "-subj", "/CN=llorch colony", "-addext", f"subjectAltName=DNS:{QUEEN},IP:{NET}.1,IP:{lan.machines[name]}")
        self.told = folder / "middle.log"
        self.log = open(self.told, "w")
        self.server = subprocess.Popen(lan.command(name, "openssl", "s_server", "-accept", "8500", "-cert", folder / "middle.pem", "-key", folder / "middle.key", "-verify", "3", "-msg"), stdout=self.log, stderr=self.log, stdin=subprocess.PIPE)
        wait_for(lambda: "ACCEPT" in self.told.read_text(errors="replace"), 10)

    def close(self):
        for pid in Lan.children(self.server.pid):  # nsenter's child is in a process namespace of its own
            os.kill(int(pid), signal.SIGKILL)
        self.server.wait()


@unittest.skipIf(WHY_NOT, f"not run: {WHY_NOT}")
class Strangers(Machines):
    names = ("q", "a", "m")
    queen_flags = ("--allow-host", "my_nas", "--allow-host", "queen.lan:8500")

    def setUp(self):
        if "a" not in self.hives():
            r = self.join("a")
            self.assertEqual(r.returncode, 0, r.stderr)
            wait_for(lambda: "a" in self.hives(), 15)

    def show(self, certificate, key, body=None):
        """What the queen says to a heartbeat of hive a with its right key and the certificate of these files."""
        token = (self.folder("a") / "node-token").read_text().strip()
        beat = {"hive_id": "a", "url": f"https://{NET}.2:8600", "version": "0", "node": {}, "workers": []}
        r = self.at("a", "curl", "-sS", *TO_QUEEN, *(["--cert", certificate, "--key", key] if certificate else []), "-H", f"Authorization: Bearer {token}", "-H", "Content-Type: application/json", "-d", json.dumps(body or beat), COLONY_URL + "/v1/heartbeat")
        return r.stdout + r.stderr

    def own(self):
        folder = self.folder("a").relative_to(self.home["a"])
        return (f"/root/{folder}/tls/own.pem",) * 2

    def made(self, name, *how):
        """A certificate for hive a, made by openssl."""
        at = self.home["a"]
        (at / "extensions").write_text(f"subjectAltName=URI:llorch:hive:a,DNS:a.hive.llorch.internal\nextendedKeyUsage=clientAuth,serverAuth\nbasicConstraints=CA:FALSE\n")
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", at / f"{name}.key")
        run("openssl", "req", "-new", "-key", at / f"{name}.key", "-subj", "/CN=a", "-out", at / f"{name}.csr")
        run("openssl", "x509", "-req", "-in", at / f"{name}.csr", "-extfile", at / "extensions", "-out", at / f"{name}.pem", *(how or ("-signkey", at / f"{name}.key")))
        return f"/root/{name}.pem", f"/root/{name}.key"

    def test_a_man_in_the_middle_at_the_first_contact(self):
        middle = Middle(self.lan, "m")
        self.addCleanup(middle.close)
        words = self.invited()
        secret = words[4].split(".")[0]
        r = self.join("m", [*words[:3], f"{NET}.3:8500", words[4]])
        self.assertFalse(secret in middle.told.read_text(errors="replace"), "the join token was told")
        self.assertNotEqual(r.returncode, 0)
        self.assertRegex(r.stderr, "root|certificate")
        self.assertFalse(list(self.home["m"].rglob("node-token")))

    def test_a_man_in_the_middle_later(self):
        node = (self.folder("a") / "node-token").read_text().strip()
        type(self).stop_queen()
        middle = Middle(self.lan, "q")
        before = len(self.hive_log("a"))
        try:
            told = lambda: middle.told.read_text(errors="replace")
            wait_for(lambda: "POST" in told() or re.search("certificate|self.signed|root", self.hive_log("a")[before:]), 20)
            self.assertFalse(node in told(), "the hive's key was told")
            self.assertNotIn("POST", told())
            self.assertRegex(self.hive_log("a")[before:], "certificate|self.signed|root")
            self.assertIsNone(self.ask("GET", "/health", machine="a"), "a person's program believes the colony's root alone")
        finally:
            middle.close()
            type(self).start_queen()
        wait_for(lambda: "a" in self.hives(), 30)

    def test_certificates_that_are_refused_and_why(self):
        said = self.show(*self.own())
        self.assertNotIn("error", said)
        self.assertIn("shows no certificate", self.show(None, None))
        self.assertRegex(self.show(*self.made("self")), "unknown ca|self.signed")
        issuer = self.home["q"] / HOME / "ca"
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.home["a"] / "other.key", "-out", self.home["a"] / "other.pem", "-days", "2", "-subj", "/CN=another colony")
        self.assertIn("unknown ca", self.show(*self.made("foreign", "-CA", self.home["a"] / "other.pem", "-CAkey", self.home["a"] / "other.key", "-CAcreateserial")))
        for name, days, words in (("good", "2", None), ("late", "-1", "expired")):
            pem, key = self.made(name, "-CA", issuer / "issuer.pem", "-CAkey", issuer / "issuer.key", "-CAcreateserial", "-days", days)
            whole = self.home["a"] / f"{name}.pem"
            whole.write_text(whole.read_text() + (issuer / "issuer.pem").read_text())
            said = self.show(pem, key)
            self.assertIn(words, said) if words else self.assertNotIn("error", said)
        plain = self.show(*self.own(), {"hive_id": "a", "url": f"http://{NET}.2:8600", "version": "0", "node": {}, "workers": []})
        self.assertIn("is plain HTTP", plain)
        another = self.show(*self.own(), {"hive_id": "b", "url": f"https://{NET}.2:8600", "version": "0", "node": {}, "workers": []})
        self.assertIn("FORBIDDEN", another)

    def test_a_certificate_names_its_hive_and_where_it_calls_from_and_no_more(self):
        request = self.at("a", "sh", "-c", "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /root/x.key -subj /CN=queen.llorch.internal -addext subjectAltName=DNS:queen.llorch.internal 2>/dev/null").stdout
        node = (self.folder("a") / "node-token").read_text().strip()
        ask = lambda body, *certificate: self.at("a", "curl", "-sS", *TO_QUEEN, *certificate, "-H", f"Authorization: Bearer {node}", "-H", "Content-Type: application/json", "-d", json.dumps(body), COLONY_URL + "/v1/hive/certificate")
        own = ("--cert", self.own()[0], "--key", self.own()[1])
        made = json.loads(ask({"hive_id": "a", "certificate_request": request, "url": "https://queen.llorch.internal:1"}, *own).stdout)["certificate"]
        shown = subprocess.run(["openssl", "x509", "-noout", "-ext", "subjectAltName"], input=made, capture_output=True, text=True, check=True).stdout
        self.assertEqual(set(re.findall(r"(?:DNS|URI|IP Address):[^,\s]+", shown)), {"URI:llorch:hive:a", "DNS:a.hive.llorch.internal", f"IP Address:{NET}.2"})
        self.assertIn("FORBIDDEN", ask({"hive_id": "b", "certificate_request": request}, *own).stdout)
        # Without the certificate, the key alone opens nothing that speaks for the hive, whatever the address.
        self.assertIn("shows no certificate", ask({"hive_id": "a", "certificate_request": request}).stdout)
        there = self.at("q", "curl", "-sS", "--cacert", "/root/root.pem", "-H", f"Authorization: Bearer {node}", "-H", "Content-Type: application/json", "-d", json.dumps({"worker_id": "w", "hive_id": "a"}), self.url + "/v1/workers/failed")
        self.assertIn("shows no certificate", there.stdout)

    def test_a_hive_s_token_alone_opens_it_on_its_own_machine_only(self):
        token = (self.folder("a") / "token").read_text().strip()
        shutil.copy(self.home["a"] / self.own()[0].removeprefix("/root/"), self.home["m"] / "stolen.pem")
        own = ("--cert", "/root/stolen.pem", "--key", "/root/stolen.pem", "--connect-to", f"a.hive.llorch.internal:8600:{NET}.2:8600", "-H", f"Host: {NET}.2:8600")
        ask = lambda machine, host=f"{NET}.2", *more: self.at(machine, "curl", "-sS", "--cacert", "/root/root.pem", "-H", f"Authorization: Bearer {token}", *more, f"https://{host}:8600/v1/capabilities").stdout
        self.assertIn('"devices"', ask("a"))
        self.assertIn("opened by its queen alone", ask("m"))
        self.assertIn("opened by its queen alone", ask("m", "a.hive.llorch.internal", *own), "nor with the certificate of the hive itself")
        self.assertEqual(self.at("m", "curl", "-sS", "--cacert", "/root/root.pem", f"https://{NET}.2:8600/health", "-o", "/dev/null", "-w", "%{http_code}").stdout, "200")
        wait_for(lambda: "a" in self.hives(), 10)
        answer = self.json_of("POST", "/v1/completions", {"model": "builtin:haiku", "prompt": "x", "max_tokens": 3})
        self.assertIn("choices", answer, "the queen shows hers")

    def test_names_by_which_the_queen_is_called(self):
        own = self.at("q", "hostname").stdout.strip()
        names = {name: 200 for name in ("my_nas", "queen.lan:8500", f"{own}:8500", "localhost:8500", f"{NET}.1:8500", f"{QUEEN}:8500")} | {"evil.example": 403}
        answered = {name: int(self.at("q", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", ROOT_CERTIFICATE, "-H", f"Host: {name}", self.url + "/health").stdout) for name in names}
        self.assertEqual(answered, names)
        # The same address in another spelling is a name that she was not told.
        spelled = self.url.replace(".0.1:", ".1:")
        for command in (["status"], ["queen", "stop"], ["queen", "status"], ["model", "list"]):
            r = self.at("a", BIN / "llorch", *command, "--queen", spelled, "--ca-file", "/root/root.pem", "--no-autostart")
            self.assertEqual(r.returncode, 1, (command, r.stdout, r.stderr))
            self.assertIn("HOST_NOT_ALLOWED", r.stderr)
            self.assertNotIn("asleep", r.stdout + r.stderr)

    def test_keys_do_not_go_over_plain_http_unasked(self):
        (self.home["m"] / "token").write_text(TOKEN)
        (self.home["m"] / "token").chmod(0o600)
        url = f"http://{NET}.1:8500"
        keeper = [BIN / "llorch", "status", "--queen", url, "--token-file", "/root/token", "--no-autostart"]
        for refused in (keeper, [BIN / "llorch", "hive", "join", url, "llorch-join-0"], [BIN / "llorch-hive", "--token-file", "/root/token", "--listen", "127.0.0.1", "--queen-url", url]):
            r = self.at("m", *refused)
            self.assertNotEqual(r.returncode, 0, r.stdout)
            self.assertIn("would show keys, prompts and answers", r.stderr)
            self.assertIn("--insecure-http", r.stderr)
        for allowed in ([*keeper, "--insecure-http"], ["env", "LLORCH_INSECURE_HTTP=1", *keeper]):
            r = self.at("m", *allowed)
            self.assertEqual(r.returncode, 2, r.stdout)
            self.assertIn("speaks https", r.stderr, "who speaks TLS does not answer to it")

    def streamed(self):
        """A stream from a model on hive a that takes its time, and has begun: (curl, the file of what has come)."""
        slow, came = self.lan.folder / "slow.gguf", self.home["q"] / "stream"
        run(BIN / "llorch-gguf", "synth", "--quick", "--shape", "gpt2-124m", "--type", "F16", slow)
        made = self.json_of("POST", "/v1/jobs", {"operation": "infer", "model": str(slow), "prompt": "x", "max_tokens": 1000, "ignore_eos": True, "hive_id": "a"})
        curl = subprocess.Popen(self.lan.command("q", "curl", "-sS", "-N", "-o", "/root/stream", "--cacert", ROOT_CERTIFICATE, "-H", f"Authorization: Bearer {TOKEN}", self.url + made["sse_url"]))
        self.addCleanup(curl.wait)
        self.addCleanup(curl.kill)
        wait_for(lambda: came.exists() and text_of(parse_sse(came.read_text().rpartition("\n\n")[0])[0]), 60)
        return curl, came

    def test_z_a_certificate_that_was_revoked(self):
        curl, came = self.streamed()
        r = self.at("q", BIN / "llorch", "ca", "revoke", "a", "--queen", self.url, "--token-file", "/root/token")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(curl.wait(10), 0)
        last = parse_sse(came.read_text())[0][-1]
        self.assertEqual((last[1], last[2].get("code")), ("error", "WORKER_UNHEALTHY"), last)
        self.assertIn("were revoked", last[2]["message"])
        wait_for(lambda: not self.at("q", "ss", "-Htn", "state", "established", "dst", f"{NET}.2", "and", "dport", ">=", "8600").stdout, 10)
        self.assertIn("was revoked", self.show(*self.own()))
        wait_for(lambda: "a" not in self.hives(), 10)
        wait_for(lambda: "was revoked" in self.hive_log("a"), 15)
        body = {"hive_id": "a", "certificate_request": "x"}
        node = (self.folder("a") / "node-token").read_text().strip()
        r = self.at("a", "curl", "-sS", *TO_QUEEN, "--cert", self.own()[0], "--key", self.own()[1], "-H", f"Authorization: Bearer {node}", "-H", "Content-Type: application/json", "-d", json.dumps(body), COLONY_URL + "/v1/hive/certificate")
        self.assertIn("was revoked", r.stdout, "it has no successor")
        self.assertIn("llorch:hive:a", self.at("q", BIN / "llorch", "ca", "show").stdout)


@unittest.skipIf(WHY_NOT, f"not run: {WHY_NOT}")
class Newcomer(Person, Machines):
    """What a person types who has read docs/colony.md and nothing else: without addresses on the queen's machine."""
    names = ("q", "a", "b")

    def test_a_commands_on_her_machine_find_the_queen(self):
        for words in (["status"], ["queen", "status"], ["queen", "start"], ["hive", "list"]):
            r = self.bare(*words)
            self.assertNotIn("asleep", r.stdout + r.stderr, words)
        self.assertEqual(len([1 for n, line, _ in self.lan.processes() if "llorch-queen" in line]), 1, "another queen was started")
        self.assertEqual(self.invited()[:4], ["llorch", "hive", "join", f"{NET}.1:8500"])
        for words in (["hive", "remove", "nosuch"], ["ca", "revoke", "nosuch"]):
            r = self.bare(*words, code=1)
            self.assertIn(f"HIVE_NOT_FOUND: there is no hive nosuch: the colony has {self.own()}", r.stderr)
        self.assertIn(f"the queen listens on {self.url}", (self.lan.folder / "queen.log").read_text())

    def test_b_a_hive_that_cannot_start_says_why_at_once(self):
        r = self.bare("hive", "start", code=1)
        self.assertIn("`llorch hive install`", r.stderr)
        self.assertLess(r.seconds, 10)
        self.bare("hive", "install")
        r = self.bare("hive", "start", "--hive-id", self.own(), code=1)
        self.assertIn("the queen's own machine has this name", r.stderr)
        self.assertLess(r.seconds, 10)
        self.bare("hive", "start", "--hive-id", "hand", "--port", 8700, "--worker-port", 8701, "--heartbeat-interval-sec", 1)
        self.assertIn("hand", self.hives())
        self.bare("hive", "stop")
        self.bare("hive", "remove", "hand")

    def test_c_a_token_that_does_not_open_says_why(self):
        words = self.invited()
        r = self.join("a", words)
        self.assertEqual(r.returncode, 0, r.stderr)
        wait_for(lambda: "a" in self.hives(), 15)
        secret, root = words[4].split(".")
        for token, why in ((words[4], "was used already"), (f"llorch-join-{'0' * 48}.{root}", "not known here")):
            r = self.join("b", [*words[:4], token])
            self.assertEqual(r.returncode, 1, r.stdout)
            self.assertIn(why, r.stderr)
            self.assertIn("`llorch hive invite` on the queen's machine", r.stderr)
            self.assertNotIn("--token-file", r.stderr, "who joins has no key of the operator's")
            self.assertEqual(len(re.findall("error|API_KEY", r.stderr)), 2, r.stderr)
        r = self.join("a", words)
        self.assertIn("`llorch hive stop`", r.stderr)
        self.assertIn("a", self.hives(), "and the hive that runs goes on")

    def test_d_the_queen_s_own_hive_runs_beside_others(self):
        self.joined("a")
        own = self.own()
        self.assertNotIn(own, self.hives())
        r = self.bare("hive", "check", code=1)
        self.assertIn(f"the hive {own} is offline", r.stderr, "another one was asked")
        r = self.bare("run", "builtin:haiku", "tea", "--hive", "nosuch", "--quiet", code=1)
        self.assertRegex(r.stderr, f"there is no hive nosuch: the colony has .*{own}")
        self.bare("run", "builtin:haiku", "tea", "--hive", own, "--quiet")
        self.assertIn(own, self.hives())
        self.bare("run", "builtin:haiku", "tea", "--hive", "a", "--quiet")
        self.assertRegex(self.bare("hive", "check", "a").stdout, r"(?m)^a ")
        self.assertRegex(self.bare("hive", "check").stdout, rf"(?m)^{own} ")
        shown = self.bare("hive", "list").stdout
        self.assertNotRegex(shown, r"\dE-?\d")
        # Both hives have a worker of the same id.
        status = self.bare("status").stdout
        for hive in (own, "a"):
            self.assertRegex(status, rf"(?m)^ *{hive}/worker-cpu-8601 +builtin:haiku .* ready ")
        self.assertTrue(self.bare("worker", "logs", "a/worker-cpu-8601", "-n", 2).stdout)
        self.bare("run", "builtin:haiku", "tea", "--worker-id", f"{own}/worker-cpu-8601", "--quiet")

    def test_e_an_invitation_outlives_the_queen(self):
        words, before = self.invited("--hive-id", "b"), self.hives() - {self.own()}
        type(self).stop_queen()
        type(self).start_queen()
        r = self.join("b", words[:5])
        self.assertEqual(r.returncode, 0, r.stderr)
        wait_for(lambda: self.hives() >= before | {"b"}, 15)

    def test_f_after_a_reboot_and_joining_again(self):
        self.joined("a")
        self.lan.power_off("a")
        wait_for(lambda: "a" not in self.hives(), 15)
        self.lan.power_on("a")
        self.bare("hive", "start", machine="a")
        wait_for(lambda: "a" in self.hives(), 15)
        self.bare("hive", "stop", machine="a")
        wait_for(lambda: "a" not in self.hives(), 15)  # else what is waited for below is the one before
        # As the unit in the document starts it.
        command = re.search(r"ExecStart=(.*hive-by-hand.*)", (ROOT / "docs/colony.md").read_text())[1].replace("%h", "/root").split()
        unit = subprocess.Popen(self.lan.command("a", *command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(unit.wait)
        wait_for(lambda: "a" in self.hives(), 15)
        self.assertIn("true", self.bare("hive", "status", machine="a").stdout)
        self.bare("hive", "stop", machine="a")
        self.assertEqual(unit.wait(20), 0, "systemd does not start it again")
        r = self.join("a", self.invited("--hive-id", "a")[:5])
        self.assertEqual(r.returncode, 0, r.stderr)
        wait_for(lambda: "a" in self.hives(), 15)

    def test_g_a_root_that_is_missing_or_another_s_is_told(self):
        (self.home["a"] / "garbage").write_text("garbage")
        self.assertIn("certificate", self.bare("status", "--queen", self.url, machine="a", code=2).stderr)
        for url in (self.url, "http://127.0.0.1:8500"):
            r = self.bare("status", "--queen", url, "--ca-file", "/root/none", machine="a", code=2)
            self.assertIn("/root/none", r.stderr)
            self.assertNotIn("asleep", r.stdout)
        self.assertIn("/root/garbage is no root certificate", self.bare("status", "--queen", self.url, "--ca-file", "/root/garbage", machine="a", code=2).stderr)


@unittest.skipIf(WHY_NOT, f"not run: {WHY_NOT}")
class Life(Machines):
    """Certificates that last ten seconds."""
    names, queen_flags = ("q", "a"), ("--certificate-lifetime-sec", "10")

    def serial(self, address):
        shown = subprocess.run(self.lan.command("q", "sh", "-c", f"openssl s_client -connect {address} </dev/null 2>/dev/null | openssl x509 -noout -serial"), capture_output=True, text=True).stdout
        return shown.strip()

    def test_certificates_renew_themselves_and_work_goes_on(self):
        r = self.join("a")
        self.assertEqual(r.returncode, 0, r.stderr)
        wait_for(lambda: "a" in self.hives(), 15)
        before = [self.serial(f"{NET}.{n}:{p}") for n, p in ((1, 8500), (2, 8600))]
        self.assertTrue(all(before), before)
        answers, until = [], time.monotonic() + 25
        while time.monotonic() < until:
            answers.append(self.ask("POST", "/v1/completions", {"model": "builtin:haiku", "prompt": "x", "max_tokens": 3}, machine="q"))
            time.sleep(0.3)
        self.assertEqual({a and a[0] for a in answers}, {200}, (answers[-1], self.hive_log("a")[-3000:], (self.lan.folder / "queen.log").read_text()[-3000:]))
        after = [self.serial(f"{NET}.{n}:{p}") for n, p in ((1, 8500), (2, 8600))]
        self.assertTrue(all(after) and not set(before) & set(after), (before, after))
        self.assertIn("a", self.hives())
        self.assertIn("certificate_renewed", self.hive_log("a"))


if __name__ == "__main__":
    main()
