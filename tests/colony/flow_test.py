"""The happy flow, cold and warm (Q-05, Q-06), with real processes; and what is left when something is killed on the way."""
import collections
import json
import os
import re
import signal
import subprocess
import threading
import unittest

from colony import BIN, Colony, listens, main, narrations, wait_for

# The twelve steps, as the person who asked reads them.
COLD = [r"\[keeper\] the queen at .* is asleep", r"\[keeper\] starting the queen", r"\[keeper\] the queen is awake", r"\[queen\] a request for builtin:haiku has come",
        r"\[queen\] the hive catalog is empty: adding this machine", r"\[queen\] the hive \S+ is starting", r"\[queen\] waiting for its first heartbeat",
        r"\[queen\] the first heartbeat of \S+ has come", r"\[queen\] \S+ has 1 device", r"\[queen\] cpu of \S+ is the strongest device", r"\[queen\] asking \S+ whether builtin:haiku has room",
        r"\[queen\] \S+ has room", r"\[queen\] builtin:haiku is on \S+ already", r"\[hive\] the cpu worker, version .*, is in the catalog", r"\[hive\] worker-cpu-\d+ starts on port \d+",
        r"\[queen\] worker-cpu-\d+ on \S+ is awake", r"\[queen\] sending the prompt to worker-cpu-\d+", r"\[worker\] computing \d+ prompt tokens", r"\[queen\] worker-cpu-\d+ has answered with \d+ tokens",
        r"\[keeper\] putting the queen to sleep", r"\[keeper\] everything that was started is gone"]


def in_order(patterns, lines):
    """The first pattern that is not found after the one before it; None when all are."""
    at = 0
    for p in patterns:
        while at < len(lines) and not re.match(p, lines[at]):
            at += 1
        if at == len(lines):
            return p
        at += 1
    return None


class Flow(unittest.TestCase):
    def test_cold_twice(self):
        for _ in range(2):
            with Colony() as c:
                r = c.keeper("run", "builtin:haiku", "Write a haiku about the sea")
                self.assertEqual(r.returncode, 0, r.stderr)
                self.assertGreaterEqual(len(r.stdout.split()), 6, r.stdout)
                self.assertIsNone(in_order(COLD, narrations(r.stderr)), r.stderr)
                c.assert_nothing_left()
                # The second run of the same home knows its hive, and tells it in another tone.
                r = c.keeper("run", "haiku", "Write a haiku about the moon", "--narration", "cute")
                self.assertIn("[hive] an egg hatches", narrations(r.stderr))
                self.assertNotIn("starts on port", r.stderr)
                c.assert_nothing_left()
                r = c.keeper("run", "haiku", "Write a haiku about the moon", "--quiet")
                self.assertEqual((r.returncode, r.stderr), (0, ""))
                self.assertGreaterEqual(len(r.stdout.split()), 6)
                c.assert_nothing_left()
                for f in c.home.rglob("*"):
                    self.assertFalse(f.suffix == ".pid", f)

    def test_warm_starts_and_stops_nothing(self):
        with Colony() as c:
            self.assertEqual(c.keeper("queen", "start").returncode, 0)
            self.assertEqual(c.keeper("run", "haiku", "Write a haiku about tea").returncode, 0)
            before = c.census()
            self.assertEqual(len(before), 3, before)
            r = c.keeper("run", "haiku", "Write a haiku about tea")
            lines = narrations(r.stderr)
            self.assertRegex(lines[0], r"\[keeper\] the queen at .* is awake")
            self.assertIsNone(in_order([r"\[queen\] a request", r"\[queen\] worker-cpu-\d+ on \S+ holds the model and is idle", r"\[queen\] sending the prompt", r"\[queen\] worker-cpu-\d+ has answered"], lines), r.stderr)
            for word in ("starting", "installing", "fetching", "sleep"):
                self.assertNotIn(word, r.stderr)
            self.assertEqual(c.census(), before)
            self.assertEqual(c.keeper("queen", "stop").returncode, 0)
            c.assert_nothing_left()

    def test_tokens_are_printed_as_they_are_made(self):
        with Colony() as c:
            c.queen()
            c.infer()
            lumps = []
            while max(lumps, default=0) <= 20 and len(lumps) < 5:  # all of it takes 40 ms: whoever gets no processor for so long sees one
                with subprocess.Popen(c.command("infer", "-m", "haiku", "x", "--max-tokens", "200", "--ignore-eos", "--quiet"), env=c.env, stdout=subprocess.PIPE) as p:
                    lumps.append(sum(1 for _ in iter(lambda: os.read(p.stdout.fileno(), 65536), b"")))
                self.assertEqual(p.returncode, 0)
            self.assertGreater(lumps[-1], 20, f"the answer came in a few lumps, each time: {lumps}")

    def test_ctrl_c_cancels_and_exits_with_130(self):
        with Colony() as c:
            c.env["LLORCH_ISA"] = "reference"  # slow kernels: an answer goes on for a while
            c.queen("--worker-slots", "1")
            c.infer()
            for _ in range(5):  # on a busy machine an answer may be complete before anybody hears of the signal
                p = subprocess.Popen(c.command("infer", "-m", "haiku", "x", "--max-tokens", "240", "--ignore-eos"), env=c.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
                os.read(p.stdout.fileno(), 1)
                p.send_signal(signal.SIGINT)
                self.assertEqual(p.wait(30), 130)
                p.stdout.close(), p.stderr.close()
                ended = wait_for(lambda: [j["status"] for j in c.call("GET", "/v1/jobs")[2]["jobs"] if j["status"] in ("cancelled", "completed")])
                if "cancelled" in ended:
                    break
            self.assertIn("cancelled", ended)

    def test_killed_at_every_step_leaves_nothing(self):
        """kill -9 of keeper, queen or hive after each narration of the cold flow (T-60)."""
        killed = collections.Counter()
        for victim in ("llorch", "llorch-queen", "llorch-hive"):
            for step in range(3, 19, 3):
                with Colony() as c:
                    p = subprocess.Popen(c.command("run", "builtin:haiku", "Write a haiku about rain", "--max-tokens", "200", "--ignore-eos"), env=c.env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
                    for i, _ in enumerate(p.stderr):
                        if i == step:
                            for pid, line in c.census():
                                if line.split()[0].endswith("/" + victim):
                                    os.kill(pid, signal.SIGKILL)
                                    killed[victim] += 1
                    code = p.wait(30)
                    p.stderr.close()
                    self.assertIn(code, (0, 1, -9), (victim, step))
                    try:
                        c.assert_nothing_left(15)
                    except AssertionError:
                        self.fail(f"{victim} killed at step {step}: left {c.census()}")
            self.assertGreaterEqual(killed[victim], 3, "it was hardly ever there to be killed")

    def test_prompt_from_a_pipe_and_errors(self):
        with Colony() as c:
            r = c.keeper("run", "haiku", "--quiet", stdin="Write a haiku about snow")
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertTrue(r.stdout.strip())
            r = c.keeper("run", "no-such-alias", "x", "--quiet")
            self.assertEqual(r.returncode, 1)
            self.assertIn("model_not_found", r.stderr)
            self.assertEqual(len(r.stderr.strip().splitlines()), 2, "code and message, and one suggestion")
            r = c.keeper("run", "haiku", "x", "--no-autostart", "--json", "--quiet")
            self.assertEqual((r.returncode, json.loads(r.stdout)["error"]["code"], r.stderr), (1, "IO", ""))
            self.assertEqual(c.keeper("run").returncode, 2)
            self.assertEqual(c.keeper("run", "haiku", "x", "--temperature", "9").returncode, 2)
            c.assert_nothing_left()

    def test_an_answer_has_the_form_that_was_asked_for(self):
        with Colony() as c:
            schema, grammar, broken = c.home / "bird.json", c.home / "song.gbnf", c.home / "broken.json"
            schema.write_text(json.dumps({"type": "object", "properties": {"bird": {"enum": ["owl", "wren"]}, "eggs": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["bird", "eggs"], "additionalProperties": False}))
            grammar.write_text('root ::= "la" (" " "la"){0,3}')
            broken.write_text(json.dumps({"type": "array", "uniqueItems": True}))
            r = c.keeper("run", "haiku", "Which bird?", "--schema", schema, "--quiet", "-n", "100")
            self.assertEqual(r.returncode, 0, r.stderr)
            answer = json.loads(r.stdout)
            self.assertIn(answer["bird"], ("owl", "wren"))
            self.assertIn(answer["eggs"], range(10))
            self.assertRegex(c.keeper("run", "haiku", "Sing", "--grammar", grammar, "--quiet").stdout, r"^la( la){0,3}\n$")
            self.assertRegex(c.keeper("run", "haiku", "When?", "--regex", "[0-9]{2}:[0-9]{2}", "--quiet").stdout, r"^\d\d:\d\d\n$")
            r = c.keeper("run", "haiku", "Which?", "--schema", broken, "--quiet")
            self.assertNotEqual(r.returncode, 0)
            self.assertIn("uniqueItems", r.stderr)
            r = c.keeper("run", "haiku", "Which?", "--schema", c.home / "nowhere.json", "--quiet")
            self.assertNotEqual(r.returncode, 0)
            self.assertIn("nowhere.json", r.stderr)

    def test_completion_and_manual_know_every_command(self):
        tell = lambda *a: subprocess.run([BIN / "llorch", *a], capture_output=True, text=True, check=True).stdout
        bash = tell("completion", "bash")
        words = lambda line: subprocess.run(["bash", "-c", bash + f"\nCOMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); _llorch; echo ${{COMPREPLY[@]}}"], capture_output=True, text=True).stdout.split()
        self.assertLessEqual({"run", "chat", "infer", "status", "doctor", "queen", "hive", "worker", "model", "completion"}, set(words("llorch ''")))
        self.assertEqual(words("llorch queen st"), ["start", "stop", "status"])
        self.assertIn("--temperature", words("llorch run --te"))
        self.assertIn("seen_subcommand_from worker; and __fish_seen_subcommand_from spawn", tell("completion", "fish"))
        manual = tell("man")
        for command in ("llorch run", "llorch queen start", "llorch model download", "llorch worker delete"):
            self.assertIn(f'.SS "{command}', manual)
        self.assertIn("\\-\\-temperature", manual)

    def test_doctor(self):
        with Colony() as c:
            r = c.keeper("doctor", "--json")
            report = json.loads(r.stdout)
            self.assertTrue(report["ok"], report)
            self.assertGreaterEqual(len(report["checks"]), 8)
            c.assert_nothing_left()


if __name__ == "__main__":
    main()
