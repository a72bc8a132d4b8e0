"""Settings of one model: written in the queen's configuration file, carried to the hive and to the worker, counted where memory is; and the share of the
cores that a hive gives its workers."""
import contextlib
import os
import pathlib
import sqlite3
import subprocess
import time
import unittest

from colony import BIN, STORIES, Colony, free_port, main, not_run, wait_for


def flags_of(process):
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
            flags = flags_of(worker["pid"])
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
            self.assertEqual((flags_of(haiku["pid"])["--ctx"], flags_of(haiku["pid"]).get("--kv-type")), ("256", None))  # the model's own
            self.assertEqual((flags_of(stories["pid"])["--ctx"], flags_of(stories["pid"])["--kv-type"]), ("64", "q8_0"))
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

    def test_they_are_set_while_the_queen_runs(self):
        """Over what the file says, at the next load, and kept over restarts."""
        at = "/v1/model-settings/builtin:haiku"
        with colony('[model."builtin:haiku"]\nctx = 64\nthreads = 1\n') as c:
            queen = c.queen()
            told = c.call("GET", at)[2]
            self.assertEqual((told["model"], told["settings"], told["loaded"]), ("builtin:haiku", {"ctx": {"value": "64", "from": "file"}, "threads": {"value": "1", "from": "file"}}, 0))
            c.infer(max_tokens=2)
            status, _, told = c.call("PUT", at, {"context": 128, "keep-alive": "2s", "kv_type": "q8_0", "temperature": 0.5, "max-batch": None})
            self.assertEqual((status, told["loaded"]), (200, 1), told)
            self.assertIn("next load", told["applies"])
            self.assertEqual(told["settings"], {"ctx": {"value": "128", "from": "set", "file": "64"}, "threads": {"value": "1", "from": "file"}, "keep-alive": {"value": "2s", "from": "set"}, "kv-type": {"value": "q8_0", "from": "set"}, "temperature": {"value": "0.5", "from": "set"}})
            [worker] = self.workers(c)
            self.assertEqual(flags_of(worker["pid"])["--ctx"], "64")  # one that runs keeps what it has
            c.call("POST", "/v1/jobs", {"operation": "model_unload", "model": "haiku"})
            wait_for(lambda: not self.workers(c))
            c.infer(max_tokens=2)
            [worker] = self.workers(c)
            flags = flags_of(worker["pid"])
            self.assertEqual((flags["--ctx"], flags["--kv-type"], flags["--threads"]), ("128", "q8_0", "1"))
            self.assertNotIn("--keep-alive", flags)
            wait_for(lambda: not self.workers(c), 15)  # it was idle for two seconds
            listed = c.call("GET", "/v1/model-settings")[2]
            self.assertEqual([m["model"] for m in listed["models"]], ["builtin:haiku"])
            self.assertIn({"key": "kv-type", "type": "choice", "about": "numbers of the KV cache", "takes": "f32, f16, q8_0", "values": ["f32", "f16", "q8_0"]}, listed["keys"])
            queen.terminate()
            queen.wait(20)
            c.queen()
            self.assertEqual(c.call("GET", "/v1/model-settings/haiku")[2]["settings"]["ctx"], {"value": "128", "from": "set", "file": "64"})
            self.assertEqual(c.call("DELETE", at)[2]["settings"], {"ctx": {"value": "64", "from": "file"}, "threads": {"value": "1", "from": "file"}})

    def test_what_cannot_be_kept_is_not_in_force(self):
        at = "/v1/model-settings/haiku"
        with colony("") as c:
            c.queen()
            c.call("PUT", at, {"ctx": 64})
            with contextlib.closing(sqlite3.connect(c.home / ".local/share/llorch/queen.db", timeout=20)) as db:
                db.execute("ALTER TABLE model_settings RENAME TO away")
                for method, body in (("PUT", {"ctx": 128}), ("DELETE", None)):
                    status, _, told = c.call(method, at, body)
                    self.assertEqual(status, 500, told)
                    self.assertEqual(c.call("GET", at)[2]["settings"], {"ctx": {"value": "64", "from": "set"}}, method)
                db.execute("ALTER TABLE away RENAME TO model_settings")
            self.assertEqual(c.call("PUT", at, {"ctx": 128})[2]["settings"], {"ctx": {"value": "128", "from": "set"}})

    def test_what_is_no_setting_is_refused_by_name(self):
        with colony("") as c:
            c.queen()
            for body, param, words in (({"ctxx": 5}, "ctxx", "'ctxx' is no setting of a model: did you mean 'ctx'?"), ({"threads": 2, "temperature": 3}, "temperature", "'temperature' must be a number from 0 to 2"), ({"device": "tpu"}, "device", "'device' must be cpu, gpu"), ({"ctx": [1]}, "ctx", "must be a text, a number or null"), ({"ctx": "0128"}, "ctx", "'ctx' must be a whole number"), ({"chat-template": "/x\n"}, "chat-template", "without control characters"), ({"chat-template": "/" + "x" * 5000}, "chat-template", "at most 4095 bytes")):
                status, _, told = c.call("PUT", "/v1/model-settings/haiku", body)
                self.assertEqual((status, told["error"]["param"]), (400, param), told)
                self.assertIn(words, told["error"]["message"])
            self.assertEqual(c.call("GET", "/v1/model-settings/haiku")[2]["settings"], {})  # all or nothing
            for path in ("/v1/model-settings/hf:org/repo@main:Q4_K_M", "/v1/model-settings/hf:org%2Frepo@main:Q4_K_M", "/v1/model-settings/org%2frepo:Q4_K_M"):
                self.assertEqual(c.call("GET", path)[2]["model"], "hf:org/repo@main:Q4_K_M", path)
            for path in ("/v1%2Fmodel-settings/haiku", "/v1/model-settings%2Fhaiku", "/v1%2Fstatus"):
                self.assertEqual(c.call("GET", path)[0], 400, path)
            c.call("PUT", "/v1/model-settings/org%2Frepo", {"ctx": 99})
            self.assertEqual(c.call("GET", "/v1/model-settings/org%2Frepo:Q8_0")[2]["settings"], {"ctx": {"value": "99", "from": "repository"}})

    def test_from_the_terminal(self):
        with colony("") as c:
            c.queen()
            r = c.keeper("model", "set", "haiku", "ctx", "128")
            self.assertEqual((r.returncode, r.stdout), (0, "builtin:haiku: ctx = 128, at the next load of the model: workers that run keep what they have\n"), r.stderr)
            shown = c.keeper("model", "show", "haiku").stdout
            self.assertEqual([line.split() for line in shown.splitlines()][1:], [["setting", "value", "from"], ["ctx", "128", "set"]], shown)
            c.infer(max_tokens=2)
            self.assertIn("llorch model unload builtin:haiku", c.keeper("model", "set", "haiku", "threads", "1").stdout)
            r = c.keeper("model", "set", "haiku", "thread", "1")
            self.assertEqual(r.returncode, 2)
            self.assertIn("'thread' is no setting of a model: did you mean 'threads'?", r.stderr)
            for key in ("ctx", "threads"):
                self.assertEqual(c.keeper("model", "unset", "haiku", key).returncode, 0)
            self.assertIn("nothing is set", c.keeper("model", "show", "haiku").stdout)
            self.assertIn("leave out --direct", c.keeper("model", "show", "haiku", "--direct").stderr)
            self.assertIn("keep-alive", c.keeper("model", "set", "--help").stdout)

    def test_a_device_of_its_own(self):
        """It is where a worker is made for requests that name none; with a word why where it is not there."""
        with colony('[model."builtin:haiku"]\ndevice = "cuda:7"\nkeep-alive = "always"\n') as c:
            c.queen()
            self.assertEqual(c.infer(max_tokens=2)[-1][1], "error")
            self.assertEqual(c.infer(max_tokens=2, device="cpu")[-1][1], "end")
            [worker] = self.workers(c)
            self.assertIsNone(worker.get("sleeps_in_s"))
            self.assertEqual(c.infer(max_tokens=2)[-1][1], "end")  # the setting concerns the next load
            chat = {"model": "haiku", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
            status, _, made = c.call("POST", "/v1/responses", {"model": "haiku", "input": "x", "max_output_tokens": 16})
            self.assertEqual(status, 200, made)
            c.call("PUT", "/v1/model-settings/haiku", {"device": "gpu"})
            self.assertEqual(c.call("POST", "/v1/chat/completions", chat)[0], 200)
            self.assertEqual(c.call("GET", f"/v1/responses/{made['id']}")[0], 200)
            self.assertEqual([w["pid"] for w in self.workers(c)], [worker["pid"]])
            c.call("POST", "/v1/jobs", {"operation": "model_unload", "model": "haiku"})
            wait_for(lambda: not self.workers(c))
            c.call("PUT", "/v1/model-settings/haiku", {"device": "cuda:7"})
            status, _, told = c.call("POST", "/v1/chat/completions", chat)
            self.assertEqual(status, 503, told)
            self.assertIn("no hive has the device cuda:7", told["error"]["message"])
            c.call("PUT", "/v1/model-settings/haiku", {"device": "cpu"})
            self.assertEqual(c.infer(max_tokens=2)[-1][1], "end")

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
            threads = [int(flags_of(w["pid"])["--threads-share"]) for w in sorted(self.workers(c), key=lambda w: w["port"])]
            cores = len(os.sched_getaffinity(0))
            self.assertEqual(threads, [cores, max(1, cores // 2)])
        with colony('[model."builtin:haiku"]\nthreads = 1\n') as c:
            c.queen()
            c.infer(max_tokens=2)
            self.assertEqual(flags_of(self.workers(c)[0]["pid"])["--threads"], "1")
        running = []
        for settings in ("", "[worker]\nthreads = 1\n"):  # which a share does not change
            with colony(settings) as c:
                c.queen()
                c.infer(max_tokens=2)
                tasks = pathlib.Path(f"/proc/{self.workers(c)[0]['pid']}/task")
                running.append(min(time.sleep(0.05) or len(list(tasks.iterdir())) for _ in range(20)))  # some are there for a moment
        self.assertEqual(running[0] - running[1], cores - 1)


if not STORIES.exists():
    not_run(f"{STORIES} is not there")
if __name__ == "__main__":
    main()
