"""A colony of real processes for tests: a home of its own, ports of its own, and a census at the end (T-09, T-50)."""
import contextlib
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/worker"))
from harness import free_port, main, new_seed, not_run, note_exchange, note_slow_turns, parse_sse, text_of, wait_for  # noqa: E402,F401

BIN = pathlib.Path(os.environ.get("LLORCH_BIN", ROOT / "build/release/bin"))
SANITIZED = bool({"dev", "tsan"} & set(BIN.parts))
DATA = pathlib.Path(os.environ.get("LLORCH_TEST_DATA", ROOT.parent / "shared"))
STORIES = DATA / "models/stories260k-f32.gguf"


def processes(home):
    """Pids of our programs that belong to this home."""
    found = []
    for p in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if p.name.isdigit() and (p / "exe").readlink().parent == BIN and str(home).encode() in (p / "environ").read_bytes():
                found.append((int(p.name), (p / "cmdline").read_bytes().replace(b"\0", b" ").decode()))
    return found


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


# Over TLS on loopback, too: everything that the suites say must hold there.
TLS = os.environ.get("LLORCH_TEST_TLS") == "1"
MAY_STOP = {"LLORCH_LOOP_TURN_MS_MAX": "10000"}  # of a Colony: a daemon that the test stops for a while may be in the middle of a turn


class Colony:
    def __init__(self, tls=TLS, **env):
        self.tls = tls
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="llorch-colony-"))
        self.queen_port, self.hive_port, self.worker_port = free_port(), free_port(), free_port()
        self.scheme = "https" if tls else "http"
        self.url = f"{self.scheme}://127.0.0.1:{self.queen_port}"
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("LLORCH_", "XDG_", "HF_"))} | {"HOME": str(self.home), "LLORCH_HIVE_PORT": str(self.hive_port), "LLORCH_QUEEN_URL": self.url, "LLORCH_ROLES": "1", "LLORCH_LOOP_TURN_MS_MAX": os.environ["LLORCH_LOOP_TURN_MS_MAX"]} | env
        self.children = []

    def command(self, *arguments):
        flags = [f"--queen-flag=--worker-port={self.worker_port}", "--queen-flag=--heartbeat-interval-sec=1"]
        return [str(BIN / "llorch"), *map(str, arguments), *flags]

    def keeper(self, *arguments, timeout=60, stdin=None):
        r = subprocess.run(self.command(*arguments), capture_output=True, text=True, env=self.env, timeout=timeout, input=stdin)
        return r

    def start(self, *arguments, **more):
        p = subprocess.Popen(list(map(str, arguments)), **({"env": self.env} | more))
        self.children.append(p)
        return p

    def hide_nvml(self):
        """A machine with a GPU looks like one without its driver's library."""
        (self.home / "lib").mkdir()
        (self.home / "lib/libnvidia-ml.so.1").touch()
        self.env["LD_LIBRARY_PATH"] = str(self.home / "lib")

    def queen(self, *flags, local=True, heartbeat_s=1):
        """A queen that stays, of our own."""
        log = open(self.home / "queen.log", "a")
        flags = ["--tls", *flags] if self.tls else flags
        p = self.start(BIN / "llorch-queen", "--port", self.queen_port, "--worker-port", self.worker_port, "--heartbeat-interval-sec", heartbeat_s, "--log-format", "json", *(["--local-mode"] if local else []), *flags, stdout=log, stderr=log)

        def up():
            assert p.poll() is None, f"the queen ended with {p.returncode}: " + (self.home / "queen.log").read_text()[-2000:]
            return listens(self.queen_port)

        wait_for(up)
        return p

    def hive(self, name, port, *flags, worker_port=None):
        """A hive that the queen did not start: it shows the key that `llorch hive start` would give it."""
        log = open(self.home / f"{name}.log", "a")
        env = self.env | ({"LLORCH_NODE_TOKEN": self.node_key()} if listens(self.queen_port) else {})
        p = self.start(BIN / "llorch-hive", *self.trusted_by(name), "--local-mode", "--port", port, "--hive-id", name, "--queen-url", self.url, "--data-dir", self.home / name, "--heartbeat-interval-sec", "1", "--log-format", "json", "--worker-port", worker_port or free_port(), *flags, stdout=log, stderr=log, env=env)
        return p

    def root_certificate(self):
        return self.home / ".local/share/llorch/ca/root.pem"

    def connection(self, port=None, timeout=60):
        """To the queen, or to another daemon of this colony."""
        if trusting := self.trusting():
            return http.client.HTTPSConnection("127.0.0.1", port or self.queen_port, timeout=timeout, context=trusting)
        return http.client.HTTPConnection("127.0.0.1", port or self.queen_port, timeout=timeout)

    def trusting(self):
        """Who believes this colony's root; None where it speaks plain HTTP: a hive that runs without a queen does."""
        return ssl.create_default_context(cafile=self.root_certificate()) if self.tls and self.root_certificate().exists() else None

    def socket(self, port=None, timeout=30):
        plain = socket.create_connection(("127.0.0.1", port or self.queen_port), timeout)
        trusting = self.trusting()
        return trusting.wrap_socket(plain, server_hostname="127.0.0.1") if trusting else plain

    def urlopen(self, request, timeout=60):
        return urllib.request.urlopen(self.url + request if isinstance(request, str) else request, timeout=timeout, context=self.trusting())

    def trusted_by(self, name):
        """Flags of a hive of this colony, whose root is laid into the hive's data directory before."""
        if not self.trusting():
            return []
        (self.home / name / "tls").mkdir(parents=True, exist_ok=True)
        (self.home / name).chmod(0o700)
        shutil.copy(self.root_certificate(), self.home / name / "tls/root.pem")
        return ["--tls"]

    def certificate_request(self):
        """What a hive says besides when it joins a colony that speaks TLS."""
        if not self.trusting():
            return {}
        r = subprocess.run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", self.home / "asked.key", "-subj", "/CN=x"], check=True, capture_output=True, text=True)
        return {"certificate_request": r.stdout}

    def node_key(self):
        """What the queen of this home believes, where she has no keys."""
        path = self.home / ".local/share/llorch/node-token"
        wait_for(path.exists)  # she listens before she has read anything
        return path.read_text().strip()

    def report(self, beat, path="/v1/heartbeat"):
        """A heartbeat, or another report of a hive, that is believed."""
        return self.call("POST", path, beat, {"Authorization": "Bearer " + self.node_key()})

    def call(self, method, path, body=None, headers=None, port=None, timeout=60, plain=False):
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout) if plain else self.connection(port, timeout)
        start = time.monotonic()
        data = body if isinstance(body, (str, type(None))) else json.dumps(body)
        c.request(method, path, data, ({} if data is None else {"Content-Type": "application/json"}) | (headers or {}))
        r = c.getresponse()
        raw = r.read()
        c.close()
        note_exchange(method, path, r.status, start, r.headers.get("x-request-id"))
        return r.status, r.headers, json.loads(raw) if r.headers.get("Content-Type", "").startswith("application/json") and raw else raw.decode()

    def job(self, order, headers=None, port=None):
        """All events of an operation: (id, type, data)."""
        status, _, made = self.call("POST", "/v1/jobs", order, headers, port)
        assert status == 202, (status, made)
        status, _, text = self.call("GET", made["sse_url"], None, headers, port)
        assert status == 200, (status, text)
        events, done = parse_sse(text)
        assert done, events
        return events

    def infer(self, prompt="Write a haiku about rain", **fields):
        return self.job({"operation": "infer", "model": "builtin:haiku", "prompt": prompt, "max_tokens": 40, **fields})

    def wait_logged(self, name, pattern, seconds=10):
        """What a daemon says in its log; lines are written behind the answer's back."""
        found = wait_for(lambda: re.search(pattern, (self.home / f"{name}.log").read_text()), seconds)
        return found.string

    def census(self):
        return processes(self.home)

    def assert_nothing_left(self, seconds=10):
        ports = (self.queen_port, self.hive_port, self.worker_port)
        wait_for(lambda: not self.census() and not any(map(listens, ports)), seconds)

    def close(self):
        for p in self.children:
            if p.poll() is None:
                p.send_signal(signal.SIGTERM)
        for p in self.children:
            with contextlib.suppress(subprocess.TimeoutExpired):
                p.wait(20)
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not self.census(), 2)  # a hive whose queen was killed ends a moment after her
        left = self.census()
        for pid, _ in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        logs = {f.name: f.read_text() for f in self.home.rglob("*.log")}
        shutil.rmtree(self.home, ignore_errors=True)
        for name, text in logs.items():
            note_slow_turns(name, text)
        for name, text in logs.items():
            assert "Sanitizer" not in text and "terminate called" not in text, f"{name}:\n{text[-4000:]}"
        assert not left, f"left running: {left}"

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            return self.close()
        for f in self.home.glob("**/*.log"):
            print(f"--- {f.name}\n" + f.read_text()[-2000:], file=sys.stderr)
        with contextlib.suppress(AssertionError):
            self.close()


def narrations(stderr):
    return [line for line in stderr.splitlines() if line.startswith("[")]
