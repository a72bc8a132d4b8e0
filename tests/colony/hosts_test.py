"""Real hosts: machines in network and process namespaces of their own, each with an sshd, made by the test (needs root). Hives are
installed over SSH and join with one-time tokens; then a cable is cut, a hive is killed, the queen is restarted, a machine loses power."""
import json
import os
import re
import signal
import subprocess
import unittest

from colony import BIN, ROOT, main, parse_sse, text_of, wait_for
from lan import NET, ROOT_CERTIFICATE, WHY_NOT, Lan, run

TOKEN = "the-token-of-this-colony"


@unittest.skipIf(WHY_NOT, f"not run: {WHY_NOT}")
class Hosts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.lan = Lan(["q", "a", "b", "c"])
        cls.url = f"https://{NET}.1:8500"
        (cls.lan.folder / "q/token").write_text(TOKEN)
        (cls.lan.folder / "q/token").chmod(0o600)
        # Slow enough to be caught at work.
        cls.slow = cls.lan.folder / "slow.gguf"
        run(BIN / "llorch-gguf", "synth", "--quick", "--shape", "gpt2-124m", "--type", "F16", cls.slow)
        cls.start_queen()

    @classmethod
    def tearDownClass(cls):
        cls.queen.kill()
        cls.queen.wait()
        cls.lan.close()

    @classmethod
    def start_queen(cls):
        log = open(cls.lan.folder / "queen.log", "a")
        cls.queen = subprocess.Popen(cls.lan.command("q", BIN / "llorch-queen", "--listen", f"{NET}.1", "--token-file", "/root/token", "--worker-slots", "1", "--heartbeat-interval-sec", "1", "--audit-log", "/root/audit", "--log-format", "json"), stdout=log, stderr=log)
        wait_for(lambda: cls.curl("GET", "/health") is not None, 10)

    @classmethod
    def curl(cls, method, path, body=None, token=TOKEN, url=None, seconds=90):
        """(status, text), or None when nobody answers."""
        data = [] if body is None else ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        r = subprocess.run(cls.lan.command("q", "curl", "-sS", "--cacert", ROOT_CERTIFICATE, "-m", seconds, "-X", method, "-H", f"Authorization: Bearer {token}", "-w", "\n%{http_code}", *data, (url or cls.url) + path), capture_output=True, text=True)
        if r.returncode:
            return None
        text, status = r.stdout.rsplit("\n", 1)
        return int(status), text

    def keeper(self, *arguments, ok=True):
        r = subprocess.run(self.lan.command("q", BIN / "llorch", *arguments, "--queen", self.url, "--token-file", "/root/token"), capture_output=True, text=True, timeout=120)
        if ok:
            self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
        return r

    def hives(self):
        return {h["id"] for h in json.loads(self.curl("GET", "/v1/status")[1])["hives"]}

    def infer(self, **more):
        """Events of a job, followed to its end."""
        made = json.loads(self.curl("POST", "/v1/jobs", {"operation": "infer", "model": "builtin:haiku", "prompt": "Write a haiku about the sea", "max_tokens": 40} | more)[1])
        return parse_sse(self.curl("GET", made["sse_url"])[1])[0]

    def follow(self, made):
        """A client of a job's stream, and the file that what came is in."""
        came = self.lan.folder / f"came-{made['job_id']}"
        with open(came, "w") as out:
            return subprocess.Popen(self.lan.command("q", "curl", "-sSN", "--cacert", ROOT_CERTIFICATE, "-m", 100, "-H", f"Authorization: Bearer {TOKEN}", self.url + made["sse_url"]), stdout=out), came

    def placed(self, events):
        """The hive on which it ran."""
        words = [d["human"] for _, k, d in events if k == "narration"]
        return next((h for h in ("a", "b", "c") if any(f"host-{h}" in w for w in words if "host-" in w)), None)

    def add(self, name):
        at = ("-a", f"root@{self.lan.machines[name]}")
        how = ("--hive-id", f"host-{name}", "--heartbeat-interval-sec", "1")
        if name == "c":  # both in one
            return self.assertIn("llorch-hive was copied", self.keeper("hive", "add", *at, *how).stderr)
        said = self.keeper("hive", "install", *at).stderr
        self.assertIn("llorch-hive was copied", said)
        self.keeper("hive", "start", *at, *how)

    def wait_hives(self, names, seconds=10):
        wait_for(lambda: self.hives() == {f"host-{n}" for n in names}, seconds)

    def test_0_as_the_document_says(self):
        lines = [re.sub(r"\s+#.*", "", line) for line in (ROOT / "docs/colony.md").read_text().splitlines() if line.startswith("llorch hive") and "attic" in line]
        self.assertEqual([line.split()[2] for line in lines], ["install", "start", "status", "stop", "uninstall"])
        for line in lines:
            words = line.replace("me@attic.lan", f"root@{NET}.2").replace("https://queen.lan:8500", self.url).replace("--token-file token", "--token-file /root/token").split()
            r = subprocess.run(self.lan.command("q", BIN / "llorch", *words[1:]), capture_output=True, text=True, timeout=120)
            self.assertEqual(r.returncode, 0, f"{line}\n{r.stdout}\n{r.stderr}")
            if words[2] == "start":
                self.assertEqual(self.hives(), {"attic"})
            if words[2] == "status":
                self.assertIn("true", r.stdout)
        self.assertEqual([line for n, line, _ in self.lan.processes() if n != "q"], [])

    def test_1_three_machines_join(self):
        for name in "abc":
            self.add(name)
        self.wait_hives("abc")
        said = self.keeper("hive", "install", "-a", f"root@{NET}.2").stderr
        self.assertIn("llorch-hive is there already", said)
        self.assertEqual(self.keeper("hive", "start", "-a", f"root@{NET}.2", "--hive-id", "host-a", ok=False).returncode, 1)
        self.assertIn("RESOURCE_IN_USE", self.keeper("hive", "start", "-a", f"root@{NET}.2", "--hive-id", "another", ok=False).stderr)
        # Nobody holds the colony's token but its queen, and no token stands on a command line or is left in a file that others may read.
        for name in "abc":
            for f in (self.lan.folder / name).rglob("*"):
                if f.is_file() and f.parent.name != "bin":
                    self.assertNotIn(TOKEN.encode(), f.read_bytes(), f)
                    self.assertFalse("token" in f.name and f.stat().st_mode & 0o077, f)
                    self.assertNotEqual(f.name, "join-token", "the one-time token is still there")
        for _, line, _ in self.lan.processes():
            self.assertNotRegex(line, "llorch-(hive|node|join)-|" + TOKEN)
        for f in (self.lan.folder / "q").rglob("*"):
            if f.is_file() and f.parent.name != "hive-tokens":
                self.assertNotRegex(f.read_bytes().decode(errors="replace"), "llorch-(hive|node|join)-[0-9a-f]{48}", f)

    def test_2_load_is_spread(self):
        # Workers are made one after another: who had ended before the third was there would have given its seat to the next.
        order = {"operation": "infer", "model": str(self.slow), "prompt": "x", "max_tokens": 1000, "ignore_eos": True}
        made = [json.loads(self.curl("POST", "/v1/jobs", order)[1]) for _ in range(3)]
        followers = [self.follow(m) for m in made]

        def events():
            return [parse_sse(came.read_text().rpartition("\n\n")[0])[0] for _, came in followers]

        def places():
            return [re.search(r"sending the prompt to \S+ on host-(\w)", str(e)) for e in events()]

        wait_for(lambda: all(places()), 120)
        self.assertEqual([e[-1] for e in events() if e[-1][1] in ("end", "error")], [], "they were to run beside each other")
        self.assertEqual(sorted(p[1] for p in places()), ["a", "b", "c"], "one seat a worker: three requests take three machines")
        for m, (follower, _) in zip(made, followers):
            self.assertEqual(self.curl("DELETE", f"/v1/jobs/{m['job_id']}")[0], 200)
            self.assertEqual(follower.wait(timeout=30), 0)
        r = self.keeper("run", "builtin:haiku", "Write a haiku about tea", "--quiet")
        self.assertEqual(r.stdout.strip().count("\n"), 2, r.stdout)

    def test_3_what_a_hive_s_key_opens(self):
        node = (self.lan.folder / "a/.local/share/llorch/hive/node-token").read_text()
        beat = {"hive_id": "host-b", "url": f"http://{NET}.2:8600", "version": "0", "node": {}, "workers": []}
        status, text = self.curl("POST", "/v1/heartbeat", beat, token=node)
        self.assertEqual((status, json.loads(text)["error"]["code"]), (403, "FORBIDDEN"), "a hive spoke for another")
        for method, path in (("POST", "/v1/jobs"), ("GET", "/v1/status"), ("POST", "/v1/shutdown"), ("POST", "/v1/join-tokens")):
            self.assertEqual(self.curl(method, path, {} if method == "POST" else None, token=node)[0], 403, path)
        self.assertEqual(self.curl("GET", "/v1/capabilities", token=node, url=f"https://{NET}.3:8600")[0], 401, "a hive's key does not open another hive")
        once, root = json.loads(self.curl("POST", "/v1/join-tokens", {})[1])["token"].split(".")
        self.assertEqual(root, json.loads(self.curl("GET", "/v1/ca")[1])["fingerprint"])
        self.assertEqual(self.curl("POST", "/v1/heartbeat", beat, token=once)[0], 403, "a join token is for joining")
        run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", self.lan.folder / "intruder.key")
        request = run("openssl", "req", "-new", "-key", self.lan.folder / "intruder.key", "-subj", "/CN=x")
        joining = {"hive_id": "intruder", "token": "x" * 20, "certificate_request": request}
        self.assertEqual(self.curl("POST", "/v1/hive/join", joining | {"hive_id": "host-a"}, token=once)[0], 409)
        self.assertEqual(self.curl("POST", "/v1/hive/join", joining | {"hive_id": "../x"}, token=once)[0], 400)
        self.assertEqual(self.curl("POST", "/v1/hive/join", joining, token=once)[0], 200)
        self.assertEqual(self.curl("POST", "/v1/hive/join", joining, token=once)[0], 401, "a join token is good once")
        self.assertEqual(self.curl("POST", "/v1/hive/join", joining, token=node)[0], 403)
        self.keeper("hive", "remove", "intruder")
        self.assertIn("HIVE_NOT_FOUND", self.keeper("hive", "remove", "intruder", ok=False).stderr)

    def test_4_hostile_names_run_nothing(self):
        for bad in ("$(touch /root/owned)", "`touch /root/owned`", "-oProxyCommand=touch /root/owned", "x;touch /root/owned", "a\ntouch /root/owned", "root@-x", "../x", "a b"):
            for verb in ("install", "start", "stop", "status", "uninstall"):
                self.assertEqual(self.keeper("hive", verb, f"--address={bad}", ok=False).returncode, 2, (verb, bad))
        for flag in ("--hive-id", "--listen"):
            r = self.keeper("hive", "start", "-a", f"root@{NET}.2", flag, "x$(touch /root/owned)", ok=False)
            self.assertEqual(r.returncode, 2, flag)
        self.assertEqual([f for f in self.lan.folder.rglob("owned")], [])
        r = self.keeper("hive", "status", "-a", f"root@{NET}.99", ok=False)
        self.assertEqual(r.returncode, 1)
        self.assertIn("ssh does not reach", r.stderr)

    def test_5_a_cable_is_cut(self):
        made = json.loads(self.curl("POST", "/v1/jobs", {"operation": "infer", "model": str(self.slow), "prompt": "x", "max_tokens": 1000, "ignore_eos": True, "hive_id": "host-b"})[1])
        follower, came = self.follow(made)
        wait_for(lambda: text_of(parse_sse(came.read_text().rpartition("\n\n")[0])[0]), 60)  # before the first token it would be tried elsewhere
        self.addCleanup(self.lan.cable, "b", "up")
        self.lan.cable("b", "down")
        self.wait_hives("ac", 8)  # three beats of a second, on a machine that is late
        self.assertEqual(self.infer()[-1][1], "end", "the others go on")
        self.assertEqual(follower.wait(timeout=100), 0)
        events = parse_sse(came.read_text())[0]
        self.assertEqual((events[-1][1], events[-1][2].get("code")), ("error", "WORKER_UNHEALTHY"))
        self.assertTrue(text_of(events), "what came before stays delivered")
        self.lan.cable("b", "up")
        self.wait_hives("abc", 10)

    def test_6_a_hive_is_killed_and_one_loses_power(self):
        before = {(n, pid) for n, _, pid in self.lan.processes()}
        self.assertTrue({"a", "b", "c"} <= {n for n, _ in before})
        hive = next(pid for n, line, pid in self.lan.processes() if n == "c" and "llorch-hive" in line)
        os.kill(hive, signal.SIGKILL)
        wait_for(lambda: not [1 for n, _, _ in self.lan.processes() if n == "c"], 5)  # its workers went with it
        self.wait_hives("ab", 8)
        self.lan.power_off("a")
        self.wait_hives("b", 8)
        self.assertEqual(self.placed(self.infer()), "b")
        self.lan.power_on("a")
        for name in "ac":
            wait_for(lambda: self.keeper("hive", "start", "-a", f"root@{self.lan.machines[name]}", "--hive-id", f"host-{name}", "--heartbeat-interval-sec", "1", ok=False).returncode == 0, 20)
        self.wait_hives("abc")

    def test_7_the_queen_is_killed_and_comes_back(self):
        queen = next(pid for n, line, pid in self.lan.processes() if n == "q" and "llorch-queen" in line)
        os.kill(queen, signal.SIGKILL)
        self.queen.wait()
        type(self).start_queen()
        self.wait_hives("abc", 15)  # by the keys that she gave them before
        self.assertEqual(self.infer()[-1][1], "end")
        self.keeper("hive", "list")

    def test_8_and_all_go(self):
        self.keeper("hive", "stop", "-a", f"root@{NET}.2")
        self.assertNotIn("a", {n for n, _, _ in self.lan.processes()})
        for name in "abc":
            self.keeper("hive", "uninstall", "-a", f"root@{self.lan.machines[name]}", "--hive-id", f"host-{name}")
            left = [f for f in (self.lan.folder / name).rglob("*") if f.is_file() and ".ssh" not in f.parts and ".cache" not in f.parts]
            self.assertEqual(left, [])
        self.assertEqual([line for n, line, _ in self.lan.processes() if n != "q"], [])
        self.assertEqual(list((self.lan.folder / "q/.local/share/llorch/hive-tokens").iterdir()), [])
        wait_for(lambda: self.hives() == set(), 5)
        audit = run(BIN / "llorch", "audit", "query", self.lan.folder / "q/audit", "--json")
        kinds = {json.loads(line)["event"]["event_type"] for line in audit.splitlines()}
        self.assertTrue({"node_registered", "node_deregistered", "authorization_denied"} <= kinds, kinds)
        self.queen.send_signal(signal.SIGTERM)


if __name__ == "__main__":
    main()
