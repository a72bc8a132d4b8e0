#!/usr/bin/env python3
"""The gates are tested: each is red on what it is there to find."""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
GATES = ROOT / "tools/gates"


def run(*command, **env):
    return subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, env=os.environ | env)


class GatesTest(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.tmp.name)

    def tearDown(self):
        self.tmp.cleanup()

    def test_a_report_without_results_fails_every_line(self):
        r = run(GATES / "report.py", self.root)
        self.assertEqual(r.returncode, 1, r.stderr)
        self.assertRegex(r.stdout, r"foundation.http_server: src/net/net_test.cc no result")
        self.assertRegex(r.stdout, r"gate report: 0 of 27 lines pass")
        self.assertIn("FAIL", (self.root / ".test-results/gate4_report.md").read_text())

    def test_another_engine_is_found(self):
        calls = "".join(f"void f{i}(void) {{}}\n" for i in range(200))
        for symbol, code in (("ours", 0), ("gg" + "ml_init", 1), ("lla" + "ma_decode", 1)):
            (self.root / "x.c").write_text(f"{calls}void {symbol}(void) {{}}\nint main(void) {{ return 0; }}\n")
            subprocess.run(["gcc", "-o", self.root / "llorch-x", self.root / "x.c"], check=True)
            self.assertEqual(run(GATES / "symbols.py", self.root).returncode, code, symbol)

    def test_a_new_library_is_found(self):
        source, program = self.root / "x.c", self.root / "llorch"
        source.write_text("double sqrt(double); int main(int n, char **v) { return (int)sqrt(n) * (v == 0); }\n")
        for libraries, expected in (([], "llorch no longer needs libcrypto"), (["-Wl,--no-as-needed", "-lresolv", "-lm"], "llorch needs libresolv, which")):
            subprocess.run(["gcc", "-fno-builtin", "-o", program, source, *(libraries or ["-lm"])], check=True)
            r = run(GATES / "dependencies.py", self.root)
            self.assertEqual(r.returncode, 1)
            self.assertIn(expected, r.stdout)

    def test_a_skipped_test_is_red_where_all_must_be_real(self):
        suite = self.root / "x_test.py"
        suite.write_text("import unittest\nfrom harness import main, not_run\nclass X(unittest.TestCase):\n    def test_a(self):\n        WHAT\nmain()\n")
        text = suite.read_text()
        for what, code in (("pass", 0), ("self.skipTest('no model')", 1), ("not_run('no device')", 1)):
            suite.write_text(text.replace("WHAT", what))
            env = {"PYTHONPATH": str(ROOT / "tests/worker"), "LLORCH_PROOF_DIR": str(self.root / "proof"), "LLORCH_WORKER": "/bin/true"}
            self.assertEqual(run(suite, **env).returncode, 0)
            for switch in ("LLORCH_REQUIRE_REAL", "REQUIRE_REAL_LLAMA"):
                self.assertEqual(run(suite, **env, **{switch: "1"}).returncode, code, what)

    def test_a_suite_that_is_green_without_a_product_is_found(self):
        suite = self.root / "x_test.py"
        for what, code in (("self.assertEqual(subprocess.run([BINARY]).returncode, 0)", 0), ("subprocess.run([BINARY])", 1)):
            suite.write_text(f"import subprocess, unittest\nfrom harness import BINARY, main\nclass X(unittest.TestCase):\n    def test_a(self):\n        {what}\nmain()\n")
            self.assertEqual(run(GATES / "false_product.py", suite).returncode, code, what)


if __name__ == "__main__":
    unittest.main(verbosity=0)
