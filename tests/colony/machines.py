"""A queen on a machine of a test's own LAN, and others that have nothing but our programs and her root (needs root)."""
import json
import os
import signal
import subprocess
import time
import unittest

from colony import BIN, wait_for
from lan import NET, ROOT_CERTIFICATE, Lan

TOKEN = "planted-token-of-the-operator"
HOME = ".local/share/llorch"


class Machines(unittest.TestCase):
    """A queen on machine q, and others that have nothing but our programs and her root."""
    names, queen_flags = ("q", "a"), ()

    @classmethod
    def setUpClass(cls):
        cls.lan = Lan(cls.names)
        cls.addClassCleanup(cls.lan.close)
        cls.home = {n: cls.lan.folder / n for n in cls.names}
        (cls.home["q"] / "token").write_text(TOKEN)
        (cls.home["q"] / "token").chmod(0o600)
        cls.url = f"https://{NET}.1:8500"
        cls.start_queen()
        cls.addClassCleanup(cls.stop_queen)
        cls.root = cls.at("q", BIN / "llorch", "ca", "show", "--pem").stdout
        for home in cls.home.values():
            (home / "root.pem").write_text(cls.root)

    @classmethod
    def start_queen(cls):
        log = open(cls.lan.folder / "queen.log", "a")
        cls.queen = subprocess.Popen(cls.lan.command("q", BIN / "llorch-queen", "--listen", f"{NET}.1", "--token-file", "/root/token", "--heartbeat-interval-sec", "1", "--log-format", "json", *cls.queen_flags), stdout=log, stderr=log)

        def up():
            assert cls.queen.poll() is None, f"the queen ended with {cls.queen.poll()}"
            return cls.ask("GET", "/health", machine="q", root=ROOT_CERTIFICATE) is not None

        wait_for(up, 30)

    @classmethod
    def stop_queen(cls):
        for machine, line, pid in cls.lan.processes():
            if machine == "q" and "llorch-queen" in line:
                os.kill(pid, signal.SIGKILL)
        cls.queen.wait()

    @classmethod
    def at(cls, machine, *command, seconds=120):
        return subprocess.run(cls.lan.command(machine, *command), capture_output=True, text=True, timeout=seconds)

    @classmethod
    def ask(cls, method, path, body=None, token=TOKEN, machine="a", root="/root/root.pem", seconds=60):
        """(status, text), or None when nobody answers or is believed."""
        data = [] if body is None else ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        r = cls.at(machine, "curl", "-sS", "--cacert", root, "-m", seconds, "-X", method, "-H", f"Authorization: Bearer {token}", "-w", "\n%{http_code}", *data, cls.url + path)
        if r.returncode:
            return None
        text, status = r.stdout.rsplit("\n", 1)
        return int(status), text

    def json_of(self, *arguments, **more):
        return json.loads(self.ask(*arguments, **more)[1])

    def hives(self):
        return {h["id"] for h in self.json_of("GET", "/v1/status", machine="q")["hives"]}

    def invited(self):
        """Words of the command that a person types on another machine."""
        r = self.at("q", BIN / "llorch", "hive", "invite", "--queen", self.url, "--token-file", "/root/token")
        self.assertEqual(r.returncode, 0, r.stderr)
        words = r.stdout.split()
        self.assertEqual(words[:3], ["llorch", "hive", "join"], r.stdout)
        return words

    def join(self, machine, words=None):
        return self.at(machine, BIN / "llorch", *(words or self.invited())[1:], "--hive-id", machine, "--heartbeat-interval-sec", "1")

    def hive_log(self, machine):
        return (self.home[machine] / HOME / "hive-by-hand/hive.log").read_text(errors="replace")

    def folder(self, machine):
        return next(f.parent.parent for f in (self.home[machine] / HOME).rglob("tls/own.pem"))


class Person:
    """What a person types who has read docs/colony.md and nothing else: without addresses on the queen's machine."""

    def bare(self, *words, machine="q", code=0):
        begin = time.monotonic()
        r = self.at(machine, BIN / "llorch", *words, *(("--token-file", "/root/token") if machine == "q" else ()))
        self.assertEqual(r.returncode, code, (words, r.stdout, r.stderr))
        r.seconds = time.monotonic() - begin
        return r

    def invited(self, *more):
        return self.bare("hive", "invite", *more).stdout.split()

    def own(self):
        return self.at("q", "hostname").stdout.strip()

    def joined(self, machine):
        if machine not in self.hives():
            self.assertEqual(self.join(machine, self.invited("--hive-id", machine)[:5]).returncode, 0)
            wait_for(lambda: machine in self.hives(), 15)
