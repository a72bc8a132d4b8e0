"""A real worker process for tests: started on a free port, asked over real sockets, gone at the end (T-09)."""
import collections
import contextlib
import fcntl
import http.client
import itertools
import json
import os
import pathlib
import platform
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("LLORCH_WORKER", str(ROOT / "build/release/bin/llorch-worker-cpu"))
KIND = pathlib.Path(BINARY).name.removeprefix("llorch-worker-")
DATA = pathlib.Path(os.environ.get("LLORCH_TEST_DATA", str(ROOT.parent / "shared")))
STORIES = DATA / "models/stories260k-f32.gguf"
os.environ["LLORCH_ROLES"] = "1"  # what threads may do is asserted (src/base/thread_role.h)
SANITIZED = "/dev/" in BINARY or "/tsan/" in BINARY
GPU = KIND.startswith("cuda")  # or the device that stands for one
SLOW = SANITIZED or KIND == "cuda-emulated"  # tokens take tens of times as long
# No turn of a daemon's event loop may take longer (src/net/turn_watch.h). Sanitizers make code 5 to 20 times slower.
# Under sanitizers what a TLS connection allocates as it opens takes tens of times as long, on a core that a build shares twice that; release
# builds, in the same suites, show that turns are short.
TURN_MS_MAX = 20 * (40 if "/dev/" in BINARY else 60 if "/tsan/" in BINARY else 1)
os.environ["LLORCH_LOOP_TURN_MS_MAX"] = str(TURN_MS_MAX)
SLOW_TURNS, SLOW_TURNS_MAX = [], 2  # of all daemons of this suite
USER = [{"role": "user", "content": "Write a haiku about the sea"}]


BLOCK = 7  # ports that belong together: workers of one hive take them one after the other
BLOCKS = itertools.count(random.SystemRandom().randrange(3_000))
HELD = []  # locks of blocks, for as long as this suite runs


def held(block):
    """Whether a block of ports is this suite's now: suites run side by side, and a port is free until its program listens."""
    HELD.append(open(os.path.join(tempfile.gettempdir(), f"llorch-ports-{os.getuid()}-{block}"), "w"))
    with contextlib.suppress(OSError):
        fcntl.flock(HELD[-1], fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    HELD.pop().close()
    return False


def free_port():
    """A port that nobody listens on, nor on the six behind it; none twice in a suite, none of another suite."""
    while True:
        block = next(BLOCKS) % 3_000  # below what the kernel gives to clients
        if not held(block):
            continue
        with contextlib.suppress(OSError):
            for port in range(11_000 + BLOCK * block, 11_000 + BLOCK * (block + 1)):
                with socket.socket() as s:
                    s.bind(("127.0.0.1", port))
            return 11_000 + BLOCK * block


class Worker:
    def __init__(self, *flags, model="builtin:haiku", local=True, env=None, wait=True, port=None):
        self.port = port or free_port()
        self.log = tempfile.NamedTemporaryFile("w+", prefix="llorch-worker-", suffix=".log")
        arguments = [BINARY, "serve", "-m", str(model), "--port", str(self.port), "--log-format", "json", *(["--local-mode"] if local else []), *flags]
        self.process = subprocess.Popen(arguments, stderr=self.log, stdout=self.log, env=os.environ | (env or {}))
        self.url = f"http://127.0.0.1:{self.port}"
        if wait:
            self.wait_ready()

    def wait_ready(self, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"the worker ended with {self.process.returncode}:\n{self.logs()}")
            with contextlib.suppress(OSError):
                if self.get("/health")[0] == 200:
                    return
            time.sleep(0.02)
        raise AssertionError("the worker did not become healthy:\n" + self.logs())

    def note_slow_turns(self):
        with contextlib.suppress(FileNotFoundError):
            note_slow_turns("worker", self.logs())

    def logs(self):
        return pathlib.Path(self.log.name).read_text()

    def connection(self, timeout=60):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def call(self, method, path, body=None, headers=None, timeout=60):
        """(status, headers, body) of one exchange; JSON is decoded."""
        c, start = self.connection(timeout), time.monotonic()
        data = body if isinstance(body, (bytes, str, type(None))) else json.dumps(body)
        send = {} if data is None else {"Content-Type": "application/json"}
        c.request(method, path, data, send | (headers or {}))
        r = c.getresponse()
        raw = r.read()
        c.close()
        note_exchange(method, path, r.status, start, r.headers.get("x-request-id"))
        kind = r.headers.get("Content-Type", "")
        return r.status, r.headers, json.loads(raw) if raw and kind.startswith("application/json") else raw.decode()

    def get(self, path, headers=None):
        return self.call("GET", path, None, headers)

    def post(self, path, body, headers=None):
        return self.call("POST", path, body, headers)

    def infer(self, **fields):
        status, _, body = self.post("/v1/inference", fields)
        assert status == 202, (status, body)
        return body

    def stream(self, sse_url, headers=None):
        """All events of a native stream: (id, type, data) and whether [DONE] came."""
        status, _, text = self.get(sse_url, headers)
        assert status == 200, (status, text)
        return parse_sse(text)

    def generate(self, **fields):
        events, done = self.stream(self.infer(**fields)["sse_url"])
        assert done, events
        return events

    def metric(self, name):
        text = self.get("/metrics")[2]
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.split("{")[0].split(" ")[0] == name)

    def rss(self):
        return int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def stop(self, expect=0):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the worker did not stop:\n" + self.logs())
        self.note_slow_turns()
        assert code == expect, f"the worker ended with {code}:\n{self.logs()[-3000:]}"

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.stop()
        elif self.process.poll() is None:
            self.process.kill()
            self.process.wait()
            self.note_slow_turns()


def note_slow_turns(daemon, log):
    """Keeps what a log says of turns of the event loop that took too long; main() fails on them."""
    SLOW_TURNS.extend(f"{daemon}: {line}" for line in log.splitlines() if "a turn of the event loop took" in line)


def turn_ms(line):
    return float(re.search(r"a turn of the event loop took ([0-9.]+) ms", line)[1])


def parse_sse(text):
    events, done = [], False
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":"))
        if fields.get("data") == "[DONE]":
            done = True
        elif "data" in fields:
            assert not done, "something follows [DONE]"
            events.append((int(fields["id"]) if "id" in fields else None, fields.get("event"), json.loads(fields["data"])))
    return events, done


def text_of(events):
    return "".join(d["t"] for _, kind, d in events if kind == "token")


def wait_for(what, seconds=10):
    """The first true value of what(), polled."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = what()
        if value:
            return value
        time.sleep(0.005)
    raise AssertionError("it did not happen in time")


EXCHANGES, SEEDS = collections.deque(maxlen=5000), []


def note_exchange(method, path, status, start, request_id):
    EXCHANGES.append({"method": method, "path": path, "status": status, "start_s": round(start, 6), "ms": round((time.monotonic() - start) * 1000, 3), "request_id": request_id})


def new_seed():
    """A seed for a random test, kept with the run's results."""
    SEEDS.append(random.SystemRandom().getrandbits(32))
    print("seed", SEEDS[-1])
    return SEEDS[-1]


class Recorded(unittest.TextTestResult):
    """How long each test took and how it ended. What did not run fails where everything must be real (T-06)."""
    times = []
    missing = []

    def startTest(self, test):
        self.began = time.monotonic()
        self.ended = "passed"
        super().startTest(test)

    def stopTest(self, test):
        self.times.append({"test": test.id(), "s": round(time.monotonic() - self.began, 4), "ended": self.ended})
        super().stopTest(test)

    def addFailure(self, test, error):
        self.ended = "FAILED"
        super().addFailure(test, error)

    def addError(self, test, error):
        self.ended = "FAILED"
        super().addError(test, error)

    def addSubTest(self, test, subtest, error):
        if error:
            self.ended = "FAILED"
        super().addSubTest(test, subtest, error)

    def addSkip(self, test, reason):
        self.ended = "not run"
        self.missing.append(f"{test.id()}: {reason}")
        super().addSkip(test, reason)


def peak_of(pid):
    """The most bytes that a process had in memory."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])


def require_real():
    """True where a mock, a stub or a missing model or device must fail."""
    return "1" in (os.environ.get("LLORCH_REQUIRE_REAL"), os.environ.get("REQUIRE_REAL_LLAMA"))


def not_run(reason):
    """Says what a test leaves out, in a test that goes on without it."""
    print("not run:", reason)
    Recorded.missing.append(reason)


def run_id():
    sha = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout[:8] or "0" * 8
    return os.environ.get("LLORCH_RUN_ID", time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + sha)


def write_results(suite, ok):
    """What a run leaves behind (T-10)."""
    folder = pathlib.Path(os.environ.get("LLORCH_PROOF_DIR", ROOT / ".test-results" / suite)) / run_id()
    folder.mkdir(parents=True, exist_ok=True)
    info = subprocess.run([BINARY, "--build-info"], capture_output=True, text=True).stdout
    metadata = {"suite": suite, "ok": ok, "machine": platform.machine(), "system": platform.platform(), "cpus": os.cpu_count(), "build": json.loads(info) if info else None, "test_data": DATA.exists()}
    (folder / "metadata.json").write_text(json.dumps(metadata, indent=2))
    (folder / "seeds.ndjson").write_text("".join(json.dumps({"seed": s}) + "\n" for s in SEEDS))
    (folder / "transcript.ndjson").write_text("".join(json.dumps(e) + "\n" for e in EXCHANGES))
    (folder / "timings.json").write_text(json.dumps(Recorded.times, indent=1))
    (folder / "README.md").write_text(f"# {suite}\n\n{len(Recorded.times)} tests, {'all passed' if ok else 'FAILED'}; the last {len(EXCHANGES)} exchanges with workers. Seeds repeat random tests.\n")


def main():
    if not os.access(BINARY, os.X_OK):
        sys.exit(f"{BINARY} is not there: ./dev build release")
    runner = unittest.TextTestRunner(verbosity=1, resultclass=Recorded)
    ok = unittest.main(testRunner=runner, exit=False).result.wasSuccessful()
    if require_real() and Recorded.missing:
        print("FAILED: everything must be real here, and was not run:", *Recorded.missing, sep="\n  ", file=sys.stderr)
        ok = False
    if SLOW_TURNS:
        # A virtual machine's host, or a page that must be fetched, makes a turn long now and then; what is ours comes again, or is longer.
        ours = len(SLOW_TURNS) > SLOW_TURNS_MAX or max(map(turn_ms, SLOW_TURNS)) > 5 * TURN_MS_MAX
        print(f"{'FAILED' if ours else 'seen'}: turns of event loops over {TURN_MS_MAX} ms:", *SLOW_TURNS, sep="\n  ", file=sys.stderr)
        ok = ok and not ours
    write_results(pathlib.Path(sys.argv[0]).stem + ("" if KIND == "cpu" else f"-{KIND}"), ok)
    sys.exit(not ok)
