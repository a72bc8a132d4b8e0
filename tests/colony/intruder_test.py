"""What a stolen key, or a machine that was let in, opens in a colony over TLS: machines in network namespaces (needs root)."""
import json
import re
import shutil
import subprocess
import unittest

from colony import main, wait_for
from lan import NET, WHY_NOT
from tls_test import COLONY_URL, TO_QUEEN, TOKEN, Machines

REQUEST = "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:{} -nodes -keyout /root/x.key -subj /CN=x 2>/dev/null"


@unittest.skipIf(WHY_NOT, f"not run: {WHY_NOT}")
class Intruder(Machines):
    names = ("q", "a", "m")

    def setUp(self):
        if "a" not in self.hives():
            r = self.join("a")
            self.assertEqual(r.returncode, 0, r.stderr)
            wait_for(lambda: "a" in self.hives(), 15)

    def secret(self, name):
        return (self.folder("a") / name).read_text().strip()

    def post(self, machine, path, body, token, certificate=None, to_queen=TO_QUEEN, url=COLONY_URL):
        """(status, answer); `certificate`: a file that has its key, too."""
        shown = ("--cert", certificate, "--key", certificate) if certificate else ()
        r = self.at(machine, "curl", "-sS", *to_queen, *shown, "-H", f"Authorization: Bearer {token}", "-H", "Content-Type: application/json", "-d", json.dumps(body), "-w", "\n%{http_code}", url + path)
        self.assertEqual(r.returncode, 0, r.stderr)
        text, status = r.stdout.rsplit("\n", 1)
        return int(status), json.loads(text)

    def request(self, machine, curve="P-256"):
        return self.at(machine, "sh", "-c", REQUEST.format(curve)).stdout

    def invitation(self):
        return self.invited()[4].split(".")[0]

    def infer(self):
        made = self.json_of("POST", "/v1/jobs", {"operation": "infer", "model": "builtin:haiku", "prompt": "x", "hive_id": "a", "max_tokens": 3}, machine="q")
        self.assertIn("event: end", self.ask("GET", made["sse_url"], machine="q")[1])

    def test_a_hive_s_token_opens_its_workers_on_its_own_machine_only(self):
        self.infer()
        port = next(w["port"] for w in self.json_of("GET", "/v1/status", machine="q")["workers"] if w["hive_id"] == "a")
        shutil.copy(self.folder("a") / "tls/own.pem", self.home["m"] / "stolen.pem")
        name = "a.hive.llorch.internal"
        own = ("--cert", "/root/stolen.pem", "--key", "/root/stolen.pem", "--connect-to", f"{name}:{port}:{NET}.2:{port}", "-H", f"Host: {NET}.2:{port}")

        def ask(machine, path, *more, host=f"{NET}.2"):
            body = ("-H", "Content-Type: application/json", "-d", json.dumps({"model": "builtin:haiku", "messages": [{"role": "user", "content": "x"}], "max_tokens": 3})) if "chat" in path else ()
            return self.at(machine, "curl", "-sS", "-k", "-H", f"Authorization: Bearer {self.secret('token')}", *more, *body, f"https://{host}:{port}{path}").stdout

        for path in ("/v1/info", "/v1/models", "/v1/inference", "/v1/feed", "/v1/chat/completions"):
            self.assertIn("opened by its queen alone", ask("m", path), path)
        self.assertIn("no queen's", ask("m", "/v1/info", *own, host=name))
        self.assertIn("choices", ask("a", "/v1/chat/completions"))
        self.infer()

    def test_who_joins_names_no_address_of_the_queen_s(self):
        token = self.invitation()
        joining = {"hive_id": "m", "token": "what-opens-hive-m-is-this", "certificate_request": self.request("m")}
        for url in ("https://127.0.0.1:9999", "https://localhost:9999", f"https://{NET}.1:9999", "https://[::1]:9999", "https://169.254.169.254"):
            status, said = self.post("m", "/v1/hive/join", joining | {"url": url}, token)
            self.assertEqual((status, said["error"]["code"]), (403, "FORBIDDEN"), url)
        status, said = self.post("m", "/v1/hive/join", joining | {"url": f"https://{NET}.3:8600"}, token)
        self.assertEqual(status, 200, said)
        (self.home["m"] / "m.pem").write_text((self.home["m"] / "x.key").read_text() + said["certificate"])
        for url in ("http://127.0.0.1:9999", f"http://{NET}.1:9999", "https://127.0.0.1:9999"):
            for hive, worker in ((url, f"https://{NET}.3:8601"), (f"https://{NET}.3:8600", url)):
                beat = {"hive_id": "m", "url": hive, "version": "0", "revision": "1", "node": {}, "workers": [{"worker_id": "w", "uri": worker, "model_ref": "builtin:haiku", "device": "cpu", "kind": "cpu", "state": "ready", "pid": 1, "port": 8601}]}
                self.assertEqual(self.post("m", "/v1/heartbeat", beat, said["node_token"], "/root/m.pem")[0], 403, (hive, worker))

    def test_a_certificate_never_names_the_queen_s_addresses(self):
        # As through a forwarder on her machine.
        shutil.copy(self.folder("a") / "tls/own.pem", self.home["q"] / "a.pem")
        status, said = self.post("q", "/v1/hive/certificate", {"hive_id": "a", "certificate_request": self.request("q")}, self.secret("node-token"), "/root/a.pem")
        self.assertEqual(status, 200, said)
        names = lambda made: set(re.findall(r"(?:DNS|URI|IP Address):[^,\s]+", subprocess.run(["openssl", "x509", "-noout", "-ext", "subjectAltName"], input=made, capture_output=True, text=True, check=True).stdout))
        self.assertEqual(names(said["certificate"]), {"URI:llorch:hive:a", "DNS:a.hive.llorch.internal"})
        joining = {"hive_id": "through", "token": "what-opens-it-is-this-text", "certificate_request": self.request("q"), "url": f"https://{NET}.1:8600"}
        status, said = self.post("q", "/v1/hive/join", joining, self.invitation())
        self.assertEqual(status, 200, said)
        self.assertEqual(names(said["certificate"]), {"URI:llorch:hive:through", "DNS:through.hive.llorch.internal"})

    def test_nothing_is_verified_for_who_may_not_join_nor_any_but_the_usual_key(self):
        joining = lambda curve: {"hive_id": "z", "token": "what-opens-hive-z-is-this", "certificate_request": self.request("m", curve), "url": f"https://{NET}.3:8600"}
        status, said = self.post("m", "/v1/hive/join", joining("P-384"), self.secret("node-token"))
        self.assertEqual(status, 403, said)
        self.assertIn("joining takes a join token", said["error"]["message"])
        token = self.invitation()
        status, said = self.post("m", "/v1/hive/join", joining("P-384"), token)
        self.assertEqual(status, 400, said)
        self.assertIn("P-256", said["error"]["message"])
        self.assertEqual(self.post("m", "/v1/hive/join", joining("P-256"), token)[0], 200, "and the token is good still")

    def test_a_name_that_the_colony_knows_is_not_a_newcomer_s(self):
        beat = {"hive_id": "ophive", "url": f"https://{NET}.3:8600", "version": "0", "revision": "1", "node": {}, "workers": []}
        self.assertEqual(self.ask("POST", "/v1/heartbeat", beat, machine="m", token=TOKEN)[0], 200)
        wait_for(lambda: "ophive" not in self.hives(), 15)
        joining = {"hive_id": "ophive", "token": "what-opens-the-hive-is-this", "certificate_request": self.request("m"), "url": f"https://{NET}.3:8600"}
        status, said = self.post("m", "/v1/hive/join", joining, self.invitation())
        self.assertEqual(status, 409, said)
        self.assertIn("invite it by name", said["error"]["message"])


if __name__ == "__main__":
    main()
