#!/usr/bin/env python3
"""The budget of kernels is tested: what ptxas prints is read, and each way to exceed the table is found."""
import importlib.machinery
import importlib.util
import pathlib
import subprocess
import sys
import tempfile
import unittest

TOOL = pathlib.Path(__file__).resolve().parent / "budget"
loader = importlib.machinery.SourceFileLoader("budget", str(TOOL))
budget = importlib.util.module_from_spec(importlib.util.spec_from_loader("budget", loader))
sys.dont_write_bytecode = True
loader.exec_module(budget)

REPORT = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN1a3addIfEEvPT_' for 'sm_80'
ptxas info    : Function properties for _ZN1a3addIfEEvPT_
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 48 registers, used 1 barriers, 1024 bytes smem, 384 bytes cmem[0]
ptxas info    : Compiling entry function '_ZN1a3subEPf' for 'sm_80'
ptxas info    : Function properties for _ZN1a3subEPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 10 registers
"""
ADD, SUB = ("a::add<float>", "sm_80"), ("a::sub", "sm_80")


class BudgetTest(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.tmp.name)
        (self.root / "x.cu.o").touch()
        (self.root / "x.cu.o.ptxas.txt").write_text(REPORT)
        self.reports = budget.read_reports(self.root)

    def tearDown(self):
        self.tmp.cleanup()

    def table(self, **changes):
        text = budget.table_text(self.reports, {ADD: (None, "an array that is indexed")})
        for old, new in changes.get("replace", ()):
            self.assertIn(old, text)
            text = text.replace(old, new)
        return budget.read_table(text)

    def test_reports_are_read(self):
        self.assertEqual(self.reports[ADD], {"registers": 48, "spills": 20, "stack": 16, "shared": 1024})
        self.assertEqual(self.reports[SUB], {"registers": 10, "spills": 0, "stack": 0, "shared": 0})

    def test_a_report_without_its_object_is_old(self):
        (self.root / "x.cu.o").unlink()
        self.assertEqual(budget.read_reports(self.root), {})

    def test_what_is_in_the_table_passes(self):
        self.assertEqual(list(budget.problems(self.reports, self.table())), [])

    def test_what_exceeds_it_fails(self):
        for old, new, found in ((" 48 ", " 47 ", "48 registers, at most 47"), (" 1024 ", " 1000 ", "1024 shared"), ("an array that is indexed", "", "does not say why"), ("a::sub ", "a::gone ", "in no report"), ("a::sub ", "a::gone ", "not in budget.txt")):
            self.assertTrue(any(found in p for p in budget.problems(self.reports, self.table(replace=[(old, new)]))), found)

    def test_without_a_table_nothing_passes(self):
        self.assertTrue(any("no row" in p for p in budget.problems(self.reports, {})))

    def test_other_architectures_stay(self):
        kept = {("b", "sm_90a"): ({"registers": 1, "spills": 0, "stack": 0, "shared": 0}, "")}
        self.assertIn(("b", "sm_90a"), budget.read_table(budget.table_text(self.reports, kept)))

    def test_compiling_keeps_the_report_and_the_warnings(self):
        target = self.root / "y.cu.o"
        script = f"import sys; sys.stderr.write({REPORT + 'y.cu: warning' !r}); sys.exit(0)"
        done = subprocess.run([TOOL, "compile", sys.executable, "-c", script, "-o", target], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, "y.cu: warning"))
        self.assertIn("48 registers", (self.root / "y.cu.o.ptxas.txt").read_text())
        self.assertEqual(subprocess.run([TOOL, "compile", "false"], capture_output=True).returncode, 1)


if __name__ == "__main__":
    unittest.main()
