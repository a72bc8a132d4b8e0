#!/usr/bin/env python3
"""A flag before the file, the file before what is found, that before the default; what is wrong is said (K-08, K-09)."""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

SCRIPT = pathlib.Path(__file__).parent / "settings.py"


class Settings(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)
        self.env = {"PATH": ""}

    def say(self, *flags):
        return subprocess.run([sys.executable, SCRIPT, "--root", self.root, *flags], capture_output=True, text=True, env=self.env)

    def values(self, *flags):
        r = self.say(*flags)
        self.assertEqual(r.returncode, 0, r.stderr)
        return dict(line.split("=", 1) for line in r.stdout.splitlines())

    def refused(self, text, *flags):
        r = self.say(*flags)
        self.assertEqual((r.returncode, r.stdout), (2, ""), r.stdout)
        self.assertIn(text, r.stderr)

    def write(self, name, text):
        (self.root / name).write_text(text)

    def test_without_files(self):
        v = self.values()
        self.assertEqual((v["cuda"], v["test_backend"], v["default_model"], v["skip_cuda_tests"]), ("no" if not v["nvcc"] else "yes", "cpu", "builtin:haiku", "no"))

    def test_precedence(self):
        cuda = self.root / "cuda/bin"
        cuda.mkdir(parents=True)
        (cuda / "nvcc").write_text("#!/bin/sh\n")
        os.chmod(cuda / "nvcc", 0o755)
        self.env["CUDA_PATH"] = str(self.root / "cuda")
        self.assertEqual(self.values()["cuda"], "yes", "found")
        self.write(".llorch.toml", "[build]\nauto_detect_cuda = false\n[worker]\ndefault_model = 'file:/m.gguf'\n")
        self.assertEqual((self.values()["cuda"], self.values()["default_model"]), ("no", "file:/m.gguf"), "found, but not to be looked for")
        self.write(".llorch.toml", "[build]\ncuda = true\nauto_detect_cuda = false\n[development]\nskip_cuda_tests = true\n")
        self.assertEqual((self.values()["cuda"], self.values()["skip_cuda_tests"]), ("yes", "yes"))
        self.assertEqual(self.values("--cuda", "no")["cuda"], "no", "a flag comes first")
        self.write(".llorch-test.toml", "[build]\nbuild_cuda = false\n[features]\nenabled = ['a', 'b']\n")
        self.assertEqual((self.values()["cuda"], self.values()["features"]), ("no", "a,b"), "this machine's file before the project's")

    def test_what_is_wrong(self):
        self.write(".llorch.toml", "[build]\ncuda = 'yes'\n")
        self.refused("build.cuda must be of type bool")
        self.write(".llorch.toml", "[build]\ncudda = true\n")
        self.refused("build.cudda is not known")
        self.write(".llorch.toml", "[bild]\ncuda = true\n")
        self.refused("[bild] is not known")
        self.write(".llorch.toml", "[build\n")
        self.refused(".llorch.toml: ")
        self.write(".llorch.toml", "[build]\ncuda = true\n")
        self.env["CUDA_PATH"] = "/nowhere"
        if not self.values("--cuda", "no")["nvcc"]:
            self.refused("no nvcc is found")
        (self.root / ".llorch.toml").unlink()
        for backend, why in (("cuda", "no code for it yet"), ("tpu", "is not known")):
            self.write(".llorch-test.toml", f"[backend]\ntest_backend = '{backend}'\n")
            self.refused(why)
        self.assertEqual(self.values("--backend", "cpu")["test_backend"], "cpu", "a flag comes before the file")

    def test_accelerate(self):
        self.assertEqual(self.values()["accelerate"], "AUTO", "where a CBLAS is found")
        self.assertEqual(self.values("--backend", "accelerate")["test_backend"], "accelerate")
        for says, value in (("true", "ON"), ("false", "OFF")):
            self.write(".llorch-test.toml", f"[build]\nbuild_accelerate = {says}\n")
            self.assertEqual(self.values()["accelerate"], value)
        self.refused("is not built: build.build_accelerate = false", "--backend", "accelerate")
        self.write(".llorch-test.toml", "[backend]\ntest_backend = 'accelerate'\n[build]\nbuild_accelerate = true\n")
        self.assertEqual((self.values()["test_backend"], self.values()["accelerate"]), ("accelerate", "ON"))


if __name__ == "__main__":
    unittest.main()
