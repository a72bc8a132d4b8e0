#!/usr/bin/env python3
"""The linter is tested: each kind of violation, planted in a small tree, is found; the clean tree passes."""
import pathlib
import subprocess
import tempfile
import unittest

import tidy

CMAKE = "llorch_module(NAME base LIBS fmt::fmt)\nllorch_module(NAME nn DEPS base LIBS x)\n"


class TidyTest(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.TemporaryDirectory()
        self.root = pathlib.Path(self.tmp.name)
        subprocess.run(["git", "init", "-q", self.root], check=True)
        self.put("src/CMakeLists.txt", CMAKE)
        self.put("src/base/a.h", "#pragma once\nint a();\n")
        self.put("src/nn/b.cc", '#include "base/a.h"\nint b() {\n  return a();\n}\n')

    def tearDown(self):
        self.tmp.cleanup()

    def put(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def expect(self, text):
        found = tidy.violations(self.root)
        self.assertTrue(any(text in v for v in found), f"'{text}' not in {found}")

    def test_clean_tree_passes(self):
        self.assertEqual(tidy.violations(self.root), [])

    def test_upward_include(self):
        self.put("src/base/c.cc", '#include "nn/b.h"\n')
        self.expect("base may not include nn")

    def test_kernels_of_cuda(self):
        self.put("src/base/c.cu", '#include "nn/b.h"\n')
        self.expect("base may not include nn")
        self.put("src/base/d.cu", "void f() {\n" + "  f();\n" * 70 + "}\n")
        self.expect("a function of 72 lines")

    def test_undeclared_module(self):
        self.put("src/new/x.cc", "\n")
        self.expect("not declared")

    def test_banned_call(self):
        self.put("src/nn/d.cc", "void f() { usleep (1); }\n")
        self.expect("banned")

    def test_files_that_throw(self):
        for line in ("if (std::filesystem::exists(path)) {}", "for (const auto& e : fs::directory_iterator(path, problem)) {}"):
            self.put("src/nn/d.cc", f"void f() {{ {line} }}\n")
            self.expect("throws")

    def test_tautology(self):
        self.put("tests/x_test.cc", "TEST(a, b) { EXPECT_TRUE(true); }\n")
        self.expect("cannot fail")

    def test_tautologies(self):
        for line in ("EXPECT_EQ(1, 1);", "if (ready || !ready) return;", "EXPECT_TRUE( true );"):
            self.put("tests/y_test.cc", f"void f() {{ {line} }}\n")
            self.expect("cannot fail")
        for line in ("if (!v || !v->ok()) return;", "EXPECT_EQ(1, n);", "if (a || !a->b) return;"):
            self.put("tests/y_test.cc", f"void f() {{ {line} }}\n")
            self.assertEqual(tidy.violations(self.root), [])
        self.put("tests/z_test.py", "self.assertTrue(" + "True)\n")
        self.expect("cannot fail")

    def test_planted_stubs(self):
        for line in ('return "stub inference";', "// a placeholder until the kernel is there", 'fail("not implemented");', 'load("dummy-model");', "const auto text = hardcoded_text;  // hard-coded",
                     'if (prompt == "The capital of France is") return " Paris";'):
            self.put("src/nn/p.cc", f"void f() {{\n  {line}\n}}\n")
            self.expect("pretends")
        self.put("src/nn/p_test.cc", "// a stub is allowed in a test\n")
        self.put("src/nn/p.cc", "void f() {\n  fakery();\n}\n")
        self.put("apps/worker/p.html", '<input placeholder="Message">\n<script>field.placeholder = 0.8;</script>\n')
        self.assertEqual(tidy.violations(self.root), [])

    def test_ignored_waits_in_loops(self):
        for loop in ("while (busy()) (void)co_await pause(flow, 1ms);", "while (busy()) {\n    (void)co_await pause(flow, 1ms);\n  }", "for (int i = 0;\n       i < 9; ++i) {\n    co_await pause(flow, 1ms);\n  }",
                     "do {\n    if (more)\n      (void)co_await signal.wait(flow, 1s);\n  } while (more);", "for (const auto& h : all)\n    if (h) (void)co_await ask(flow, h);"):
            self.put("src/nn/w.cc", f"Procedure f(FlowPtr flow) {{\n  {loop}\n}}\n")
            self.expect("ignored wait in a loop")
        for fine in ("(void)co_await ask(flow, h);", "while (busy())\n    if (!co_await pause(flow, 1ms)) co_return;", "for (;;) {\n    const auto a = co_await ask(flow, h);\n  }\n  (void)co_await ask(flow, h);", "while (turn) co_await woken();"):
            self.put("src/nn/w.cc", f"Procedure f(FlowPtr flow) {{\n  {fine}\n}}\n")
            self.assertEqual(tidy.violations(self.root), [])

    def test_several_waits_in_a_loop_condition(self):
        for loop in ("while (!co_await a(flow) && !co_await b(flow)) {\n  }", "while (!co_await a(flow, 1s) &&\n         co_await b((flow))) {\n  }", "do {\n  } while (co_await a(flow) || co_await b(flow));",
                     "for (; co_await a(flow) && co_await b(flow);) {\n  }"):
            self.put("src/nn/w.cc", f"Procedure f(FlowPtr flow) {{\n  {loop}\n}}\n")
            self.expect("several waits in the condition")
        for fine in ("while (co_await a(flow)) {\n    if (!co_await b(flow)) co_return;\n  }", "while (!done)  // co_await, co_await\n    if (!co_await a(flow)) co_return;"):
            self.put("src/nn/w.cc", f"Procedure f(FlowPtr flow) {{\n  {fine}\n}}\n")
            self.assertEqual(tidy.violations(self.root), [])

    def test_tests_that_the_security_document_names(self):
        self.put("src/nn/x_test.cc", "TEST(Here, it_is) {}\nTEST_F(There, it_is_too) {}\n")
        self.put("tests/colony/y_test.py", "def test_it(self):\n    pass\n")
        row = lambda test: self.put("docs/security.md", f"| id | what | test | seen |\n| --- | --- | --- | --- |\n| 15.1 | a\\|b Some.thing | {test} | red |\n")
        for fine in ("src/nn/x_test.cc: Here.it_is, There.*; tests/colony/y_test.py: test_it (by hand)", "src/nn/x_test.cc", "the whole suite, Any.thing"):
            row(fine)
            self.assertEqual(tidy.violations(self.root), [])
        for gone, what in (("src/nn/gone_test.cc: Here.it_is", "does not exist"), ("src/nn/x_test.cc: Here.it_was", "has no Here.it_was"), ("src/nn/x_test.cc: Gone.*", "has no Gone.*"), ("src/nn/x_test.cc: Here.it_is; tests/colony/y_test.py: test_i", "has no test_i")):
            row(gone)
            self.expect(what)

    def test_markers_of_known_models(self):
        for marker in ("<tool_call>", "[TOOL_CALLS]", "<function=", "<｜tool▁sep｜>", '<|\\"|>'.replace("\\", ""), "<|channel|>", "<arg_key>", "<minimax:tool_call>"):
            self.put("src/nn/m.cc", f'constexpr auto kBegin = R"({marker})";\n')
            self.expect("src/nn/m.cc:1: a known model's marker")
        self.put("src/nn/m.cc", 'constexpr auto kBegin = "<call>";\n')
        self.put("src/nn/m_test.cc", 'constexpr auto kBegin = "<tool_call>";\n')
        self.put("src/tools/family/m.cc", 'constexpr auto kBegin = "<tool_call>";\n')
        self.put("src/CMakeLists.txt", CMAKE + "llorch_module(NAME tools DEPS base)\n")
        self.assertEqual(tidy.violations(self.root), [])

    def test_foreign_engine(self):
        self.put("src/nn/e.cc", '#include "gg' + 'ml.h"\n')
        self.expect("no other engine")

    def test_unfinished_marker(self):
        self.put("src/nn/f.cc", "// TO" + "DO later\n")
        self.expect("unfinished")

    def test_long_file(self):
        self.put("src/nn/g.cc", "\n" * 601)
        self.expect("601 lines")

    def test_long_function(self):
        self.put("src/nn/h.cc", "int h() {\n" + "  a();\n" * 80 + "}\n")
        self.expect("a function of 82 lines")

    def test_missing_path_in_document(self):
        self.put("README.md", "see `src/base/gone.h`\n")
        self.expect("does not exist")

    def test_isa_conditional(self):
        self.put("src/nn/i.cc", "#ifdef __AVX2__\n#endif\n")
        self.expect("outside src/kernel")


if __name__ == "__main__":
    unittest.main(verbosity=0)
