#!/usr/bin/env python3
"""The runner of stages is tested: order, room, failures, leftovers; so is the choice of files for the linter."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import changed  # noqa: E402
import stages  # noqa: E402
from runner import Runner, Stage, finish  # noqa: E402


class RunnerTest(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.tmp.name)

    def tearDown(self):
        self.tmp.cleanup()

    def run_stages(self, *table, cores=2):
        lines = []
        ended = Runner(table, self.root, self.root / "logs", cores, lines.append).run()
        status = finish(ended, 1.0, lines.append)
        return {e.stage.name: e for e in ended}, status, lines

    def test_a_stage_runs_after_what_it_needs(self):
        ended, status, lines = self.run_stages(Stage("two", "test -e one", ("one",)), Stage("one", "touch one", build=True))
        self.assertEqual(status, 0, lines)
        self.assertEqual([e.state for e in ended.values()], ["passed", "passed"])
        self.assertEqual(lines[-1], "all tests passed")

    def test_a_failure_fails_the_run_and_is_named_last(self):
        ended, status, lines = self.run_stages(Stage("bad", "echo the reason; exit 3"), Stage("child", "true", ("bad",)), Stage("other", "true"), Stage("last", "true", after=("bad", "child")))
        self.assertEqual(status, 1)
        self.assertEqual({n: e.state for n, e in ended.items()}, {"bad": "FAILED", "child": "not run", "other": "passed", "last": "passed"})
        self.assertIn("   the reason", lines)
        self.assertIn("   bad: the reason", lines[-4:], "what is cut off is the middle")
        self.assertEqual(sorted(lines[-2:]), ["FAILED: bad: ended with 3", "not run: child: bad: FAILED"])

    def test_the_end_says_which_tests_failed_and_why(self):
        noise = """for i in $(seq 30); do echo "  worker: {\\"timestamp\\":$i,\\"message\\":\\"error: $i\\"}"; done"""
        lines = self.run_stages(Stage("suite", f"echo 'FAIL: test_x (a.B.test_x)'; echo 'AssertionError: 1 != 2{' word' * 99} end'; {noise}; exit 1"))[2]
        self.assertEqual(lines[-3:-1], ["FAILED: suite: ended with 1", "   FAIL: test_x (a.B.test_x)"])
        self.assertRegex(lines[-1], "^   AssertionError: 1 != 2 .{100,180} end$")

    def test_a_command_within_a_stage_fails_it(self):
        for command in ("false; true", "false | cat", "echo $nothing_of_this_name"):
            self.assertEqual(self.run_stages(Stage("bad", command))[1], 1, command)

    def test_side_by_side_as_the_cores_allow(self):
        meet = "touch {0}; for _ in $(seq 400); do [ -e {1} ] && exit 0; sleep 0.01; done; exit 1"
        pair = [Stage("a", meet.format("a", "b")), Stage("b", meet.format("b", "a"))]
        self.assertEqual(self.run_stages(*pair)[1], 0)
        for name in "ab":
            (self.root / name).unlink()
        alone = "test ! -e busy; touch busy; sleep 0.05; rm busy"
        self.assertEqual(self.run_stages(*(Stage(n, alone) for n in "abc"), cores=1)[1], 0)
        self.assertEqual(self.run_stages(*(Stage(n, alone, build=True) for n in "abc"), cores=8)[1], 0)

    def test_a_stage_that_hangs_is_ended(self):
        ended, status, _ = self.run_stages(Stage("slow", "sleep 100", seconds_max=1))
        self.assertEqual((status, ended["slow"].why), (1, "still ran after 1 s"))

    def test_nonsense_is_refused(self):
        for table in ([Stage("a", "true", ("b",))], [Stage("a", "true"), Stage("a", "true")], [Stage("a", "true", ("b",)), Stage("b", "true", ("a",))]):
            with self.assertRaises(ValueError):
                self.run_stages(*table)
        self.assertEqual(self.run_stages()[1], 1, "a run of nothing is no success")

    def test_ctest_closes(self):
        lines = self.run_stages(Stage("ctest-x", "echo 1/1 Test; echo '100% tests passed, 0 tests failed out of 1'; echo; echo 'Total Test time (real) =   1.00 sec'"))[2]
        self.assertEqual(lines[-4:], ["ctest-x:", "100% tests passed, 0 tests failed out of 1", "Total Test time (real) =   1.00 sec", "all tests passed"])

    def test_every_suite_of_the_folders_is_in_the_table(self):
        commands = " ".join(s.command for s in stages.stages())
        for path in (stages.ROOT / "tests").glob("*/*_test.py"):
            self.assertIn(f"{path.parent.name}/{path.stem.removesuffix('_test')} ", commands)

    def test_files_that_passed_are_not_looked_at_again(self):
        def git(*a):
            subprocess.run(["git", "-C", self.root, "-c", "user.name=a", "-c", "user.email=a@b", *a], check=True, capture_output=True)
        (self.root / "src/x").mkdir(parents=True)
        (self.root / ".clang-tidy").write_text("")
        git("init")
        for name in ("src/x/a.cc", "src/x/b.cc", "src/x/b_test.cc"):
            (self.root / name).write_text(name)
        git("add", ".")
        git("commit", "-m", "x")
        cache = self.root / "cache"
        self.assertEqual(sorted(changed.choose(self.root, cache)[0]), ["src/x/a.cc", "src/x/b.cc"])
        cache.mkdir()
        (cache / changed.mark("src/x/a.cc", self.root)).touch()
        self.assertEqual(changed.choose(self.root, cache)[0], ["src/x/b.cc"])
        (self.root / "src/x/a.cc").write_text("other")
        self.assertEqual(sorted(changed.choose(self.root, cache)[0]), ["src/x/a.cc", "src/x/b.cc"])


if __name__ == "__main__":
    unittest.main(verbosity=0)
