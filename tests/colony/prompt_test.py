"""What a person asks on a command line: how much of an answer, text that is none, models that are not for talking."""
import json
import os
import subprocess
import unittest

from colony import BIN, ROOT, STORIES, Colony, main, not_run
from terminal_test import on_a_terminal

EMBEDDER = ROOT / ".test-models/all-minilm-l6-v2"


class Prompt(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.c = Colony().__enter__()
        cls.addClassCleanup(cls.c.close)
        cls.c.queen()

    def run_model(self, *arguments, model="haiku", stdin=None):
        command = [a.encode() if isinstance(a, str) else a for a in self.c.command("run", model, "--quiet")]
        return subprocess.run(command + [a if isinstance(a, bytes) else str(a).encode() for a in arguments], capture_output=True, env=self.c.env, timeout=60, input=stdin)

    def test_how_many_tokens(self):
        for number in ("0", "-2", "x", "1.5"):
            r = self.run_model("hello", "-n", number)
            self.assertEqual(r.returncode, 2)
            self.assertIn(f"--max-tokens: {number} is no number of tokens: 1 or more, or -1", r.stderr.decode())
            self.assertLess(len(r.stderr), 200)
        r = self.run_model("Write a haiku about rain", "-n", "-1")
        self.assertEqual((r.returncode, r.stderr), (0, b""))
        self.assertGreater(len(r.stdout.split()), 5)

    def test_an_answer_that_was_cut_says_so_on_a_terminal(self):
        for number, cut in (("3", True), ("-1", False)):
            command = self.c.command("run", "haiku", "Write a haiku about rain", "-n", number)
            _, raw = on_a_terminal(command, self.c.env | {"TERM": "xterm"}, 60)
            self.assertEqual(b"the answer was cut after 3 tokens: -n -1 lets the model end it" in raw, cut, raw)
        r = subprocess.run(self.c.command("run", "haiku", "x", "-n", "3"), capture_output=True, text=True, env=self.c.env, timeout=60)
        self.assertNotIn("cut after", r.stderr, "a pipe is no terminal")
        _, raw = on_a_terminal(self.c.command("run", "haiku", "Write a haiku about rain", "-n", "-1", "--ignore-eos"), self.c.env | {"TERM": "xterm"}, 60)
        self.assertIn(b"the answer was cut: the model's window of 256 tokens is full", raw)

    def test_numbers_that_are_none(self):
        for flag, value, words in (
            ("--temperature", "nan", "nan is no number from 0 to 2"),
            ("--top-p", "NaN", "NaN is no number from 0 to 1"),
            ("--presence-penalty", "2.1", "2.1 is no number from -2 to 2"),
            ("--repetition-penalty", "0", "0 is no number above 0 to 2"),
            ("--seed", "-1", "-1 is no whole number from 0 to 18446744073709551615"),
            ("--seed", "18446744073709551616", "is no whole number"),
            ("--seed", "1.5", "is no whole number"),
        ):
            r = self.run_model("x", f"{flag}={value}")
            self.assertEqual((r.returncode, r.stdout), (2, b""), flag)
            self.assertIn(f"{flag}: ", r.stderr.decode())
            self.assertIn(words, r.stderr.decode())
        r = self.run_model("x", "-n", "2", "--seed", "18446744073709551615", "--repetition-penalty", "2", "--temperature", "1e-1")
        self.assertEqual((r.returncode, r.stderr), (0, b""))

    def test_stdin_without_end(self):
        command = ["sh", "-c", 'yes | "$@"', "sh", *map(str, self.c.command("run", "haiku", "--quiet"))]
        r = subprocess.run(command, capture_output=True, text=True, env=self.c.env, timeout=30)
        self.assertEqual((r.returncode, r.stdout), (1, ""))
        self.assertIn("stdin has more than 8388608 bytes", r.stderr)

    def test_text_that_is_none(self):
        for arguments, stdin, words in (((b"caf\xe9",), None, "the prompt is no UTF-8: byte 4 is 0xe9"), ((), b"one \xff", "stdin is no UTF-8: byte 5 is 0xff"), (("hello", "--stop", b"\xe9"), None, "the request is no UTF-8")):
            r = self.run_model(*arguments, stdin=stdin)
            self.assertEqual((r.returncode, r.stdout), (2, b""))
            self.assertIn(words, r.stderr.decode())

    def test_a_receipt_of_the_answer(self):
        file, model = self.c.home / "receipt.json", self.c.home / "model.gguf"
        r = self.run_model("Write a haiku about rain", "-n", "20", "--ignore-eos", "--temperature", "0.8", "--seed", "7", "--receipt", file)
        self.assertEqual((r.returncode, r.stderr), (0, b""))
        receipt = json.loads(file.read_text())
        self.assertEqual((len(receipt["ids"]), receipt["params"]["seed"]), (20, 7))
        self.assertEqual((file.read_text().count("\n"), self.verified(file)[0]), (1, 0))
        file.write_text(json.dumps(receipt | {"ids": receipt["ids"][:-1] + [receipt["ids"][-1] + 1]}))
        code, said = self.verified(file)
        self.assertEqual(code, 3, said)
        model.write_bytes(b"GGUF and more")
        for arguments, words in (
            (("x", "--receipt", model), "model.gguf is a model: it is not written over"),
            (("x", "--receipt", "/no/where/r.json"), "cannot write /no/where/r.json: No such file or directory"),
            (("x", "--receipt", file, "--regex", "a"), "--regex excludes --receipt"),
        ):
            r = self.run_model(*arguments)
            self.assertIn((r.returncode, r.stdout), ((1, b""), (2, b"")), words)
            self.assertIn(words, r.stderr.decode())
        self.assertEqual(model.read_bytes(), b"GGUF and more")
        code, raw = on_a_terminal(self.c.command("run", "haiku", "--receipt", file), self.c.env | {"TERM": "xterm"}, 60)
        self.assertIn(b"--receipt is of one answer: give a prompt", raw)
        r = self.run_model("x", "-n", "3", "--receipt", "/dev/full")
        self.assertEqual(r.returncode, 1)
        self.assertIn("cannot write /dev/full", r.stderr.decode())

    def verified(self, file):
        r = subprocess.run([BIN / "llorch", "receipt", "verify", file], capture_output=True, text=True, env=self.c.env, timeout=60)
        return r.returncode, r.stdout + r.stderr

    def test_a_picture_in_a_prompt(self):
        path = self.c.home / "cat.PNG"
        path.write_bytes(b"\x89PNG")
        r = self.run_model(str(path))
        self.assertEqual(r.returncode, 2)
        self.assertIn("cat.PNG is a picture, and haiku takes text alone", r.stderr.decode())
        for arguments, stdin in (((f"what is {path} ?",), None), (("What is wrong?",), f"error: cannot read {path} : broken\n".encode())):
            r = self.run_model(*arguments, stdin=stdin)
            self.assertEqual((r.returncode, r.stderr), (0, b""), "a path among other words is text")

    def test_a_name_that_is_nearly_right_is_told_once(self):
        r = self.run_model("hello", model="builtin:hiku")
        self.assertEqual((r.returncode, r.stderr.decode().count("did you mean")), (1, 1), r.stderr)

    def test_models_that_are_not_for_talking(self):
        self.assertIn("at most sixteen", self.c.keeper("run", "--help").stdout)
        if not STORIES.exists():
            return not_run("the test data is not there")
        r = self.c.keeper("chat", STORIES, "--quiet", stdin="hi\n")
        self.assertEqual(r.returncode, 1)
        for words in (STORIES.name, "has no chat template", "llorch run --raw", "llorch model suggest"):
            self.assertIn(words, r.stderr)
        r = self.c.keeper("chat", STORIES, stdin="")
        self.assertEqual(r.returncode, 1, "it is told before anything is typed")
        self.assertIn("has no chat template", r.stderr)
        r = self.c.keeper("chat", "haiku", "--quiet", stdin=f"/model {STORIES}\nWrite a haiku about rain\n")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertIn("the model is still haiku", r.stderr)
        if not EMBEDDER.exists():
            return not_run("the embedding model of `./dev models` is not there")
        for command in ("chat", "run"):
            r = self.c.keeper(command, EMBEDDER, "--quiet", stdin="hi\n")
            self.assertEqual(r.returncode, 2)
            for words in (EMBEDDER.name, "/v1/embeddings"):
                self.assertIn(words, r.stderr)


if __name__ == "__main__":
    main()
