"""What goes wrong when a person sets up a colony from docs/colony.md alone, and what they are told then (needs root)."""
import json
import os
import re
import shutil
import signal
import subprocess
import unittest

from colony import BIN, ROOT, main, wait_for
from lan import NET, WHY_NOT, Lan
from machines import HOME, TOKEN, Machines, Person


@unittest.skipIf(WHY_NOT, f"not run: {WHY_NOT}")
class Newcomer(Person, Machines):
    """The queen's machine, two that join, and one that does not."""
    names = ("q", "a", "b", "c")

    def member(self, machine="b"):
        """A machine that has joined, with its hive running."""
        if any(n == machine and "llorch-hive" in line for n, line, _ in self.lan.processes()):
            wait_for(lambda: machine in self.hives(), 15)  # the queen was started anew
        self.joined(machine)
        return self.home[machine] / HOME / "hive-by-hand"

    def test_h_a_failed_join_changes_nothing(self):
        folder, words = self.member(), self.invited()
        self.bare("hive", "stop", machine="b")
        before = {f: (folder / f).read_bytes() for f in ("start", "node-token", "token", "tls/own.pem", "tls/root.pem")}
        secret, root = words[4].split(".")
        unknown = f"llorch-join-{'0' * 48}"
        for url, token, code in (("quen.invalid:8500", words[4], 1), (f"{NET}.1:8500", f"{unknown}.{root}", 1), (f"{NET}.1:8500", f"{secret}.{'0' * 64}", 1), (f"{NET}.1:8500", "garbled", 2)):
            r = self.bare("hive", "join", url, token, "--hive-id", "b", machine="b", code=code)
            self.assertEqual({f: (folder / f).read_bytes() for f in before}, before, (url, token))
            self.assertFalse((folder / "join-token").exists() or (folder / "start.new").exists(), r.stderr)
            if code == 1:
                self.assertIn(f"still belongs to the colony of {self.url}", r.stderr)
        self.assertIn(f"in the colony of {self.url}", self.bare("hive", "start", machine="b").stderr)
        wait_for(lambda: "b" in self.hives(), 15)

    def test_i_a_machine_that_has_joined_nothing_is_told_so(self):
        self.assertEqual(self.bare("hive", "status", machine="c").stderr, "")
        for tried in (False, True):
            if tried:
                r = self.bare("hive", "join", "quen.invalid:8500", self.invited()[4], machine="c", code=1)
                self.assertNotIn("/bin/sh", r.stderr)
            r = self.bare("hive", "start", machine="c", code=1)
            self.assertIn("has joined no colony", r.stderr)
            self.assertIn("`llorch hive invite`", r.stderr)
            self.assertEqual([line for n, line, _ in self.lan.processes() if n == "c"], [], "a queen was left")
        # A member whose key is gone is no founder of a colony either.
        folder = self.member()
        self.bare("hive", "stop", machine="b")
        start = (folder / "start").read_bytes()
        (folder / "node-token").rename(folder / "kept")
        try:
            r = self.bare("hive", "start", machine="b", code=1)
            self.assertIn("must join again", r.stderr)
            self.assertIn("--hive-id b", r.stderr)
            self.assertEqual((folder / "start").read_bytes(), start)
            self.assertEqual([line for n, line, _ in self.lan.processes() if n == "b"], [])
        finally:
            (folder / "kept").rename(folder / "node-token")
        self.bare("hive", "start", machine="b")

    def test_j_a_queen_of_the_network_is_woken_as_such_or_not_at_all(self):
        kept = self.home["q"] / HOME / "queen-start"
        how = kept.read_text() if kept.exists() else ""
        kept.unlink(missing_ok=True)
        type(self).stop_queen()
        self.addCleanup(lambda: (type(self).stop_queen(), type(self).start_queen()))
        r = self.bare("hive", "invite", code=2)
        self.assertIn("has served other machines", r.stderr)
        self.assertEqual(r.stdout, "")
        self.assertEqual([line for n, line, _ in self.lan.processes() if n == "q"], [])
        kept.write_text(how)
        kept.chmod(0o600)
        r = self.bare("hive", "invite", "--hive-id", "c")
        words = r.stdout.split()
        self.assertEqual(words[:4], ["llorch", "hive", "join", f"{NET}.1:8500"])
        joined = self.at("c", BIN / "llorch", *words[1:5], "--hive-id", "c", "--heartbeat-interval-sec", "1")
        self.assertEqual(joined.returncode, 0, joined.stderr)
        wait_for(lambda: "c" in self.hives(), 15)
        self.bare("hive", "stop", machine="c")
        self.bare("queen", "stop")
        # A command that only wants a queen starts her as she was, too, and takes her along.
        r = self.bare("run", "builtin:haiku", "tea", "--max-tokens", 3)
        self.assertIn("as she was started last", r.stderr)
        self.assertIn(f"the queen is awake, at {self.url}", r.stderr)
        self.assertEqual([line for n, line, _ in self.lan.processes() if n == "q"], [])
        self.bare("queen", "start")
        self.bare("queen", "stop")
        r = self.bare("queen", "start", "--queen-flag=--nosuch", code=1)
        self.assertIn("--nosuch", r.stderr.splitlines()[-2], "why she ended")
        # Her folder is free when the command has ended, and one for this machine alone invites nobody.
        self.bare("queen", "start", "--queen-flag=--listen=127.0.0.1")
        r = self.bare("hive", "invite", code=2)
        self.assertIn("listens for this machine only", r.stderr)
        self.bare("queen", "stop")

    def test_l_a_hive_is_asked_itself_as_the_document_says(self):
        self.member()
        page = (ROOT / "docs/colony.md").read_text()
        commands = re.findall(r"`(llorch [^`]*--direct[^`]*)`", page)
        self.assertTrue([c for c in commands if "https://127.0.0.1:8600" in c], commands)
        for command in commands:
            words = [w.replace("~", "/root").replace("ID", "worker-cpu-8601") for w in command.split()[1:]]
            if "logs" in words or "http://host" in command:
                continue
            r = self.bare(*words, machine="b")
            self.assertIn("worker_id", r.stdout, command)
        self.bare("worker", "list", "--direct=https://localhost:8600", machine="b")

    def test_m_a_machine_that_has_joined_knows_its_queen(self):
        self.member()
        (self.home["b"] / "mine").write_text(TOKEN)
        (self.home["b"] / "mine").chmod(0o600)
        for words in (["hive", "list"], ["status"], ["run", "builtin:haiku", "tea", "--quiet"]):
            r = self.bare(*words, machine="b", code=1)
            self.assertIn("MISSING_API_KEY", r.stderr, words)
            self.assertIn(f"belongs to the colony of {self.url}", r.stderr)
            self.assertIn("--token-file", r.stderr)
        self.assertRegex(self.bare("hive", "list", "--token-file", "/root/mine", machine="b").stdout, r"(?m)^b ")
        r = self.at("b", "env", "LLORCH_API_TOKEN_FILE=/root/mine", BIN / "llorch", "doctor")
        self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
        self.bare("run", "builtin:haiku", "tea", "--quiet", "--token-file", "/root/mine", machine="b")
        self.assertEqual([line for n, line, _ in self.lan.processes() if n == "b" and "llorch-queen" in line], [])
        # What is said explicitly wins.
        self.assertIn("asleep", self.bare("status", "--queen", "http://127.0.0.1:8500", machine="b").stdout)

    def test_n_a_hive_that_its_queen_does_not_take_says_so(self):
        self.member()
        self.assertIn("taken", self.bare("hive", "status", machine="b").stdout)
        self.bare("ca", "revoke", "b")
        wait_for(lambda: re.search("hive b.*offline", self.bare("status").stdout), 10)
        self.assertRegex(self.bare("status").stdout, "hive b .*were revoked")
        r = self.bare("run", "builtin:haiku", "tea", "--hive", "b", "--quiet", code=1)
        self.assertIn("were revoked", r.stderr)
        self.assertNotIn("quantization", r.stderr)
        self.bare("hive", "stop", machine="b")
        r = self.bare("hive", "start", machine="b", code=1)
        for words in ("was revoked", "`llorch hive invite --hive-id b`"):
            self.assertIn(words, r.stderr)
        self.assertIn("not taken", self.bare("hive", "status", machine="b").stdout)
        wait_for(lambda: re.search("was revoked.*llorch hive invite --hive-id b", self.hive_log("b")), 10)
        self.bare("hive", "stop", machine="b")
        self.member()
        self.assertIn("joined again", self.bare("ca", "show").stdout)
        # Removed, and a queen that cannot be reached.
        self.bare("hive", "stop", machine="b")
        self.bare("hive", "remove", "b")
        self.assertIn("llorch hive invite --hive-id b", self.bare("hive", "start", machine="b", code=1).stderr)
        self.bare("hive", "stop", machine="b")
        self.lan.cable("q", "down")
        try:
            self.assertIn("does not answer", self.bare("hive", "start", "--wait", 40, machine="b").stderr)
        finally:
            self.lan.cable("q", "up")
        self.bare("hive", "stop", machine="b")

    def test_o_words_for_tokens_and_addresses_that_are_wrong(self):
        words = self.invited()
        secret, root = words[4].split(".")
        other = root[:-4] + ("0000" if root[-4:] != "0000" else "1111")
        for token, code, why in (("hello", 2, "no whole join token"), ("", 2, "no whole join token"), (words[4] + "a", 2, "no whole join token"), (secret, 2, "its end is missing"), (f"{secret}.{other}", 1, "somebody is in the middle")):
            r = self.bare("hive", "join", f"{NET}.1:8500", token, "--hive-id", "c", machine="c", code=code)
            self.assertIn(why, r.stderr)
        other_s = self.invited("--hive-id", "other")[4]
        self.assertIn("for the hive other", self.bare("hive", "join", f"{NET}.1", other_s, "--hive-id", "c3", machine="c", code=1).stderr)
        self.assertIn("join_refused", (self.lan.folder / "queen.log").read_text() + (self.home["q"] / HOME / "queen.log").read_text())
        self.bare("hive", "join", f"{NET}.1", words[4], "--hive-id", "cellar", "--heartbeat-interval-sec", 1, machine="c")
        wait_for(lambda: "cellar" in self.hives(), 15)
        self.bare("hive", "stop", machine="c")

    def test_p_the_other_scheme_is_told_and_no_key_is_shown(self):
        (self.home["c"] / "token").write_text(TOKEN)
        (self.home["c"] / "token").chmod(0o600)
        r = self.bare("hive", "list", "--queen", self.url.replace("https", "http"), "--insecure-http", "--token-file", "/root/token", machine="c", code=2)
        self.assertIn("speaks https", r.stderr)
        self.assertNotIn("asleep", r.stderr)
        # To whoever listens there, nothing is said that is a secret.
        script = "import socket; s=socket.create_server(('127.0.0.1', 8777)); open('/root/up','w').close()\nwhile 1:\n c,_=s.accept(); d=c.recv(65536); open('/root/heard','ab').write(d); c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\n{}' if b'/health' in d else b'HTTP/1.1 404 No\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\n{}'); c.close()"
        listener = subprocess.Popen(self.lan.command("c", "python3", "-c", script))
        self.addCleanup(listener.wait)
        self.addCleanup(lambda: [os.kill(int(pid), signal.SIGKILL) for pid in Lan.children(listener.pid)])
        wait_for((self.home["c"] / "up").exists, 10)
        self.bare("queen", "status", "--queen", "http://127.0.0.1:8777", "--token-file", "/root/token", machine="c")
        heard = (self.home["c"] / "heard").read_text()
        self.assertIn("GET /health", heard)
        self.assertNotIn(TOKEN, heard)

    def test_q_keys_and_files(self):
        key = self.at("q", BIN / "llorch", "key", "create", "--name", "laptop").stdout.strip()
        (self.home["a"] / "laptop").write_text(key)
        (self.home["a"] / "laptop").chmod(0o600)
        there = ("--queen", self.url, "--ca-file", "/root/root.pem", "--token-file", "/root/laptop")
        self.assertIn("queen ", self.bare("status", *there, machine="a").stdout)
        r = self.bare("hive", "list", *there, machine="a", code=1)
        self.assertRegex(r.stderr, "FORBIDDEN.*scope admin")
        self.assertIn("key create --scope", r.stderr)
        r = self.bare("ca", "export", "/nosuch/x.pem", code=1)
        self.assertNotIn("is the queen running", r.stderr)
        r = self.bare("status", "--queen", f"https://{NET}.1:8501", "--ca-file", "/root/root.pem", machine="a")
        self.assertIn("does not answer", r.stdout)
        r = self.bare("hive", "list", "--queen", f"https://{NET}.1:8501", "--ca-file", "/root/root.pem", machine="a", code=1)
        self.assertNotIn("no-autostart", r.stderr)
        self.bare("ca", "export", "/root/exported.pem")
        shutil.copy(self.home["q"] / "exported.pem", self.home["c"] / "exported.pem")
        (self.home["c"] / "exported.pem").chmod(0o600)
        self.bare("ca", "import", "/root/exported.pem", "--data-dir", "/root/second", machine="c")
        self.assertIn("fingerprint", self.bare("ca", "show", "--data-dir", "/root/second", machine="c").stdout)

    def test_z_the_printed_command_works_for_plain_http_too(self):
        (self.home["c"] / "token").write_text(TOKEN)
        (self.home["c"] / "token").chmod(0o600)
        own = self.at("c", "hostname").stdout.strip()
        queen = subprocess.Popen(self.lan.command("c", BIN / "llorch-queen", "--listen", "0.0.0.0", "--port", "8555", "--data-dir", "/root/other", "--token-file", "/root/token", "--insecure-http"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(queen.wait)
        self.addCleanup(lambda: [os.kill(pid, signal.SIGKILL) for _, line, pid in self.lan.processes() if "/root/other" in line])
        wait_for(lambda: self.at("c", "curl", "-sf", "http://127.0.0.1:8555/health").returncode == 0, 20)
        invite = ("hive", "invite", "--queen", "http://127.0.0.1:8555", "--token-file", "/root/token")
        words = self.bare(*invite, machine="c").stdout.split()
        self.assertEqual(words[:4] + words[5:], ["llorch", "hive", "join", f"http://{own}:8555", "--insecure-http"])
        self.assertEqual(json.loads(self.bare(*invite, "--json", machine="c").stdout.splitlines()[-1])["command"].split()[:4], words[:4])
        # Every machine of this test has one name: here it is the other's.
        (self.home["b"] / "hosts").write_text(f"{NET}.4 {own}\n127.0.0.1 localhost\n")
        r = self.at("b", "unshare", "-m", "sh", "-c", f"mount --bind /root/hosts /etc/hosts; {BIN}/llorch {' '.join(words[1:])} --hive-id b2")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.bare("hive", "stop", machine="b")
        # Whoever is asked by the wrong scheme says so, and a join too.
        r = self.bare("status", "--queen", f"https://{NET}.4:8555", machine="b", code=2)
        self.assertIn("speaks plain http", r.stderr)
        self.bare("hive", "stop", machine="a")
        r = self.bare("hive", "join", f"{NET}.4:8555", self.invited()[4], machine="a", code=1)
        self.assertIn("speaks http:// only", r.stderr)


if __name__ == "__main__":
    main()
