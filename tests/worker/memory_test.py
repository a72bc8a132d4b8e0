"""A worker that gets too little memory: it serves, or it ends in order and says so; never by a signal (15.11)."""
import json
import pathlib
import resource
import subprocess
import tempfile
import unittest

from harness import BINARY, KIND, SANITIZED, Worker, main, peak_of

GGUF = pathlib.Path(BINARY).with_name("llorch-gguf")


class Memory(unittest.TestCase):
    def test_loading_with_too_little_memory_ends_in_order(self):
        if SANITIZED:
            return print("not run under sanitizers: they reserve terabytes of addresses")
        with tempfile.TemporaryDirectory() as d:
            model = pathlib.Path(d) / "m.gguf"
            subprocess.run([GGUF, "synth", "--shape", "tiny-llama", "--type", "Q8_0", model], check=True, stdout=subprocess.DEVNULL)
            told = 0
            for limit_mb in (150, 200, 260, 330, 420, 520, 640):
                with self.subTest(limit_mb=limit_mb):
                    limit = limit_mb << 20
                    r = subprocess.run([BINARY, "generate", "-m", model, "-p", "x", "--max-tokens", "3", "--threads", "2"], capture_output=True, text=True, timeout=60,
                                       preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
                    self.assertIn(r.returncode, (0, 1), r.stderr)
                    told += r.returncode == 1 and "alloc" in r.stderr + r.stdout or "memory ran out" in r.stderr
            self.assertGreater(told, 0, "no limit was too small: the test tests nothing")

    def test_the_program_without_a_model_takes_what_is_promised(self):
        """What src/model/memory.h says of the program itself is a measured number: it must be measured again when the program grows."""
        if SANITIZED or KIND != "cpu":
            return print("not run: under sanitizers and with a library of products a program's memory is another")
        with tempfile.TemporaryDirectory() as d:
            model = pathlib.Path(d) / "m.gguf"
            subprocess.run([GGUF, "synth", "--shape", "tiny-llama", "--type", "Q8_0", model], check=True, stdout=subprocess.DEVNULL)
            said = json.loads(subprocess.run([GGUF, "inspect", model, "--memory", "--context", "256", "--json"], check=True, capture_output=True, text=True).stdout)
            with Worker("--max-batch", "1", "--threads", "2", model=model) as w:
                self.assertEqual(w.post("/v1/completions", {"model": "m.gguf", "prompt": [3] * 200, "max_tokens": 4})[0], 200)
                peak = peak_of(w.process.pid)
            foretold = sum(said[k] for k in ("weight_bytes", "cache_bytes", "step_bytes", "program_bytes"))
            print(f"the program: foretold {foretold / 2**20:.1f} MiB, taken {peak / 2**20:.1f} MiB")
            self.assertLess(abs(foretold - peak), 3 << 20, (said, peak))


if __name__ == "__main__":
    main()
