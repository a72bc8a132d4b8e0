"""Several queens on one etcd, of which something fails: the store, another queen, or a hive at the wrong moment."""
import os
import shutil
import signal
import subprocess
import time
import unittest
import urllib.parse

from colony import BIN, main, wait_for
from fleet_store_test import WHO, FleetCase

NO_JOB = "/v1/jobs/job-00000000-0000-4000-8000-000000000000"


@unittest.skipIf(shutil.which("etcdctl") is None, "not run: no etcdctl on this machine (Debian package etcd-client)")
class FleetFaults(FleetCase):
    def etcdctl(self, *arguments):
        r = subprocess.run([str(x) for x in ("etcdctl", "--endpoints", f"127.0.0.1:{self.etcd.port}", *arguments)], capture_output=True, text=True, env=os.environ | {"ETCDCTL_API": "3"}, timeout=30)
        self.assertEqual(r.returncode, 0, r.stderr)
        return r.stdout

    def opens(self, c, key):
        return self.ask(c, "GET", "/v1/models", headers={"Authorization": "Bearer " + key})[0]

    def answers(self, c):
        wait_for(lambda: self.status(c)["fleet"]["healthy"], 30)

    def test_a_key_without_a_name_is_revoked_as_any_other(self):
        self.both()
        key = self.json_of(self.a, "POST", "/v1/keys", {"scope": "infer"})["key"]
        wait_for(lambda: self.json_of(self.b, "GET", "/v1/keys")["keys"], 10)  # a wrong key that is shown often is slowed down
        self.assertEqual(self.opens(self.b, key), 200)
        label = self.json_of(self.b, "GET", "/v1/keys")["keys"][0]["key"]
        self.assertEqual(self.ask(self.b, "DELETE", "/v1/keys/" + urllib.parse.quote(label))[0], 200)
        self.assertEqual(self.opens(self.b, key), 401)
        wait_for(lambda: self.opens(self.a, key) == 401, 2)

    def test_a_shared_key_that_is_named_as_a_hive_does_not_speak_for_it(self):
        self.both()
        for name in ("hive:red", "join"):
            key = self.json_of(self.a, "POST", "/v1/keys", {"name": name, "scope": "node"})["key"]
            beat = {"hive_id": "red", "url": "http://127.0.0.1:9", "version": "1", "node": {}, "workers": []}
            status, answer = self.ask(self.a, "POST", "/v1/heartbeat", beat, {"Authorization": "Bearer " + key})
            self.assertEqual((status, answer["error"]["message"]), (403, "this key belongs to no hive: the hive must join again, with a join token"))

    def test_after_a_backup_is_restored_queens_hold_what_it_has(self):
        self.both("--coord-grace", "300")
        aliases = lambda c: {n for n in self.json_of(c, "GET", "/v1/aliases")["aliases"] if n.startswith("x")}
        make = lambda c, n: self.job(c, {"operation": "model_alias", "name": n, "model": "builtin:haiku"})
        make(self.a, "x0")
        snapshot = self.etcd.folder / "snapshot"
        self.etcdctl("snapshot", "save", snapshot)
        for i in range(1, 40):  # far ahead of what is restored, and of what begins again
            make(self.a, f"x{i}")
        self.etcd.kill()
        shutil.rmtree(self.etcd.folder / "m")
        peer = f"http://127.0.0.1:{self.etcd.peer}"
        self.etcdctl("snapshot", "restore", snapshot, "--name", "m", "--data-dir", self.etcd.folder / "m", "--initial-cluster", f"m={peer}", "--initial-advertise-peer-urls", peer)
        self.etcd.start()
        for c in (self.a, self.b):
            wait_for(lambda c=c: aliases(c) == {"x0"}, 15)
        make(self.a, "xnew")
        wait_for(lambda: aliases(self.b) == {"x0", "xnew"}, 2)

    def test_a_hive_is_removed_when_the_store_says_so(self):
        self.both("--coord-grace", "300")
        hive = self.hive("red", self.a)
        wait_for(lambda: "red" in self.hives(self.b))
        wait_for(lambda: "seen/red" in self.etcdctl("get", "--keys-only", "--prefix", "/llorch/data/"))
        hive.terminate()
        hive.wait(20)
        known = lambda c: {h["id"] for h in self.status(c)["offline"]} | self.hives(c).keys()
        self.etcd.kill()
        for c in (self.a, self.b):
            status, answer = self.ask(c, "DELETE", "/v1/hives/red")
            self.assertEqual((status, answer["error"]["code"]), (503, "STORE_UNAVAILABLE"))
            self.assertEqual(known(c), {"red"})
        self.etcd.start()
        self.answers(self.a)
        self.assertEqual(self.ask(self.a, "DELETE", "/v1/hives/red")[0], 200)
        self.assertEqual(known(self.a), set())
        wait_for(lambda: known(self.b) == set(), 2)
        self.assertNotIn("red", self.etcdctl("get", "--keys-only", "--prefix", "/llorch/data/"))

    def test_a_hive_that_dies_while_the_store_is_away_dies_everywhere(self):
        self.both("--coord-grace", "300")
        hive = self.hive("red", self.a)
        wait_for(lambda: "red" in self.hives(self.b))
        hive.kill()
        hive.wait()
        time.sleep(3)  # so that the store is away for less than a lease, and still while the queen gives the hive up
        self.etcd.kill()
        wait_for(lambda: not self.hives(self.a), 20)
        time.sleep(3)
        self.assertIn("red", self.hives(self.b))
        self.etcd.start()
        wait_for(lambda: not self.hives(self.b), 15)

    def test_a_key_of_a_keys_file_that_was_copied_is_revoked_in_both(self):
        file = self.a.home / "keys"
        self.queen(self.a, "--keys-file", file, store=False)
        key = self.json_of(self.a, "POST", "/v1/keys", {"name": "laptop", "scope": "infer"})["key"]
        self.end(self.a)
        moved = self.migrate(self.a, "--keys-file", file, "--to", self.etcd.url)
        self.assertEqual(moved.returncode, 0, moved.stderr)
        self.queen(self.a, "--keys-file", file)
        self.queen(self.b)
        self.assertEqual([k["name"] for k in self.json_of(self.a, "GET", "/v1/keys")["keys"]], ["laptop"], "one key, one line")
        self.assertEqual((self.opens(self.a, key), self.opens(self.b, key)), (200, 200))
        self.assertEqual(self.ask(self.a, "DELETE", "/v1/keys/laptop")[0], 200)
        self.assertEqual(self.opens(self.a, key), 401)
        wait_for(lambda: self.opens(self.b, key) == 401, 2)
        self.assertEqual(self.json_of(self.a, "GET", "/v1/keys")["keys"], [])

    def test_a_queen_that_stands_still_is_not_waited_for(self):
        self.both()
        wait_for(lambda: len(self.status(self.a)["fleet"]["queens"]) == 2)
        os.kill(self.queens[self.b].pid, signal.SIGSTOP)
        try:
            begun = time.monotonic()
            status, answer = self.ask(self.a, "GET", NO_JOB)
            self.assertEqual((status, answer["error"]["code"]), (404, "JOB_NOT_FOUND"))
            self.assertIn(f"127.0.0.1:{self.b.queen_port}", answer["error"]["message"])
            self.assertLess(time.monotonic() - begun, 25, "five seconds, on a busy machine; it was minutes")
        finally:
            os.kill(self.queens[self.b].pid, signal.SIGCONT)

    def test_what_one_queen_refuses_is_not_the_answer(self):
        file = self.a.home / "keys"
        self.queen(self.a, "--keys-file", file)
        self.queen(self.b)
        wait_for(lambda: len(self.status(self.a)["fleet"]["queens"]) == 2)
        r = subprocess.run([str(x) for x in (BIN / "llorch", "key", "create", "--name", "laptop", "--scope", "infer", "--keys-file", file)], capture_output=True, text=True, env=self.a.env, timeout=30)
        key = next(w for w in r.stdout.split() if w.startswith("llorch-"))
        status, answer = self.ask(self.a, "GET", NO_JOB, headers={"Authorization": "Bearer " + key})
        self.assertEqual((status, answer["error"]["code"]), (404, "JOB_NOT_FOUND"))
        self.assertIn(f"127.0.0.1:{self.b.queen_port} (401)", answer["error"]["message"])

    def test_what_a_queen_had_becomes_the_fleets_as_a_whole_in_the_end(self):
        alone = self.queen(self.a, store=False)
        self.job(self.a, {"operation": "model_alias", "name": "poet", "model": "builtin:haiku"})
        self.job(self.a, {"operation": "model_pin", "model": "builtin:haiku"})
        alone.terminate()
        alone.wait(20)
        role = ("role", "grant-permission", "most", "readwrite")
        for command in ("user add root:r", "user add queen:q", "role add root", "role add most", "user grant-role root root", "user grant-role queen most", "role grant-permission most read --prefix /llorch/"):
            self.etcdctl(*command.split())
        for first, end in (("/llorch/", "/llorch/data/pins/"), ("/llorch/data/pins0", "/llorch0")):  # all but pins
            self.etcdctl(*role, first, end)
        self.etcdctl("auth", "enable")
        user = self.a.home / "user"
        user.write_text("queen:q")
        user.chmod(0o600)
        as_root = lambda *arguments: self.etcdctl("--user", "root:r", *arguments)
        has = lambda key: bool(as_root("get", "--prefix", "/llorch/data/" + key))
        self.queen(self.a, "--coord-user-file", user)
        time.sleep(3)
        self.assertEqual((has("aliases/poet"), has("pins/"), has("house")), (True, False, False), "not done yet")
        as_root(*role, "--prefix", "/llorch/")
        wait_for(lambda: has("pins/") and has("house"), 20)


if __name__ == "__main__":
    main()
