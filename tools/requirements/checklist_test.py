#!/usr/bin/env python3
"""The checklist sees each kind of mistake."""
import pathlib
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import checklist  # noqa: E402


class Checklist(unittest.TestCase):
    def flaws(self, text, known=frozenset()):
        with tempfile.TemporaryDirectory() as d:
            root = pathlib.Path(d)
            (root / "a_test.cc").touch()
            (root / "list").write_text(text)
            return list(checklist.flaws(checklist.read(root / "list"), root, set(known)))

    def test_good(self):
        self.assertEqual(self.flaws("# x\nA-01\tmet\ta_test.cc\t\nA-02\topen\t\tnot built\nA-03\tlater\t\t\n", {"A-01", "A-02", "A-03"}), [])

    def test_mistakes(self):
        for line, says in (("A-01\tmet\t\t", "nothing is named"), ("A-01\tmet\tgone_test.cc\t", "does not exist"), ("A-01\tpart\ta_test.cc\t", "what is missing"), ("A-01\tdone\ta_test.cc\t", "expected id"), ("A-01 met", "expected id"),
                           ("A-01\tlater\t\t\nA-01\tlater\t\t", "more than once")):
            self.assertTrue(any(says in f for f in self.flaws(line + "\n")), line)
        self.assertIn("A-02 is a requirement", self.flaws("A-01\tlater\t\t\n", {"A-01", "A-02"})[0])
        self.assertIn("no requirement", self.flaws("A-01\tlater\t\t\n", {"A-02"})[1])


if __name__ == "__main__":
    unittest.main()
