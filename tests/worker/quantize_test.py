"""llorch-gguf quantize, as a person uses it: names in any case, nothing lost by accident, what was done is told."""
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

from harness import BINARY, ROOT, main

sys.path.insert(0, str(ROOT / "tests/colony"))
GGUF = pathlib.Path(BINARY).with_name("llorch-gguf")


class Quantize(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name)
        self.source = self.path / "source.gguf"
        self.tool("synth", self.source, "--shape", "tiny-llama", "--type", "F16")

    def tool(self, *arguments, code=0):
        r = subprocess.run([GGUF, *map(str, arguments)], capture_output=True, text=True, timeout=120)
        self.assertEqual(r.returncode, code, r.stderr)
        return r

    def types(self, path):
        return self.tool("inspect", path).stdout

    def test_names_have_any_case(self):
        out = {}
        for name in ("q8_0", "Q8_0", "q4_k_m", "Q4_K_M"):
            self.tool("quantize", self.source, self.path / name, name)
            out[name] = hashlib.sha256((self.path / name).read_bytes()).hexdigest()
        self.assertEqual((out["q8_0"], out["q4_k_m"]), (out["Q8_0"], out["Q4_K_M"]))
        self.assertNotEqual(out["q8_0"], out["q4_k_m"])

    def test_every_type_that_help_lists_is_taken(self):
        text = " ".join(self.tool("quantize", "--help").stdout.split())
        names = text[text.index("F32, "):text.index("; in any case")].split(", ")
        for name in ("F16", "BF16", "Q2_K", "Q6_K", "IQ4_XS", "MXFP4", "Q3_K_M", "Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M"):
            self.assertIn(name, names)
        for name in names:
            self.tool("quantize", self.source, self.path / "out.gguf", name)
        r = self.tool("quantize", self.source, self.path / "out.gguf", "Q4_K_L", code=2)
        self.assertIn("type 'Q4_K_L' is not known: it is one of F32, ", r.stderr)

    def test_the_input_is_never_written(self):
        before = self.source.read_bytes()
        os.symlink(self.source, self.path / "link.gguf")
        os.link(self.source, self.path / "hard.gguf")
        for out in (self.source, self.path / "link.gguf", self.path / "hard.gguf", self.path / "x/../source.gguf"):
            (self.path / "x").mkdir(exist_ok=True)
            r = self.tool("quantize", self.source, out, "Q8_0", code=2)
            self.assertIn("is the model that is read", r.stderr)
            self.assertEqual(self.source.read_bytes(), before)

    def test_what_a_person_should_know_is_told(self):
        r = self.tool("quantize", self.source, self.path / "q8.gguf", "Q8_0")
        self.assertNotIn("quantized already", r.stderr)
        self.assertRegex(r.stderr, r"q8.gguf: \d+ tensors, [\d.]+ [kM]B\n")
        self.assertIn("quantized already, and what they had lost stays lost", self.tool("quantize", self.path / "q8.gguf", self.path / "q4.gguf", "Q4_0").stderr)
        self.assertNotIn("quantized already", self.tool("quantize", self.path / "q8.gguf", self.path / "f16.gguf", "F16").stderr)
        r = self.tool("quantize", self.source, self.path / "k.gguf", "Q4_K")
        told = {line.split(": ")[0].strip() for line in r.stderr.splitlines() if line.startswith("  ")}
        inspected = self.types(self.path / "k.gguf")
        for name in told:
            self.assertNotRegex(inspected, rf"{name}\b.* Q4_K\b")


if __name__ == "__main__":
    main()
