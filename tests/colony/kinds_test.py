"""Kinds of worker (W-02, H-24): a hive has those whose program lies there and starts, a queen prefers cpu unless she is asked for another."""
import json
import subprocess
import unittest

from colony import BIN, Colony, free_port, listens, main, narrations, wait_for

PROGRAM = BIN / "llorch-worker-accelerate"


def start_hive(c, *flags):
    """A hive without a queen."""
    c.env.pop("LLORCH_QUEEN_URL", None)
    log = open(c.home / "h.log", "a")
    c.start(BIN / "llorch-hive", "--local-mode", "--port", c.hive_port, "--worker-port", c.worker_port, "--data-dir", c.home / "h", "--log-format", "json", *flags, stdout=log, stderr=log)
    wait_for(lambda: listens(c.hive_port))


def install(c):
    return c.job({"operation": "worker_install", "worker": "accelerate"}, port=c.hive_port)[-1]


class Kinds(unittest.TestCase):
    def setUp(self):
        if not PROGRAM.exists():
            self.skipTest(f"not run: {PROGRAM.name} is not built, no CBLAS was found")

    def test_a_hive_installs_and_starts_it(self):
        with Colony() as c:
            start_hive(c)
            self.assertEqual(install(c)[1], "end")
            self.assertEqual([w["kind"] for w in c.call("GET", "/v1/capabilities", port=c.hive_port)[2]["workers_available"]], ["accelerate"])
            self.assertEqual(c.job({"operation": "worker_spawn", "model": "builtin:haiku", "worker": "accelerate"}, port=c.hive_port)[-1][1], "end")
            info = c.call("GET", "/v1/info", port=c.worker_port)[2]
            self.assertEqual({k: info[k] for k in ("id", "implementation", "backend", "device", "canonical")}, {"id": f"worker-accelerate-{c.worker_port}", "implementation": "llorch-worker-accelerate", "backend": "accelerate", "device": "cpu:0", "canonical": False})
            self.assertIn("+", info["isa"], "the library is named")
            self.assertIn('backend="accelerate"', c.call("GET", "/metrics", port=c.worker_port)[2])

    def test_a_program_has_one_backend(self):
        for kind, other in (("cpu", "accelerate"), ("accelerate", "cpu")):
            program = [BIN / f"llorch-worker-{kind}", "serve", "-m", "builtin:haiku", "--local-mode", "--port", str(free_port())]
            r = subprocess.run([*program, "--backend", other], capture_output=True, text=True, timeout=60)
            self.assertEqual(r.returncode, 2, r.stderr)
            self.assertIn(f"--backend {other}: this worker is built for {kind}", r.stderr)
        r = subprocess.run([PROGRAM, "generate", "-m", "builtin:haiku", "-p", "x", "-n", "1", "--isa", "canonical"], capture_output=True, text=True, timeout=60)
        self.assertEqual((r.returncode, r.stdout), (1, ""), r.stderr)
        self.assertIn("canonical bits are those of the kernels", r.stderr)

    def test_a_queen_prefers_cpu_unless_she_is_asked(self):
        with Colony() as c:
            self.assertEqual(c.keeper("queen", "start").returncode, 0)

            def used(*flags):
                r = c.keeper("run", "haiku", "Write a haiku about tea", *flags)
                self.assertEqual(r.returncode, 0, r.stderr)
                return next(line for line in narrations(r.stderr) if "holds the model" in line or "starts on port" in line)

            self.assertRegex(used("--kind", "accelerate"), r"worker-accelerate-\d+ starts on port")
            self.assertRegex(used(), r"worker-accelerate-\d+ on \S+ holds the model", "nothing is made where a worker has the model")
            self.assertRegex(used("--kind", "cpu"), r"worker-cpu-\d+ starts on port")
            self.assertRegex(used(), r"worker-cpu-\d+ on \S+ holds the model")
            self.assertRegex(used("--kind", "accelerate"), r"worker-accelerate-\d+ on \S+ holds the model")
            status, _, body = c.call("POST", "/v1/jobs", {"operation": "infer", "model": "builtin:haiku", "prompt": "x", "kind": "tpu"})
            self.assertEqual((status, body["error"]["param"]), (400, "kind"), body)
            self.assertEqual(c.call("POST", "/v1/jobs", {"operation": "model_unload", "model": "builtin:haiku", "kind": "cpu"})[0], 400, "what an operation does not look at is refused")
            self.assertEqual(c.keeper("queen", "stop").returncode, 0)
            c.assert_nothing_left()

    def test_a_queen_can_be_set_to_prefer_it(self):
        with Colony() as c:
            c.queen("--worker-kind", "accelerate")
            spawned = [d for _, kind, d in c.infer() if kind == "narration" and "starts on port" in json.dumps(d)]
            self.assertIn(f"worker-accelerate-{c.worker_port}", json.dumps(spawned))


class Missing(unittest.TestCase):
    """A program that is not there, and one that lacks a library: the hive says so."""

    def test_is_said(self):
        with Colony() as c:
            folder = c.home / "bin"
            folder.mkdir()
            start_hive(c, "--worker-dir", folder)
            _, kind, error = install(c)
            self.assertEqual((kind, error["code"]), ("error", "NO_WORKERS_AVAILABLE"), error)
            self.assertIn("there is no accelerate worker program to install on this hive: ", error["message"])
            program = folder / PROGRAM.name
            program.write_text("#!/bin/sh\necho 'error while loading shared libraries' >&2\nexit 127\n")  # as the loader ends
            program.chmod(0o755)
            _, kind, error = install(c)
            self.assertEqual(error["code"], "NO_WORKERS_AVAILABLE")
            self.assertIn(f"{program} --build-info ended with 127; run it by hand to see what it lacks", error["message"])
            program.write_text(f'#!/bin/sh\nexec {BIN}/llorch-worker-cpu "$@"\n')
            self.assertIn("names another kind", install(c)[2]["message"])
            _, kind, error = c.job({"operation": "worker_spawn", "model": "builtin:haiku", "worker": "accelerate"}, port=c.hive_port)[-1]
            self.assertEqual((kind, error["code"]), ("error", "NO_WORKERS_AVAILABLE"))
            self.assertIn("no accelerate worker is installed on this hive", error["message"])


if __name__ == "__main__":
    main()
