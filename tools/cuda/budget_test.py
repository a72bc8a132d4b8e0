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

# A product kernel as nvcc writes it: one step of one tile and panel has 2 mma, 6 other instructions and, for each chunk of 2 steps, 4 more.
PRODUCT_REPORT = """ptxas info    : Compiling entry function '_ZN1a5splitINS_7WeightsEEEvi' for 'sm_90a'
ptxas info    : Function properties for _ZN1a5splitINS_7WeightsEEEvi
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 64 registers, used 1 barriers
"""
STEP = """mov.u32 %r1, 0;
mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%r1}, {%r1}, {%r2}, {%r1};
mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%r1}, {%r1}, {%r2}, {%r1};
ld.shared.u32 %r3, [%r4];
and.b32 %r3, %r3, 15;
fma.rn.f32 %f1, %f2, %f3, %f1;
fma.rn.f32 %f1, %f2, %f3, %f1;
@%p1 add.s32 %r4, %r4, 1;
shr.u32 %r4, %r4, 1;
"""
PTX = f""".version 9.0
.target sm_80
.address_size 64
.visible .entry _ZN1a5splitINS_7WeightsEEEvi(
\t.param .u32 p
)
.maxntid 256
{{
\t{{ .reg .b32 note_panels_1_tiles_1_macs_4096_mmas_2_chunk_2_ahead_3_step_288_super_64_record_384_shared_40000; }}
$L__BB0_1:
cp.async.cg.shared.global [%r1], [%rd1], 16, %r2;
setp.lt.s32 %p1, %r1, %r2;
@%p1 bra  $L__BB0_2;
{STEP * 2}$L__BB0_2:
@%p1 bra  $L__BB0_1;
ret;
}}
"""
PRODUCT = ("a::split<a::Weights>", "sm_90a")


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
        self.assertEqual(list(budget.problems(self.reports, self.table(), {})), [])

    def test_what_exceeds_it_fails(self):
        for old, new, found in ((" 48 ", " 47 ", "48 registers, at most 47"), (" 1024 ", " 1000 ", "1024 shared"), ("an array that is indexed", "", "does not say why"), ("a::sub ", "a::gone ", "in no report"), ("a::sub ", "a::gone ", "not in budget.txt")):
            self.assertTrue(any(found in p for p in budget.problems(self.reports, self.table(replace=[(old, new)]), {})), found)

    def test_without_a_table_nothing_passes(self):
        self.assertTrue(any("no row" in p for p in budget.problems(self.reports, {}, {})))

    def test_other_architectures_stay(self):
        kept = {("b", "sm_90a"): ({"registers": 1, "spills": 0, "stack": 0, "shared": 0}, "")}
        self.assertIn(("b", "sm_90a"), budget.read_table(budget.table_text(self.reports, kept)))

    def test_architectures_without_a_row_are_named(self):
        table = {("b", "sm_90a"): ({"registers": 1, "spills": 0, "stack": 0, "shared": 0}, "")}
        self.assertEqual(budget.not_compared(self.reports, table), ["sm_80"])
        self.assertEqual(budget.not_compared(self.reports, self.table()), [])

    def product(self, ptx=PTX, bound=None, why=""):
        """Problems of the product kernel above, with a row that it fits."""
        (self.root / "x.cu.o.ptxas.txt").write_text(PRODUCT_REPORT)
        (self.root / "x.cu.o").write_bytes(b"\0\x01" + ptx.encode() + b"\0more")
        reports, kernels = budget.read_reports(self.root), budget.read_ptx(self.root)
        budget.add_bounds(reports, kernels)
        row = {k: v for k, v in reports[PRODUCT].items() if k != "decides"} | ({} if bound is None else {"bound": bound})
        table = budget.read_table(budget.table_text({PRODUCT: row}, {PRODUCT: (None, why)}))
        return reports[PRODUCT], list(budget.problems(reports, table, kernels))

    def test_the_bound_of_a_product(self):
        figures, found = self.product()
        self.assertEqual(found, [])
        # 10 instructions a step: 8 of the step, 4 for two steps. 288 + 64 / 8 bytes in 10 / (4 * 0.85) cycles; a copy takes 13.3 a cycle.
        self.assertEqual((figures["bound"], figures["decides"]), (100, "memory"))
        self.assertEqual(budget.product_bound.instructions_per_step(PTX, budget.product_bound.read_note(PTX)), 10)
        figures, found = self.product(PTX.replace("shr.u32 %r4, %r4, 1;\n", "shr.u32 %r4, %r4, 1;\n" * 120))
        # 129 instructions: 296 / (129 / 3.4) = 7.80 bytes a cycle, of 3.082e12 / 132 / 1.755e9 = 13.30.
        self.assertEqual((figures["bound"], figures["decides"]), (58, "instructions"))
        self.assertTrue(any("a bound of 58 % (instructions), the aim is 80" in p for p in found), found)

    def test_few_bytes_on_their_way_are_a_bound(self):
        figures, _ = self.product(PTX.replace("chunk_2_ahead_3", "chunk_2_ahead_1").replace("shared_40000", "shared_200000"))
        # One block for each multiprocessor: 8 warps with 2 steps of 288 bytes, of 0.8 us of 13.30 bytes a cycle.
        self.assertEqual((figures["bound"], figures["decides"]), (24, "bytes on their way"))

    def test_what_a_product_lacks_fails(self):
        for ptx, bound, words in ((PTX.replace("mma.sync", "add"), None, "has no mma"), (PTX.replace("], 16,", "], 8,"), None, "nothing by 16 bytes"),
                                  (PTX.replace("note_panels", "panels"), None, "does not note()"), (PTX.replace(".version", ".words"), None, "no PTX in its object"),
                                  (PTX, 101, "a bound of 100 % (memory), at least 101")):
            _, found = self.product(ptx, bound)
            self.assertTrue(any(words in p for p in found), (words, found))
        slow = PTX.replace("shr.u32 %r4, %r4, 1;\n", "shr.u32 %r4, %r4, 1;\n" * 120)
        self.assertEqual(self.product(slow, why="two scales for 32 columns")[1], [])

    def test_loads_of_16_bytes(self):
        for line, there in (("ld.global.nc.L1::no_allocate.v4.u32 {%0}, [%4];", True), ("ld.global.v2.u32 {%0}, [%4];", False), ("cp.async.ca.shared.global [%r1], [%rd1], 8, %r2;", False)):
            self.assertEqual(bool(budget.product_bound.SIXTEEN_BYTES.search(line)), there, line)

    def test_compiling_keeps_the_report_and_the_warnings(self):
        target = self.root / "y.cu.o"
        script = f"import sys; sys.stderr.write({REPORT + 'y.cu: warning' !r}); sys.exit(0)"
        done = subprocess.run([TOOL, "compile", sys.executable, "-c", script, "-o", target], capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, "y.cu: warning"))
        self.assertIn("48 registers", (self.root / "y.cu.o.ptxas.txt").read_text())
        self.assertEqual(subprocess.run([TOOL, "compile", "false"], capture_output=True).returncode, 1)


if __name__ == "__main__":
    unittest.main()
