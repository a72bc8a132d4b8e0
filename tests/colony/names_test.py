"""What people type for commands and models: typing errors, paths of this machine, pages of Hugging Face."""
import pathlib
import shutil
import subprocess
import time
import unittest

from colony import DATA, Colony, main

MODEL = pathlib.Path(DATA) / "models/stories260k-f32.gguf"


class Names(unittest.TestCase):
    def test_a_typing_error_is_told_with_what_was_meant(self):
        with Colony() as c:
            for typed, wrong, meant in ((("rnu",), "rnu", "run"), (("model", "lst"), "lst", "list"), (("queen", "strat"), "strat", "start")):
                r = self.bare(c, *typed)
                self.assertEqual((r.returncode, r.stdout), (2, ""))
                self.assertEqual(r.stderr, f"error: INVALID_REQUEST: there is no command '{wrong}': did you mean '{meant}'?\n")
            r = self.bare(c, "xyzzy")
            self.assertEqual((r.returncode, r.stderr), (2, "error: INVALID_REQUEST: there is no command 'xyzzy'\n"))
            self.assertEqual(self.bare(c, "--version").returncode, 0)
            self.assertIn("A subcommand is required", self.bare(c).stderr + self.bare(c, "model").stderr)

    def bare(self, colony, *words, cwd=None):
        return subprocess.run([colony.command()[0], *words], env=colony.env, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    def test_a_file_that_is_not_there_is_told_at_once(self):
        with Colony() as c:
            (c.home / "models").mkdir()
            (c.home / "models" / "Story.gguf").write_text("no model")
            start = time.monotonic()
            for typed in ("stori.gguf", "./stori.gguf", "../models/stori.gguf", "~/models/stori.gguf", str(c.home / "models" / "stori.gguf")):
                r = subprocess.run(c.command("run", typed, "hello"), env=c.env | {"HOME": str(c.home)}, cwd=c.home / "models", stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
                self.assertEqual((r.returncode, r.stdout), (1, ""), r.stderr)
                self.assertIn(f"model_not_found: there is no {c.home}/models/stori.gguf: did you mean 'Story.gguf'?", r.stderr)
            self.assertLess(time.monotonic() - start, 10, "nothing is started for it")
            r = c.keeper("model", "load", "https://example.org/model.gguf")
            self.assertEqual((r.returncode, r.stdout), (2, ""), r.stderr)
            self.assertIn("neither", r.stderr)
            c.assert_nothing_left()

    def test_a_relative_path_answers(self):
        if not MODEL.exists():
            print(f"not run: no {MODEL}")
            return
        with Colony() as c:
            shutil.copy(MODEL, c.home / "stories.gguf")
            c.queen(), c.hive("one", c.hive_port)
            for typed in ("stories.gguf", "./stories.gguf"):
                r = subprocess.run(c.command("run", typed, "Once upon a time", "-n", "8", "--raw", "--quiet"), env=c.env, cwd=c.home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
                self.assertEqual(r.returncode, 0, r.stderr)
                self.assertGreater(len(r.stdout), 5)
                self.assertEqual(r.stdout, r.stdout.rstrip("\n") + "\n", "one line end behind it")
            # A name that is nearly one of those that the queen lists.
            r = c.keeper("run", "builtin:haiky", "hello")
            self.assertEqual((r.returncode, r.stdout), (1, ""), r.stderr)
            self.assertIn("did you mean 'builtin:haiku'?", r.stderr)


if __name__ == "__main__":
    main()
