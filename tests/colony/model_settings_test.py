"""Settings of one model: written in the queen's configuration file, carried to the hive and to the worker, counted where memory is; and the share of the
cores that a hive gives its workers."""
import contextlib
import os
import pathlib
import subprocess
import unittest

from colony import BIN, STORIES, Colony, free_port, main, not_run


def told(process):
    """A worker's flags, from its command line."""
    words = pathlib.Path(f"/proc/{process}/cmdline").read_bytes().decode().split("\0")
    return {a: b for a, b in zip(words, words[1:], strict=False) if a.startswith("--")}


@contextlib.contextmanager
def colony(text):
    with Colony() as c:
        file = c.home / ".config/llorch/config.toml"
        file.parent.mkdir(parents=True)
        file.write_text(text)
        yield c


class ModelSettings(unittest.TestCase):
    def workers(self, c):
        return c.call("GET", "/v1/status")[2]["workers"]

    def test_they_reach_the_worker(self):
        with colony('[model."builtin:haiku"]\nctx = 128\ntemperature = 0.25\ntop_p = 0.5\nkv-type = "f32"\nmax-batch = 3\n') as c:
            c.queen()
            started = next(data for _, kind, data in c.infer(max_tokens=2) if kind == "started")
            self.assertEqual([started["params"][name] for name in ("temperature", "top_p", "top_k")], [0.25, 0.5, 40])
            [worker] = self.workers(c)
            info = c.call("GET", "/v1/info", port=worker["port"])[2]
            self.assertEqual((info["context_length"], info["sampling"]["temperature"], info["sampling"]["source"]), (128, 0.25, "settings"))
            flags = told(worker["pid"])
            self.assertEqual({name: flags[name] for name in ("--ctx", "--kv-type", "--max-batch")}, {"--ctx": "128", "--kv-type": "f32", "--max-batch": "3"})
            asked = next(data for _, kind, data in c.infer(max_tokens=2, temperature=1) if kind == "started")
            self.assertEqual(asked["params"]["temperature"], 1)

    @unittest.skipUnless(STORIES.exists(), "the test data is not there")
    def test_others_are_as_they_were(self):
        with colony(f'[model."file:{STORIES}"]\nctx = 64\nkv_type = "q8_0"\n') as c:
            c.queen()
            c.infer(max_tokens=2)
            self.assertEqual(c.infer(max_tokens=2, model=f"file:{STORIES}")[-1][1], "end")
            haiku, stories = (next(w for w in self.workers(c) if name in w["model_ref"]) for name in ("haiku", "stories"))
            self.assertNotIn("--ctx", told(haiku["pid"]))
            self.assertEqual((told(stories["pid"])["--ctx"], told(stories["pid"])["--kv-type"]), ("64", "q8_0"))
        need = {}
        with Colony() as c:
            c.queen("--hive-program", str(BIN / "llorch-hive"))
            c.infer(max_tokens=2)
            for kv in ("f32", "f16", "q8_0", "f8"):
                status, _, body = c.call("GET", f"/v1/memory-check?model=file:{STORIES}&ctx=512&parallel=1024&kv={kv}", port=c.hive_port)
                need[kv] = status
        self.assertEqual(need, {"f32": 204, "f16": 204, "q8_0": 204, "f8": 400})

    def test_wrong_ones_stop_the_queen(self):
        for text, parts in (('[model."builtin:haiku"]\nctx = 1\n\nctxx = 5\n', (":4: ", "'ctxx' is no setting of a model", "did you mean 'ctx'?")), ('[model."builtin:haiku"]\ntemperature = 3\n', (":2: ", "'temperature' must be a number from 0 to 2")), ('[model."haiku"]\nctx = 5\n', (":1: ", '[model."haiku"] names no model')),
                            ("[model]\nctx = 5\n", (":2: ", "'ctx' stands outside of a model")), ("model = 5\n", (":1: ", "'model' is no setting of the queen")), ('[model."builtin:haiku"]\nctx = [1, 2]\n', (":2: ", "'ctx' must be a text or a number"))):
            with self.subTest(text), colony(text) as c:
                r = subprocess.run([BIN / "llorch-queen", "--local-mode", "--port", str(free_port())], capture_output=True, text=True, env=c.env, timeout=20)
                self.assertEqual(r.returncode, 2, r.stderr)
                for part in (str(c.home / ".config/llorch/config.toml"), *parts):
                    self.assertIn(part, r.stderr)

    def test_a_hive_refuses_what_is_no_setting(self):
        with colony("") as c:
            c.queen()
            c.infer(max_tokens=2)
            for settings in ({"listen": "0.0.0.0"}, {"ctx": 5}, [], {"ctx": "0"}):
                status, _, body = c.call("POST", "/v1/jobs", {"operation": "worker_spawn", "model": "builtin:haiku", "settings": settings}, port=c.hive_port)
                self.assertEqual((status, body["error"]["param"]), (400, "settings"), body)

    @unittest.skipUnless(STORIES.exists(), "the test data is not there")
    def test_workers_share_the_cores(self):
        with colony("") as c:
            c.queen()
            c.infer(max_tokens=2)
            c.infer(max_tokens=2, model=f"file:{STORIES}")
            threads = [int(told(w["pid"])["--threads-share"]) for w in sorted(self.workers(c), key=lambda w: w["port"])]
            cores = len(os.sched_getaffinity(0))
            self.assertEqual(threads, [cores, max(1, cores // 2)])
        with colony('[model."builtin:haiku"]\nthreads = 1\n') as c:
            c.queen()
            c.infer(max_tokens=2)
            self.assertEqual(told(self.workers(c)[0]["pid"])["--threads"], "1")
        running = []
        for settings in ("", "[worker]\nthreads = 1\n"):  # which a share does not change
            with colony(settings) as c:
                c.queen()
                c.infer(max_tokens=2)
                running.append(len(list(pathlib.Path(f"/proc/{self.workers(c)[0]['pid']}/task").iterdir())))
        self.assertEqual(running[0] - running[1], cores - 1)


if not STORIES.exists():
    not_run(f"{STORIES} is not there")
if __name__ == "__main__":
    main()
