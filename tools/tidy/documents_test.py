#!/usr/bin/env python3
"""What documents say of files that the product does not run: by `./dev tidy`. What they say of programs, tests/colony/docs_test.py checks."""
import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Documents(unittest.TestCase):
    def test_guards_of_the_post_mortem_exist(self):
        rows = [line for line in (ROOT / "docs/post-mortem.md").read_text().splitlines() if line.startswith("| ") and "guarded by" not in line and "---" not in line]
        self.assertGreater(len(rows), 25)
        for row in rows:
            guards = row.split(" | ")[-1].strip(" |")
            self.assertRegex(guards, r"`(tests|src|apps|tools)/\S+`", row)
            for path, names in re.findall(r"`([\w/.]+\.(?:cc|py))`((?:[:,] `\w+`)*)", guards):
                text = (ROOT / path).read_text()
                for name in re.findall(r"`(\w+)`", names):
                    self.assertTrue(re.search(rf"(def {name}\(|TEST\w*\(\w+,\s*{name}\))", text), f"{path} has no test {name}")
                self.assertTrue(names or path.startswith("tools/"), row)

    def test_suggested_models_are_the_program_s(self):
        data = [line.split("\t") for line in (ROOT / "apps/keeper/suggested_models.tsv").read_text().splitlines() if not line.startswith("#")]
        text = (ROOT / "docs/models.md").read_text()
        for model, size, licence, checked, use in data:
            mb = int(size) / 1e6
            self.assertIn(f"| `{model}` | {f'{mb:.0f} MB' if mb < 1000 else f'{mb / 1000:.1f} GB'} | {licence} | {checked} | {use} |\n", text)
        self.assertEqual(text.count("-GGUF:"), len(data))


if __name__ == "__main__":
    unittest.main()
