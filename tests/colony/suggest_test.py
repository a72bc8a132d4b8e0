"""llorch model suggest: good models for a machine's memory, from one file of data, which the documents show, too."""
import json
import os
import pathlib
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests/worker")]
from harness import main  # noqa: E402

BIN = pathlib.Path(os.environ.get("LLORCH_BIN", ROOT / "build/release/bin"))
DATA = [line.split("\t") for line in (ROOT / "apps/keeper/suggested_models.tsv").read_text().splitlines() if not line.startswith("#")]


class Suggest(unittest.TestCase):
    def suggest(self, *flags):
        r = subprocess.run([BIN / "llorch", "model", "suggest", "--no-autostart", *flags], capture_output=True, text=True, timeout=20)
        self.assertEqual(r.returncode, 0, r.stderr)
        return r.stdout

    def test_what_fits_the_largest_first(self):
        for gb in (1, 4, 8, 16, 1000):
            listed = json.loads(self.suggest("--json", "--memory-gb", str(gb)))
            self.assertEqual(listed["memory_bytes"], gb * 10**9)
            need = {m: int(size) / 5 * 6 + 512 * 2**20 for m, size, *_ in DATA}
            self.assertEqual([m["model"] for m in listed["models"]], [m for m, *_ in reversed(DATA) if need[m] <= gb * 10**9])
        self.assertEqual(len(listed["models"]), len(DATA))
        everything = json.loads(self.suggest("--json", "--memory-gb", "4", "--all"))["models"]
        self.assertEqual([m["fits"] for m in everything], [need[m] <= 4 * 10**9 for m, *_ in reversed(DATA)])
        own = json.loads(self.suggest("--json"))["memory_bytes"]
        self.assertEqual(own, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))

    def test_for_people(self):
        said = self.suggest("--memory-gb", "8")
        self.assertRegex(said, r"(?m)^model +size +memory +licence +good_for *$")
        self.assertRegex(said, r"(?m)^Qwen/Qwen3-8B-GGUF:Q4_K_M +5\.03 GB +6\.\d\d GB +Apache-2\.0 ")
        self.assertIn("For 8.00 GB of memory.", said)
        self.assertIn("None of the models fits into 100 MB", self.suggest("--memory-gb", "0.1"))
        self.assertRegex(self.suggest("--memory-gb", "0.1", "--all"), r"(?m) no +Apache")

    def test_what_a_full_disk_does_not_keep_is_no_success(self):
        for command in (["llorch", "model", "suggest"], ["llorch", "model", "suggest", "--json"], ["llorch-gguf", "inspect", ROOT / "models/haiku.gguf"], ["llorch-worker-cpu", "tokenize", "-m", "builtin:haiku", "--text", "a"]):
            with open("/dev/full", "w") as full:
                r = subprocess.run([BIN / command[0], *command[1:]], stdout=full, stderr=subprocess.PIPE, text=True)
            self.assertEqual(r.returncode, 1, command)
            self.assertIn("No space left on device", r.stderr)
        for command in (["llorch", "--help"], ["llorch-gguf", "--version"], ["llorch-queen", "--print-config"], ["llorch", "model", "suggest"]):
            with open("/dev/full", "w") as full:
                self.assertEqual(subprocess.run([BIN / command[0], *command[1:]], stdout=full, stderr=subprocess.DEVNULL).returncode, 1, command)
            r = subprocess.run(["sh", "-c", 'exec "$@" >&-', "sh", BIN / command[0], *command[1:]], stderr=subprocess.PIPE, text=True)
            self.assertEqual((r.returncode, "was not written whole" in r.stderr), (1, True), command)
        r = subprocess.run([BIN / "llorch", "model", "suggest"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertEqual(r.returncode, 0, r.stderr)


if __name__ == "__main__":
    main()
