"""What a worker remembers below its KV cache: in memory, and on disk across restarts, kills and other workers (ENGINE.md 5)."""
import os
import pathlib
import random
import re
import shutil
import stat
import tempfile
import threading
import time
import unittest

from harness import DATA, SANITIZED, STORIES, Worker, main, text_of, wait_for

KILLS = int(os.environ.get("LLORCH_KILLS", "5" if SANITIZED else "15"))
PROMPTS = [f"Once upon a time there was a {who} who lived in a {place}. " + "One day they went out to play with a ball. " * 6
           for who in ("dog", "girl", "bear") for place in ("house", "tree")]


def ask(w, prompt, **more):
    """(text, cached_tokens)"""
    status, _, body = w.post("/v1/completions", {"model": "default", "prompt": prompt, "max_tokens": 40, "temperature": 0.9, "seed": 5} | more)
    assert status == 200, (status, body)
    return body["choices"][0]["text"], body["usage"]["prompt_tokens_details"]["cached_tokens"]


def model(w):
    return w.get("/v1/models")[2]["data"][0]["id"]


class Cache(unittest.TestCase):
    def setUp(self):
        if not STORIES.exists():
            self.skipTest(f"not run: {STORIES} is not there")
        self.folder = tempfile.mkdtemp(prefix="llorch-cache-")
        self.addCleanup(shutil.rmtree, self.folder)
        with Worker("--no-prefix-cache", model=STORIES) as w:
            self.name = model(w)
            self.want = [self.ask(w, p)[0] for p in PROMPTS]

    def ask(self, w, prompt, **more):
        return ask(w, prompt, model=self.name, **more)

    def worker(self, *flags, **more):
        return Worker("--cache-dir", self.folder, *flags, model=STORIES, **more)

    def test_a_restart_goes_on_from_the_disk(self):
        with self.worker() as w:
            self.assertEqual([self.ask(w, p) for p in PROMPTS[:2]], [(self.want[0], 0), (self.want[1], 0)])
            wait_for(lambda: w.metric("llorch_worker_cache_disk_written_total") >= 2)
        with self.worker() as w:
            text, cached = self.ask(w, PROMPTS[0])
            self.assertEqual((text, cached % 64, cached > 0), (self.want[0], 0, True))
            wait_for(lambda: w.metric("llorch_worker_cache_disk_hits_total") > 0)
            self.assertGreater(w.metric("llorch_worker_cache_disk_bytes"), 0)
        for p in pathlib.Path(self.folder).rglob("*"):
            self.assertEqual(stat.S_IMODE(p.stat().st_mode) & 0o077, 0, p)
        # Other keys and values, another context, another instruction set: nothing of it fits, and nothing of it is taken.
        for flags in (["--kv-type", "f32"], ["--ctx", "256"], ["--isa", "scalar"]):
            with self.worker(*flags) as w:
                self.assertEqual(self.ask(w, PROMPTS[0])[1], 0, flags)
        with self.worker() as w:
            self.assertGreater(self.ask(w, PROMPTS[0])[1], 0)

    def test_the_environment_says_it_too(self):
        for _ in range(2):
            with Worker(model=STORIES, env={"LLORCH_CACHE_DIR": self.folder, "LLORCH_CACHE_DISK_MB": "50"}) as w:
                last = self.ask(w, PROMPTS[0])
        self.assertGreater(last[1], 0)

    def test_memory_gives_back_what_others_displaced(self):
        # Ten pages of 64 positions for prompts of some 100 tokens each.
        with Worker("--cache-ram-mb", "64", "--kv-cache-size-mb", "0.5", model=STORIES) as w:
            for round in range(3):
                for i, p in enumerate(PROMPTS):
                    text, cached = self.ask(w, p)
                    self.assertEqual(text, self.want[i])
                    if round:
                        self.assertGreater(cached, 0)
            wait_for(lambda: w.metric("llorch_worker_cache_memory_hits_total") > 0)
            self.assertGreater(w.metric("llorch_worker_cache_memory_bytes"), 0)

    def test_a_cache_without_room_for_the_states_is_refused(self):
        path = DATA / "models/zoo/granitemoehybrid/model-f32.gguf"
        if not path.exists():
            self.skipTest(f"not run: {path} is not there")
        w = Worker("--kv-cache-size-mb", "0.1", "--max-batch", "64", model=path, wait=False)
        self.assertEqual(w.process.wait(30), 1)
        self.assertRegex(w.logs(), r"--kv-cache-size-mb 0\.1 is too little: .*64 sequences.*take [\d.]+")
        least = float(re.search(r"take ([\d.]+)", w.logs()).group(1))
        with Worker("--kv-cache-size-mb", str(least), "--max-batch", "64", model=path) as w:
            self.assertGreaterEqual(w.metric("llorch_worker_kv_pages_total"), 1)

    def test_thirty_two_long_answers_on_a_cache_for_eight(self):
        """None is refused, all end, the oldest first, and each says what it says alone. By hand with answers of 4,000 tokens: LLORCH_LONG=4000 LLORCH_LONG_MODEL=FILE."""
        long = int(os.environ.get("LLORCH_LONG", "450"))
        path = os.environ.get("LLORCH_LONG_MODEL", str(STORIES))
        flags = ["--max-batch", "32", "--queue-capacity", "64", "--ctx", str(long + 62), "--max-tokens-out", str(long)]
        ask = [{"prompt": f"Once {i} upon a time", "max_tokens": long, "seed": i, "temperature": 1, "ignore_eos": True} for i in range(32)]
        with Worker(*flags, model=path) as w:
            want = [text_of(w.generate(**a)) for a in ask]
        with Worker(*flags, "--kv-cache-size-mb", os.environ.get("LLORCH_LONG_MB", "10"), model=path) as w:
            pages = w.metric("llorch_worker_kv_pages_total")
            self.assertLess(pages, 9 * (long + 62) // 64)
            started, ends, got = time.monotonic(), {}, {}
            jobs = [w.infer(**a) for a in ask]

            def follow(i):
                events, done = w.stream(jobs[i]["sse_url"])
                ends[i], got[i] = time.monotonic() - started, text_of(events) if done else None

            threads = [threading.Thread(target=follow, args=(i,)) for i in range(32)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertEqual([got[i] for i in range(32)], want)
            self.assertGreater(w.metric("llorch_worker_requests_rested_total"), 0)
            order = sorted(ends, key=ends.get)
            self.assertLessEqual(max(abs(place - i) for place, i in enumerate(order)), 8, order)
            waits = sorted(ends.values())
            print(f"32 answers of {long} tokens on {pages:.0f} pages: rests {w.metric('llorch_worker_requests_rested_total'):.0f}, the last token after {waits[16]:.1f} s (median), {waits[31]:.1f} s (p99)")

    def test_a_folder_that_cannot_be_used_is_told_at_once(self):
        file = pathlib.Path(self.folder) / "file"
        file.write_text("x")
        for folder in (file, file / "below", "/proc/none"):
            w = Worker("--cache-dir", str(folder), model=STORIES, wait=False)
            self.assertEqual(w.process.wait(30), 1)
            self.assertIn(str(folder), w.logs())

    def test_two_workers_share_a_folder_and_any_may_be_killed(self):
        """Answers are always those of a worker without a cache, and no content is ever found damaged."""
        chance = random.Random(7)
        for kill in range(KILLS):
            workers = [self.worker("--cache-ram-mb", "2", "--cache-disk-mb", "3", "--kv-cache-size-mb", "0.7") for _ in range(2)]
            wrong = []

            def talk(w, i):
                try:
                    if (got := self.ask(w, PROMPTS[i])[0]) != self.want[i]:
                        wrong.append((i, got))
                except (OSError, AssertionError, ValueError):
                    pass  # it was killed

            threads = [threading.Thread(target=talk, args=(workers[i % 2], i)) for i in range(len(PROMPTS))]
            for t in threads:
                t.start()
            time.sleep(chance.random() * 0.3)
            workers[kill % 2].process.kill()
            workers[kill % 2].process.wait()
            for t in threads:
                t.join()
            other = workers[1 - kill % 2]
            self.assertEqual([self.ask(other, p)[0] for p in PROMPTS], self.want)
            self.assertEqual(other.metric("llorch_worker_cache_damaged_total"), 0)
            other.stop()
            self.assertEqual(wrong, [])
        with self.worker() as w:
            answers = [self.ask(w, p) for p in PROMPTS]
            self.assertEqual([text for text, _ in answers], self.want)
            self.assertTrue(any(cached for _, cached in answers))
            self.assertEqual(w.metric("llorch_worker_cache_damaged_total"), 0)


if __name__ == "__main__":
    main()
