"""Who may act for a job of a fleet: the rules, checked in every order of what can happen (tools/fleet/ownership.pml, spin), and each rule left out."""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/worker")]
from harness import main, not_run  # noqa: E402

MODEL = ROOT / "tools/fleet/ownership.pml"
TWICE, LATER, NUMBER, ENDED = "runs<=1", "of_epoch>=acted", "assertion violated 0", "(epoch==3)"


class Ownership(unittest.TestCase):
    def checked(self, *flags):
        """(states, the assertion that fails or None)"""
        with tempfile.TemporaryDirectory() as folder:
            for command in (["spin", "-a", *(f"-D{f}" for f in flags), MODEL], ["gcc", "-O2", "-w", "-DSAFETY", "-DVECTORSZ=2048", "-o", "pan", "pan.c"]):
                subprocess.run(command, cwd=folder, check=True, timeout=60, stdout=subprocess.DEVNULL)
            said = subprocess.run(["./pan", "-E", "-m100000", "-w24"], cwd=folder, check=True, capture_output=True, text=True, timeout=600).stdout
        self.assertNotIn("max search depth too small", said)
        states, errors = (int(re.search(p, said)[1]) for p in (r"(\d+) states, stored", r"errors: (\d+)"))
        failed = re.search(r"^pan:1: (.*)$", said, re.M)
        self.assertEqual(bool(failed), errors > 0, said)
        if not failed:
            self.assertNotIn("Search not completed", said)
        return states, failed and failed[1]

    def test_the_rules_hold(self):
        for flags, at_least in ((("QUEENS=3",), 1_000_000), (("QUEENS=2", "NUMBERS"), 500_000)):
            states, failed = self.checked(*flags)
            print(f"{' '.join(flags)}: {states} states")
            self.assertIsNone(failed)
            self.assertGreater(states, at_least)

    def test_each_rule_is_needed(self):
        rules = {"NO_COMPARE": LATER, "SEND_FIRST": TWICE, "NO_FENCE": TWICE, "NO_PROCESS": TWICE, "NO_REMEMBER": TWICE, "NUMBERS,BASE_LATE": NUMBER, "REACHED": ENDED}
        named = set(re.findall(r"^#if(?:n?def) (\w+)", MODEL.read_text(), re.M))
        self.assertEqual(named - {"QUEENS", "EPOCHS"}, {name for rule in rules for name in rule.split(",")}, "what can be left out is left out here")
        for rule, broken in rules.items():
            self.assertIn(broken, self.checked("QUEENS=2", *rule.split(","))[1] or "nothing", rule)


if not shutil.which("spin"):
    not_run("spin is not installed")
    del Ownership
if __name__ == "__main__":
    main()
