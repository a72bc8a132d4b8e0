"""What a hive promises a worker is what the worker takes, and the context that nobody set is the model's own as far as memory allows. With a real model: its
vocabulary and layers are what memory goes to."""
import os
import pathlib
import re
import unittest

from colony import ROOT, SANITIZED, Colony, main, not_run, wait_for

SMOLLM2 = pathlib.Path(os.environ.get("LLORCH_TEST_MODELS", ROOT / ".test-models")) / "smollm2-135m-q4_1.gguf"
MIB = 1 << 20


def peak_of(pid):
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])


def with_settings(c, text):
    file = c.home / ".config/llorch/config.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@unittest.skipUnless(SMOLLM2.exists(), "the real model is not there")
class Promise(unittest.TestCase):
    def load(self, c):
        """The worker, and what was told while it was made."""
        events = c.job({"operation": "infer", "model": str(SMOLLM2), "prompt": "x", "raw": True, "max_tokens": 1})
        self.assertEqual(events[-1][1], "end", events[-1])
        told = " ".join(data.get("human", "") for _, kind, data in events if kind == "narration")
        return wait_for(lambda: next((w for w in c.call("GET", "/v1/status")[2]["workers"] if w.get("context")), None)), told

    def promised(self, text):
        with Colony() as c:
            with_settings(c, text)
            c.queen()
            worker, told = self.load(c)
            return worker["memory_bytes"], worker["context"], told

    def test_a_small_model_promises_little_and_takes_it(self):
        """98 MB in its file: 944 MB were promised once."""
        with Colony() as c:
            c.queen()
            worker, told = self.load(c)
            print(f"promised with all of its context: {worker['memory_bytes'] / MIB:.0f} MiB")
            self.assertLess(worker["memory_bytes"], 400 * MIB)
            self.assertEqual(worker["context"], 8192)
            self.assertIn("a context of 8192, ", told)
            c.call("PUT", f"/v1/model-settings/file:{SMOLLM2}", {"ctx": 2048, "threads": 2})
            c.job({"operation": "model_unload", "model": str(SMOLLM2)})
            wait_for(lambda: not c.call("GET", "/v1/status")[2]["workers"])
            worker, _ = self.load(c)
            for n in range(5):  # each with tokens of its own, so that the whole cache is written
                prompt = [1000 + (n * 7919 + i * 31) % 40_000 for i in range(1000)]
                self.assertEqual(c.call("POST", "/v1/completions", {"prompt": prompt, "max_tokens": 2, "model": worker["model_ref"]}, port=worker["port"], timeout=300)[0], 200)
            peak, promise = peak_of(worker["pid"]), worker["memory_bytes"]
            print(f"promised {promise / MIB:.0f} MiB, taken {peak / MIB:.0f} MiB")
            if SANITIZED:
                return not_run("under sanitizers: what they take is another's")
            self.assertGreaterEqual(promise, peak)
            self.assertLess(promise, 1.2 * peak)

    def test_what_the_file_says_of_workers_counts(self):
        all_of_it, _, _ = self.promised("")
        one, context, _ = self.promised('[worker]\nctx = 512\nmax-batch = 1\n')
        wide, _, _ = self.promised('[worker]\nctx = 512\nmax-batch = 1\nkv-type = "f32"\n')
        self.assertEqual(context, 512)
        cache = 512 * 30 * 3 * 64 * 2 * 2  # positions, layers, heads, their width, keys and values, bytes
        self.assertAlmostEqual(wide - one, cache * 1.1, delta=2 * MIB)
        self.assertGreater(all_of_it - one, 150 * MIB)

    def test_the_context_follows_the_memory_that_there_is(self):
        """One sequence: 94 MB of weights, 23 kB for each position."""
        _, context, told = self.promised("[worker]\nmax-batch = 1\n[hive]\nmemory-limit-mb = 800\n")
        self.assertEqual(context, 8192)
        _, context, told = self.promised("[worker]\nmax-batch = 1\n[hive]\nmemory-limit-mb = 350\n")
        self.assertEqual(context, 4096)
        self.assertIn("a context of 4096 of the model's 8192, ", told)

    def test_a_context_that_is_set_is_taken_or_refused(self):
        with Colony() as c:
            with_settings(c, f'[hive]\nmemory-limit-mb = 250\n[worker]\nmax-batch = 1\n[model."file:{SMOLLM2}"]\nctx = 8192\n')
            c.queen()
            ask = {"operation": "infer", "model": str(SMOLLM2), "prompt": "x", "raw": True, "max_tokens": 1}
            end = c.job(ask)[-1]
            self.assertEqual(end[1], "error")
            self.assertIn("MB of it are for a context of 8192, which is set", end[2]["message"])
            c.call("PUT", f"/v1/model-settings/file:{SMOLLM2}", {"ctx": 9000})
            end = c.job(ask)[-1]
            self.assertEqual((end[2]["code"], end[2]["message"]), ("INVALID_REQUEST", "a context of 9000 is set for the model, which has 8192"))
            c.call("PUT", f"/v1/model-settings/file:{SMOLLM2}", {"ctx": 1024})
            self.assertEqual(c.job(ask)[-1][1], "end")


if not SMOLLM2.exists():
    not_run(f"{SMOLLM2} is not there (./dev models)")
if __name__ == "__main__":
    main()
