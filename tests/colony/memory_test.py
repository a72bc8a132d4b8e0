"""Models that do not fit together, and hives that hang: nobody fails while waiting can end (issue 15, numbers 13 and 14)."""
import json
import os
import shutil
import signal
import threading
import time
import unittest

from actor import Actor
from colony import MAY_STOP, SANITIZED, STORIES, Colony, free_port, main, wait_for

HAIKU = "builtin:haiku"


def status(c):
    return c.call("GET", "/v1/status")[2]


def ready(c, *names):
    wait_for(lambda: {h["id"] for h in status(c)["hives"] if h["known"]} >= set(names), 15)


def infer(c, model, **more):
    return c.job({"operation": "infer", "model": str(model), "prompt": "x", "max_tokens": 3, **more})


class Silent(unittest.TestCase):
    def test_a_hive_that_hangs_is_passed_over_and_welcome_back(self):
        with Colony(**MAY_STOP) as c:
            c.queen("--heartbeat-missed-threshold", "60")
            hives = {name: c.hive(name, free_port()) for name in ("ant", "bee")}
            ready(c, "ant", "bee")
            events = infer(c, HAIKU)
            first = next(d["hive_id"] for _, k, d in events if k == "started")
            other = ({"ant", "bee"} - {first}).pop()
            hives[first].send_signal(signal.SIGSTOP)
            try:
                begin = time.monotonic()
                events = infer(c, STORIES) if STORIES.exists() else infer(c, HAIKU, hive_id=other)
                self.assertEqual(events[-1][1], "end", events[-1])
                self.assertLess(time.monotonic() - begin, 25, "a step waited for a hive that hangs")
                if STORIES.exists() and any(d.get("action") == "hive_unknown" for _, _, d in events):
                    self.assertEqual({h["id"]: h["state"] for h in status(c)["hives"]}, {first: "unknown", other: "online"})
                # Only this hive may run it: it is waited for, not declared dead.
                ends = []
                waiting = threading.Thread(target=lambda: ends.append(infer(c, STORIES if STORIES.exists() else HAIKU, hive_id=first)))
                told = (c.home / "queen.log").read_text().count("does not answer")
                waiting.start()
                wait_for(lambda: {h["id"]: h["state"] for h in status(c)["hives"]}[first] == "unknown", 20)
                wait_for(lambda: (c.home / "queen.log").read_text().count("does not answer") > told, 20)  # it may have been unknown before
            finally:
                hives[first].send_signal(signal.SIGCONT)
            waiting.join(40)
            self.assertEqual([(e[-1][1]) for e in ends], ["end"], ends)
            self.assertTrue(any("does not answer" in d.get("human", "") for _, _, d in ends[0]), ends)
            wait_for(lambda: {h["id"]: h["state"] for h in status(c)["hives"]} == {first: "online", other: "online"}, 10)
            c.wait_logged("queen", "does not answer: its state is unknown")

    def test_this_machine_s_hive_is_replaced_when_it_hangs(self):
        with Colony() as c:
            c.queen("--heartbeat-missed-threshold", "60")
            self.assertEqual(infer(c, HAIKU)[-1][1], "end")
            old = next(pid for pid, line in c.census() if "llorch-hive" in line)
            for w in status(c)["workers"]:
                self.assertEqual(c.job({"operation": "worker_process_delete", "pid": w["pid"]})[-1][1], "end")
            os.kill(old, signal.SIGSTOP)
            events = infer(c, HAIKU)
            self.assertEqual(events[-1][1], "end", events[-1])
            self.assertIn("hive_replace", [d.get("action") for _, _, d in events])
            self.assertNotIn(old, [pid for pid, _ in c.census()])


class SilentInTheMiddle(unittest.TestCase):
    """A worker that hangs while the queen relays its answer, on both routes."""
    PATIENCE = 30  # seconds: the queen asks after 2, twice, with 4 for each answer

    def actor(self, name, **more):
        actor = Actor(name, **more)
        self.addCleanup(actor.close)
        return actor

    def report(self, c, actor, **more):
        self.assertEqual(c.report(actor.beat(**more))[0], 200)
        ready(c, f"hive-{actor.name}")

    def ask(self, c, route, **fields):
        """The text of an answer, or of what came of it, and how long it took."""
        begin = time.monotonic()
        if route == "native":
            made = c.call("POST", "/v1/jobs", {"operation": "infer", "model": HAIKU, "prompt": "x"} | fields)[2]
            text = c.call("GET", made["sse_url"])[2]
        else:
            text = c.call("POST", "/v1/chat/completions", {"model": HAIKU, "messages": [{"role": "user", "content": "x"}], "stream": True} | fields)[2]
        return json.dumps(text) if isinstance(text, dict) else text, time.monotonic() - begin

    def test_a_stream_that_hangs_ends_with_an_error(self):
        for route in ("native", "chat"):
            with self.subTest(route), Colony() as c:
                c.queen("--heartbeat-missed-threshold", "60")
                ant = self.actor("ant", hangs="after a token")
                self.report(c, ant)
                text, took = self.ask(c, route)
                self.assertIn("ant", text)  # what came before is kept
                self.assertIn("WORKER_UNHEALTHY", text)
                self.assertNotIn("two of ant", text)
                self.assertLess(took, self.PATIENCE)
                c.wait_logged("queen", "worker-ant on hive-ant does not answer")

    def test_what_has_sent_nothing_is_placed_elsewhere(self):
        for route in ("native", "chat"):
            with self.subTest(route), Colony() as c:
                c.queen("--heartbeat-missed-threshold", "60")
                ant, bee = self.actor("ant", hangs="at once"), self.actor("bee")
                self.report(c, ant)
                got = []
                asking = threading.Thread(target=lambda: got.append(self.ask(c, route)))
                asking.start()
                self.assertTrue(ant.reached.wait(20))
                self.report(c, bee)
                asking.join(60)
                text, took = got[0]
                self.assertIn("bee", text)
                self.assertNotIn("event: error", text)
                self.assertIn("[DONE]", text)
                self.assertLess(took, self.PATIENCE)

    def test_who_is_slow_but_alive_goes_on_though_its_hive_hangs(self):
        for route in ("native", "chat"):
            with self.subTest(route), Colony() as c:
                c.queen("--heartbeat-missed-threshold", "60")
                hive, worker = self.actor("box"), self.actor("ant", hangs="after a token, but lives")
                self.report(c, worker, hive=hive)
                hive.hung = True
                got = []
                asking = threading.Thread(target=lambda: got.append(self.ask(c, route)))
                asking.start()
                self.assertTrue(worker.reached.wait(20))
                wait_for(lambda: worker.paths.count("GET /health") >= 3, 30)
                worker.over.set()
                asking.join(30)
                self.assertNotIn("error", got[0][0])
                self.assertIn("[DONE]", got[0][0])

    def test_a_real_worker_that_is_stopped(self):
        for route in ("native", "chat"):
            with self.subTest(route), Colony() as c:
                c.queen()
                self.assertEqual(infer(c, HAIKU)[-1][1], "end")
                old = status(c)["workers"][0]["pid"]
                os.kill(old, signal.SIGSTOP)
                text, took = self.ask(c, route, max_tokens=4)
                self.assertNotIn('"error"', text)
                self.assertIn("[DONE]", text)
                self.assertLess(took, 2 * self.PATIENCE)  # its hive ends it with its whole ladder before another is made
                self.assertNotIn(old, [w["pid"] for w in status(c)["workers"]])


def need_bytes(c, model):
    return next(w["memory_bytes"] for w in status(c)["workers"] if w["model_ref"].endswith(str(model)))


def mega(size):
    """Bytes in words, in decimal units as pages and `llorch` have them: of ten to a hundred megabytes."""
    return f"{size / 1e6:.1f} MB"


@unittest.skipUnless(STORIES.exists(), "not run: needs shared/models")
class Room(unittest.TestCase):
    def needs(self, c, *models):
        """What each model is promised, bytes."""
        hive = c.hive("wide", free_port(), "--memory-limit-mb", "1000000", worker_port=c.worker_port)
        ready(c, "wide")
        need = {}
        for model in models:
            events = infer(c, model)
            self.assertEqual(events[-1][1], "end", events[-1])
            need[model] = need_bytes(c, model)
        hive.terminate()
        hive.wait(20)
        wait_for(lambda: not status(c)["hives"], 10)
        c.call("DELETE", "/v1/hives/wide")
        return need

    def test_nobody_goes_for_a_model_that_fits_nowhere(self):
        with Colony() as c:
            c.queen("--no-own-hive")
            need = self.needs(c, HAIKU, STORIES)
            small, large = sorted(need, key=need.get)
            self.assertLess(need[small], need[large])
            c.hive("tight", free_port(), "--memory-limit-mb", need[large] >> 20, worker_port=c.worker_port)  # its bytes are more than its whole MiB
            ready(c, "tight")
            events = infer(c, small)
            self.assertEqual(events[-1][1], "end")
            self.assertTrue(any(f"{mega(need_bytes(c, small))} promised" in d.get("human", "") for _, _, d in events), events)
            before = [w["pid"] for w in status(c)["workers"]]
            last = infer(c, large)[-1]
            self.assertEqual((last[1], last[2]["code"]), ("error", "NO_WORKERS_AVAILABLE"), last)
            self.assertRegex(last[2]["message"], rf"{mega(need[large])} are needed, [\d.]+ (B|kB|MB) are free beside")
            self.assertEqual([w["pid"] for w in status(c)["workers"]], before, "somebody made room in vain")

    def test_many_requests_take_turns_where_only_one_model_fits(self):
        with Colony() as c:
            c.queen("--admission-capacity", "-1")
            copies = [c.home / f"copy{i}.gguf" for i in range(3)]
            for copy in copies:
                shutil.copy(STORIES, copy)
            need = self.needs(c, HAIKU, STORIES)
            c.hive("tight", free_port(), "--memory-limit-mb", (max(need.values()) >> 20) + 1, worker_port=c.worker_port)
            ready(c, "tight")
            ends, count = [], 24 if SANITIZED else 60
            ask = lambda i: ends.append(infer(c, ([HAIKU] + copies)[i % 4], priority="batch" if i % 5 == 0 else "interactive")[-1])
            threads = [threading.Thread(target=ask, args=(i,)) for i in range(count)]
            [t.start() for t in threads], [t.join() for t in threads]
            self.assertEqual([e for e in ends if e[1] != "end"], [])
            self.assertEqual(len(ends), count)


if __name__ == "__main__":
    main()
