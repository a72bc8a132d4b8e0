"""What the documents say is true: every command of README and of docs/{colony,operating,parity,haiku}.md runs, and their routes, metrics and codes are the code's (U-04)."""
import http.client
import os
import re
import subprocess
import unittest

from colony import BIN, ROOT, Colony, free_port, main, wait_for
from hub import Hub


def blocks(path):
    """Shell lines of a document's ```sh blocks, without comments."""
    text = (ROOT / path).read_text()
    for block in re.findall(r"```sh\n(.*?)```", text, re.S):
        for line in block.splitlines():
            line = re.sub(r"\s+#.*$", "", line).strip()
            if line:
                yield line


class Docs(unittest.TestCase):
    def run_all(self, lines, c, replace, cwd=ROOT):
        for line in lines:
            for a, b in replace:
                line = re.sub(a, b, line)
            r = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=c.env | {"PATH": f"{BIN}:{os.environ['PATH']}"}, timeout=60, cwd=cwd, stdin=subprocess.DEVNULL)
            self.assertEqual(r.returncode, 0, f"{line}\n{r.stdout}\n{r.stderr}")
            if "curl" in line:
                self.assertIn('"choices"' if "completions" in line else "{", r.stdout, line)

    def test_commands_of_the_colony(self):
        hub = Hub({"repo-Q4_K_M.gguf": (BIN.parent.parent.parent / "models/haiku.gguf").read_bytes()}, repo="org/repo")
        self.addCleanup(hub.close)
        with Colony(HF_ENDPOINT=hub.url) as c:
            c.env |= {"LLORCH_QUEEN_PORT": str(c.queen_port)}
            elsewhere = free_port()
            self.run_all([line for line in blocks("docs/colony.md") if line.startswith("llorch ") and not re.search("attic|queen.lan|^llorch ca ", line)], c, [(r"^llorch (run|queen start|doctor)", rf"llorch \1 --queen-flag=--worker-port={c.worker_port}"), (r"^llorch chat", r"echo hello | llorch chat"), ("worker-cpu-8601", f"worker-cpu-{c.worker_port}"), ("^llorch hive start", f"llorch hive start --hive-id elsewhere --port {elsewhere} --worker-port {c.worker_port + 1}")])
            c.assert_nothing_left()
        readme = list(blocks("README.md"))
        colony = readme[readme.index([x for x in readme if "llorch run builtin" in x][0]) : readme.index([x for x in readme if "queen stop" in x][0]) + 1]
        with Colony() as c:
            self.run_all(colony, c, [("build/release/bin/", f"{BIN}/"), ("localhost:8500", f"localhost:{c.queen_port}"), (r"llorch (run|queen start)", rf"llorch \1 --queen-flag=--worker-port={c.worker_port}"), (r"^(\S*llorch chat)", r"echo hello | \1")])
            c.assert_nothing_left()

    def test_commands_of_every_day_and_the_names_they_stand_among(self):
        page = (ROOT / "docs/operating.md").read_text()
        with Colony() as c:
            c.env |= {"LLORCH_QUEEN_PORT": str(c.queen_port)}
            awake = c.keeper("queen", "start")
            self.assertEqual(awake.returncode, 0, awake.stderr)
            self.assertEqual(c.keeper("model", "load", "haiku").returncode, 0)
            self.run_all(blocks("docs/operating.md"), c, [("localhost:8500", f"localhost:{c.queen_port}"), ("worker-cpu-8601", f"worker-cpu-{c.worker_port}"), ("/models/mine.gguf", str(BIN.parent.parent.parent / "models/haiku.gguf"))])
            told = "".join(subprocess.run(["curl", "-s", f"http://127.0.0.1:{port}/metrics"], capture_output=True, text=True).stdout for port in (c.queen_port, c.hive_port, c.worker_port))
            named = set(re.findall(r"`(llorch_\w+)`", page))
            self.assertGreater(len(named), 10)
            self.assertEqual(named - set(re.findall(r"(?m)^# TYPE (\w+) ", told)), set())
            for now in ("llorch_queen_hives_online 1", 'llorch_hive_worker_stops_total{reason="crashed"} 0', 'llorch_hive_workers_total{status="ready"} '):
                self.assertIn(now, told)
            self.assertEqual(c.keeper("queen", "stop").returncode, 0)
            c.assert_nothing_left()
        codes = (ROOT / "src/base/error_codes.inc").read_text()
        for code in set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)", page)) - set(re.findall(r"`((?:HF|LLORCH)_[A-Z_]+)", page)):
            self.assertIn(f'"{code}"', codes)

    def test_commands_of_the_guides(self):
        with Colony() as c:
            (c.home / "tests").symlink_to(ROOT / "tests")
            c.env |= {"LLORCH_QUEEN_PORT": str(c.queen_port), "LLORCH_REFERENCES": str(c.home / "none")}  # those that are installed take minutes
            wake = (r"^llorch run", f"llorch run --queen-flag=--worker-port={c.worker_port}")
            for guide in ("parity", "haiku"):
                lines = list(blocks(f"docs/{guide}.md"))
                self.assertTrue(lines)
                self.run_all(lines, c, [wake], cwd=c.home)
            self.assertEqual((c.home / "one.txt").read_text(), (c.home / "two.txt").read_text())
            self.assertTrue((c.home / "one.txt").read_text().strip())
            c.assert_nothing_left()

    def test_several_machines_as_written(self):
        with Colony() as c:
            (c.home / "token").write_text("a-token-of-the-colony")
            (c.home / "token").chmod(0o600)
            token, log = ("--token-file", c.home / "token"), open(c.home / "llorch-queen.log", "a")
            c.url = f"https://localhost:{c.queen_port}"
            lines = [line for line in blocks("docs/colony.md") if "queen.lan" in line and "attic" not in line]
            self.assertEqual([line.split()[:3] for line in lines], [["llorch-queen", "--listen", "0.0.0.0"], ["llorch", "hive", "invite"], ["llorch", "hive", "join"]])
            here = [line.replace("queen.lan:8500", f"localhost:{c.queen_port}").replace("queen.lan", "localhost").replace("-file token", f"-file {c.home}/token").split() for line in lines]
            c.start(BIN / here[0][0], *here[0][1:], "--port", c.queen_port, "--worker-port", c.worker_port, "--log-format", "json", stderr=log)
            wait_for(lambda: subprocess.run(["curl", "-sf", "--cacert", c.root_certificate(), c.url + "/health"], capture_output=True).returncode == 0)
            invited = c.keeper(*here[1][1:])
            self.assertEqual(invited.returncode, 0, invited.stderr)
            shown = invited.stdout.split()[-1]
            at = ("--hive-id", "attic", "--port", free_port(), "--worker-port", free_port())
            joined = c.keeper(*[shown if word == "TOKEN" else word for word in here[2][1:]], *at)
            self.assertEqual(joined.returncode, 0, joined.stderr)
            try:
                # Her own machine's commands find her by themselves, over TLS: the root is in her data directory.
                status = c.keeper("status", "--json", "--queen", f"http://127.0.0.1:{c.queen_port}", *token)
                self.assertIn("attic", status.stdout, status.stderr)
                r = c.keeper("infer", "--model", "haiku", "rain", "--queen", c.url, *token, "--max-tokens", "5")
                self.assertEqual(r.returncode, 0, r.stderr)
                for line in [line for line in blocks("docs/colony.md") if line.startswith("llorch ca ")]:
                    r = subprocess.run([BIN / "llorch", *line.split()[1:], *(("--queen", c.url, *token) if "revoke" in line else ())], cwd=c.home, capture_output=True, text=True, env=c.env, timeout=30)
                    self.assertEqual(r.returncode, 1 if "import" in line else 0, line + r.stderr)  # there is an authority already
            finally:
                self.assertEqual(c.keeper("hive", "stop", "--hive-id", "attic").returncode, 0)

    def test_routes_are_the_code_s(self):
        text = (ROOT / "docs/colony.md").read_text()
        for app, heading in (("queen", "## The queen's API"), ("hive", "## The hive's API")):
            section = text.split(heading)[1].split("\n## ")[0]
            told = {(m, r, s) for m, r, s in re.findall(r"^\| (GET|POST|PUT|DELETE) \| `(\S+)` \| (\w+) \|", section, re.M)}
            self.assertGreater(len(told), 10, app)
            with Colony() as c:
                (c.home / "token").write_text("a-token-of-the-colony")
                (c.home / "token").chmod(0o600)
                port = free_port()
                c.start(BIN / f"llorch-{app}", "--port", port, "--data-dir", c.home / app, "--token-file", c.home / "token", stderr=subprocess.DEVNULL)
                wait_for(lambda: subprocess.run(["curl", "-sf", f"http://127.0.0.1:{port}/health"], capture_output=True).returncode == 0)
                auth = {"Authorization": "Bearer a-token-of-the-colony"}
                for method, route, scope in told:
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                    connection.request(method, route.replace("{}", "x").replace("{*}", "x"))
                    status = connection.getresponse().status
                    connection.close()
                    self.assertEqual(status, 404 if route in ("/v1/ca", "/page/{}") else 200 if scope == "public" else 401,  # this queen has no authority
                                     (app, method, route))
                paths = {r for _, r, _ in told}
                # Whatever the code declares is in the document: a method that a known path lacks is named by 405.
                declared = set()
                for f in [*(ROOT / f"apps/{app}/route").glob("*.cc"), ROOT / "src/service/job_routes.cc", ROOT / "apps/page.h"]:
                    for scope, method, path in re.findall(r'route<(?:service::)?(?:Scope::)?k(\w+)>\(\s*"(\w+)",\s*("[^"]*"|kPrefix|r->prefix(?: \+ "[^"]*")?|prefix \+ (?:"[^"]*"|path))', f.read_text()):
                        path = path.replace("r->prefix", "/v1/jobs").replace("kPrefix", "/v1/jobs").replace(' + "', "").strip('"')
                        for prefix in ("/v1", "") if path.startswith("prefix") else ("",):
                            for tail in ("/chat/completions", "/completions", "/embeddings", "/responses", "/messages", "/messages/count_tokens", "/tokenize", "/detokenize", "/rerank") if path.endswith("path") else ("",):
                                declared.add((method, path.replace("prefix + path", prefix + tail).replace('prefix + "', prefix).replace("prefix", prefix, 1) if path.startswith("prefix") else path, scope.lower()))
                self.assertEqual(declared, told, app)


if __name__ == "__main__":
    main()
