"""One configuration file for all programs: each takes its section; what a program cannot take stops it, with file, line and key."""
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/worker"), str(ROOT / "tests/colony")]
from colony import Colony, free_port, listens  # noqa: E402
from harness import Worker, main, wait_for  # noqa: E402
from listener import Listener  # noqa: E402

BIN = pathlib.Path(os.environ.get("LLORCH_BIN", ROOT / "build/release/bin"))
# Each program with what it needs to get to its configuration, and ends there.
PROGRAMS = {"queen": [BIN / "llorch-queen", "--print-config"], "hive": [BIN / "llorch-hive", "--print-config"], "worker": [BIN / "llorch-worker-cpu", "serve", "-m", "builtin:haiku", "--local-mode"], "keeper": [BIN / "llorch", "status", "--no-autostart"]}


class Configuration(unittest.TestCase):
    def setUp(self):
        self.home = tempfile.TemporaryDirectory()
        self.addCleanup(self.home.cleanup)
        self.file = pathlib.Path(self.home.name) / ".config/llorch/config.toml"
        self.file.parent.mkdir(parents=True)

    def run_program(self, program, *flags, env=None):
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("LLORCH_CONFIG", "XDG_"))} | {"HOME": self.home.name} | (env or {})
        command = [a for a in PROGRAMS[program] if a != "--print-config"]
        return subprocess.run([*command, *flags], capture_output=True, text=True, env=environment, timeout=30)

    def refused(self, r, *parts):
        self.assertEqual(r.returncode, 2, r.stderr)
        for part in parts:
            self.assertIn(part, r.stderr)

    def test_what_a_program_cannot_take_stops_it(self):
        cases = (("[{p}]\n\nno-such-flag = 1\n", ":3: ", "'no-such-flag' is no setting of the {p}"), ("[{p}]\nport = \n", ":2: "), ("a = 1\na = 2\n", ":2: "), ("[{p}\n", ":1: "), ("[{p}]\nlog-format = {{}}\n# x\n", None),
                 ("[{p}.x]\ny = 1\n", ":2: ", "'x-y' is no setting"), ("[{p}]\n\n\nhelp = true\n", ":4: ", "help"))
        for program in PROGRAMS:
            for text, *parts in cases:
                if parts == [None]:
                    continue
                with self.subTest(program=program, text=text):
                    self.file.write_text(text.format(p=program))
                    self.refused(self.run_program(program), str(self.file), *(part.format(p=program) for part in parts))

    def test_values_that_a_flag_does_not_take(self):
        for program, text, parts in (("queen", "[queen]\nport = 1\n", (":2: ", "port")), ("hive", '[hive]\nprobe-interval-sec = "x"\n', (":2: ", "probe-interval-sec")), ("worker", "[worker]\n\nmax-batch = 0\n", (":3: ", "max-batch")), ("keeper", "[keeper]\ntimeout = 0\n", (":2: ", "timeout")),
                                     ("keeper", "[keeper]\nquiet = 3\n", (":2: ", "'quiet' is true or false")), ("queen", "[queen]\nport = 2020-01-01\n", (":2: ", "port"))):
            with self.subTest(text):
                self.file.write_text(text)
                self.refused(self.run_program(program), str(self.file), *parts)

    def test_the_nearest_name(self):
        for program, text, parts in (("worker", "[worker]\nmax-bach = 2\n", ("did you mean 'max-batch'?",)), ("queen", "[queen]\nworker-slot = 2\n", ("did you mean 'worker-slots'?",)), ("keeper", "[keper]\nquiet = true\n", (":1: ", "[keper] is no section: did you mean 'keeper'?"))):
            with self.subTest(text):
                self.file.write_text(text)
                self.refused(self.run_program(program), str(self.file), *parts)

    def test_a_file_that_was_asked_for_must_be_there(self):
        for program in PROGRAMS:
            missing = f"{self.home.name}/missing.toml"
            with self.subTest(program):
                self.refused(self.run_program(program, "--config", missing), missing)
                self.refused(self.run_program(program, env={"LLORCH_CONFIG": missing}), missing)
                self.refused(self.run_program(program, "--config", self.home.name), self.home.name)
        if os.geteuid() == 0:
            print("not run: root may read every file")
            return
        self.file.write_text("")
        self.file.chmod(0)
        for program in PROGRAMS:
            self.refused(self.run_program(program), str(self.file))

    def test_what_is_no_file_is_told_at_once(self):
        for program in PROGRAMS:
            with self.subTest(program):
                self.refused(self.run_program(program, "--config"), "--config needs a value")
                self.refused(self.run_program(program, "--config", self.home.name), f"{self.home.name} is a folder")
                self.refused(self.run_program(program, "--config", "/dev/zero"), "/dev/zero: this is no configuration file")

    def test_a_value_that_a_flag_comes_before_must_be_one(self):
        self.file.write_text("[hive]\nport = 70000\n")
        self.refused(self.run_program("hive", "--port", "8600"), f"{self.file}:2: ", "port")
        self.file.write_text("[hive]\nport = 8700\nallow-host = [\"a\"]\nlog-level = \"debug\"\n[worker]\nctx = [96]\n")
        self.assertEqual(self.run_program("hive", "--port", "8600", "--allow-host", "b", "--log-level", "info", "--print-config").returncode, 0)
        self.refused(self.run_program("worker"), f"{self.file}:6: ", "'ctx' takes one value, and no list")

    def test_the_worker_s_section(self):
        self.file.write_text('[worker]\nctx = 128\ntemperature = 0.25\nmax-batch = 3\n[queen]\nworker-slots = 2\n[hive]\nheadroom-mb = 1\n[keeper]\nquiet = true\n[model."a:b"]\nctx = 5\n')
        env = {"HOME": self.home.name, "XDG_CONFIG_HOME": ""}
        for flags, more, want in (((), {}, (128, 0.25)), (("--ctx", "64"), {}, (64, 0.25)), ((), {"LLORCH_CONFIG": str(self.file)}, (128, 0.25))):
            w = Worker(*flags, env=env | more)
            try:
                info = w.get("/v1/info")[2]
                self.assertEqual((info["context_length"], info["sampling"]["temperature"]), want)
            finally:
                w.stop()
        other = pathlib.Path(self.home.name) / "other.toml"
        other.write_text("[worker]\nctx = 96\n")
        w = Worker("--config", str(other), env=env)
        try:
            self.assertEqual(w.get("/v1/info")[2]["context_length"], 96)
        finally:
            w.stop()
        self.file.write_text('[worker]\nisa = "scalar"\n')
        for more, want in (({}, "scalar"), ({"LLORCH_ISA": "canonical"}, "canonical")):
            w = Worker(env=env | more)
            try:
                self.assertEqual(w.get("/v1/info")[2]["isa"].split("+")[0] == "scalar", want == "scalar", "the environment comes before the file")
            finally:
                w.stop()

    def test_the_keeper_s_section(self):
        self.file.write_text('[keeper]\nqueen = "http://127.0.0.1:9"\njson = true\nno-autostart = true\ntemperature = 0.5\n')
        r = self.run_program("keeper")
        self.assertIn("127.0.0.1:9", r.stdout + r.stderr, "a flag of one command may stand in a file for all")
        self.assertTrue([json.loads(line) for line in r.stdout.splitlines()], r.stderr)
        r = self.run_program("keeper", "--queen", "http://127.0.0.1:10")
        self.assertIn("127.0.0.1:10", r.stdout + r.stderr)

    def test_no_other_queen_is_asked_than_was_named(self):
        """Where a flag or the environment comes before the file, and nobody answers: this machine's queen gets neither the key nor the prompt."""
        asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append((self.path, self.headers.get("Authorization")))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

        local = Listener()
        local.listen(Handler)
        self.addCleanup(local.close)
        data = pathlib.Path(self.home.name) / ".local/share/llorch"
        data.mkdir(parents=True)
        (data / "queen-url").write_text(local.url)
        (data / "queen-url").chmod(0o600)
        nobody = f"http://127.0.0.1:{free_port()}"
        for section in ("", f'[keeper]\nqueen = "{nobody}"\n', '[keeper]\nqueen = "http://127.0.0.1:9"\n'):
            self.file.write_text(section)
            for flags, env in ((("--queen", nobody), {}), ((), {"LLORCH_QUEEN_URL": nobody})):
                r = self.run_program("keeper", *flags, env={"LLORCH_API_TOKEN": "a-key-of-sixteen-and-more"} | env)
                self.assertIn(nobody, r.stdout + r.stderr)
                self.assertEqual(asked, [], (section, flags))
        self.file.write_text(f'[keeper]\nqueen = "{nobody}"\n')
        self.run_program("keeper", "--queen", "http://127.0.0.1:8500")
        self.assertTrue(asked, "this machine's own is looked for wherever she listens")

    def test_what_is_printed_as_default(self):
        self.file.write_text('[keeper]\nqueen = "http://127.0.0.1:9"\ntimeout = 77\n')
        r = self.run_program("keeper", "--queen", "http://127.0.0.1:10", "--timeout", "5", "--print-config")
        self.assertIn('#queen = "http://127.0.0.1:8500"\n', r.stdout)
        self.assertIn("#timeout = 30\n", r.stdout)
        r = subprocess.run([BIN / "llorch", "parity", "all", "x", "--print-config"], capture_output=True, text=True, env=os.environ | {"HOME": self.home.name}, timeout=30)
        self.assertRegex(r.stdout, r"#ids = [0-9]+\n")

    def test_a_data_directory(self):
        for program in ("queen", "hive", "keeper"):
            with self.subTest(program):
                self.file.write_text(f'[{program}]\n\ndata-dir = "~/q"\n')
                self.refused(self.run_program(program), f"{self.file}:3: ", "'data-dir': must be an absolute path, which begins with /, not ~/q")
        self.file.write_text('[queen]\ndata-dir = "q"\n')
        self.refused(self.run_program("keeper"), f"{self.file}:2: ", "not q")
        here, there = (pathlib.Path(self.home.name) / name for name in ("here", "there"))
        for program in ("queen", "keeper"):
            self.file.write_text(f'[{program}]\ndata-dir = "{there}"\n')
            here.mkdir()
            (here / "ca").mkdir()
            (here / "ca/root.pem").write_text("no certificate")
            r = self.run_program("keeper", "--queen", "https://127.0.0.1:9", env={"LLORCH_DATA_DIR": str(here)})
            self.assertIn(f"{here}/ca/root.pem is no root certificate", r.stdout + r.stderr, "the environment comes before the file")
            shutil.rmtree(here)
        self.file.write_text(f'[hive]\ndata-dir = "{there}"\n')
        for program, flags in (("hive", ("--local-mode", "--port", str(free_port()))), ("queen", ("--local-mode", "--port", str(free_port())))):
            self.file.write_text(f'[{program}]\ndata-dir = "{there}"\n')
            environment = {k: v for k, v in os.environ.items() if not k.startswith(("LLORCH_", "XDG_"))} | {"HOME": self.home.name, "LLORCH_DATA_DIR": str(here)}
            with subprocess.Popen([BIN / f"llorch-{program}", *flags], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as p:
                try:
                    wait_for((here / ("hive/hive-url" if program == "hive" else "queen-url")).exists, 20)
                finally:
                    p.terminate()
            self.assertFalse(there.exists(), program)


class Daemons(unittest.TestCase):
    """What is wrong in a file is told by the command that a person has typed, whichever daemon reads it."""

    def setUp(self):
        self.c = Colony().__enter__()
        self.addCleanup(self.c.close)
        self.file = self.c.home / ".config/llorch/config.toml"
        self.file.parent.mkdir(parents=True)

    def ask(self, *flags):
        return self.c.keeper("run", "haiku", "Write a haiku about rain", "-n", "3", "--quiet", *flags)

    def test_what_stops_a_daemon_is_told(self):
        for text, line, words in (
            ("[queen]\n\nno-such = 1\n", 3, "'no-such' is no setting of the queen"),
            ("[hive]\nno-such = 1\n", 2, "'no-such' is no setting of the hive"),
            ("[hive]\nport = 70000\n", 2, "port"),  # which her queen gives it, too
            ("[hive]\n\nidle-stop-sec = -1\n", 3, "idle-stop-sec"),
            ("[queen]\nport = 70000\n", 2, "'port' of [queen]: must be a whole number from 1024 to 65535, not 70000"),
            ("[queen]\nport = [8500]\n", 2, "'port' takes one value, and no list"),
            ('[queen]\nlisten = "nonsense"\n', 0, "listen: 'nonsense' is no address of this machine"),
            ('[queen]\nlisten = "0.0.0.0"\n', 0, "listening on 0.0.0.0 needs a key"),
            ('[model."builtin:haiku"]\nctx = [96]\n', 2, "'ctx' must be a text or a number"),
            ('[model."builtin:haiku"]\nctx = "0128"\n', 2, "'ctx' must be a whole number"),
            ('[model."builtin:haiku"]\nctx = 96\n[model."builtin:haiku"]\nctx = 97\n', 3, '[model."builtin:haiku"] stands in the file twice'),
            ("[worker]\nno-such = 1\n", 2, "'no-such' is no setting of the worker"),
            ("# x\n[worker]\nthreads = 4000\n", 3, "--threads"),
            ('[worker]\nchat-template = "/no/such"\n', 2, "/no/such"),
            ('[model."typo"]\nctx = 5\n', 1, '[model."typo"] names no model'),
            ('[model."builtin:haiku"]\nctxx = 5\n', 2, "'ctxx' is no setting of a model: did you mean 'ctx'?"),
        ):
            with self.subTest(text):
                self.file.write_text(text)
                r = self.ask()
                self.assertNotEqual(r.returncode, 0)
                self.assertIn(words, r.stderr)
                if line:
                    self.assertIn(f"{self.file}:{line}: ", r.stderr)
                    self.assertIn("\n  change that line of the file\n", r.stderr)
        self.file.write_text('[model."builtin:haiku"]\nchat-template = "/no/such"\n')
        self.assertIn("/no/such", self.ask().stderr)

    def test_the_queen_that_a_command_starts_is_where_the_file_says(self):
        elsewhere, port, hive_port = self.c.home / "elsewhere", free_port(), free_port()
        del self.c.env["LLORCH_QUEEN_URL"], self.c.env["LLORCH_HIVE_PORT"]
        self.file.write_text(f'[queen]\nport = {port}\ndata-dir = "{elsewhere}"\n[hive]\nport = {hive_port}\n')
        try:
            self.assertEqual(self.c.keeper("queen", "start").returncode, 0)
            self.assertTrue(listens(port) and (elsewhere / "queen-url").exists())
            self.assertEqual(self.ask().returncode, 0)
            self.assertTrue(listens(hive_port), "the hive's own section counts, too")
            self.assertIn(f"127.0.0.1:{port}: awake", self.c.keeper("queen", "status").stdout)
            other = free_port()
            self.c.env["LLORCH_QUEEN_PORT"] = str(other)
            self.assertIn(f"127.0.0.1:{other}: asleep", self.c.keeper("queen", "status", "--data-dir", self.c.home / "none").stdout, "the environment comes before the file")
            del self.c.env["LLORCH_QUEEN_PORT"]
        finally:
            self.assertEqual(self.c.keeper("queen", "stop").returncode, 0)
        self.assertFalse(listens(port))

    def test_a_section_that_is_none_has_the_nearest_name(self):
        for program in PROGRAMS:
            with self.subTest(program):
                self.file.write_text("[keper]\nquiet = true\n")
                r = subprocess.run([a for a in PROGRAMS[program] if a != "--print-config"], capture_output=True, text=True, env=self.c.env, timeout=30)
                self.assertIn(f"{self.file}:1: [keper] is no section: did you mean 'keeper'?", r.stderr)

    def test_help_names_each_value_once(self):
        for name in ("llorch-queen", "llorch-hive"):
            said = subprocess.run([BIN / name, "--help"], capture_output=True, text=True, env=self.c.env, timeout=30).stdout
            self.assertIn("{immediate,hybrid,batched}", said)
            self.assertNotIn("->", said)

    def test_what_a_program_is_needs_no_file(self):
        self.file.write_text("nonsense\n")
        for name in ("llorch-queen", "llorch-hive", "llorch-worker-cpu"):
            r = subprocess.run([BIN / name, "--build-info"], capture_output=True, text=True, env=self.c.env, timeout=30)
            self.assertEqual(r.returncode, 0, r.stderr)

    def test_daemons_read_the_file_that_the_command_was_given(self):
        other = self.c.home / "other.toml"
        self.file.write_text("[worker]\nno-such = 1\n")
        other.write_text("quiet = true\n[queen]\nworker-slots = 3\n[worker]\nctx = 64\n")
        self.assertEqual(self.c.keeper("--config", other, "queen", "start").returncode, 0)
        self.assertEqual(self.ask("--config", other).returncode, 0)
        status = self.c.call("GET", "/v1/status")[2]
        self.assertEqual(status["workers"][0]["context"], 64)
        self.assertEqual(self.c.keeper("--config", other, "queen", "stop").returncode, 0)
        other.write_text("[worker]\n\nctx = -1\n")
        self.assertIn(f"{other}:3: ", self.ask("--config", other).stderr)


if __name__ == "__main__":
    main()
