"""Answers with and without guesses of the next tokens (--speculate): the same texts, log probabilities and ends, in fewer steps."""
import subprocess
import unittest

from harness import BINARY, Worker, main

SCHEMA = {"type": "object", "properties": {"birds": {"type": "array", "items": {"enum": ["heron", "wren", "robin"]}, "minItems": 12, "maxItems": 12}, "where": {"type": "string", "maxLength": 40}},
          "required": ["birds", "where"]}
BIRDS = {"type": "json_schema", "json_schema": {"name": "birds", "schema": SCHEMA}}
PROMPT = "The heron waits in the reeds. The wren sings in the hedge. The heron waits in the reeds. The wren"
REQUESTS = [
    {"prompt": PROMPT, "max_tokens": 120, "temperature": 0, "ignore_eos": True, "logprobs": 3},
    {"prompt": PROMPT, "max_tokens": 120, "temperature": 1, "seed": 7, "ignore_eos": True, "logprobs": 0, "n": 2},
    {"prompt": PROMPT * 6, "max_tokens": 100, "temperature": 0.3, "seed": 8, "ignore_eos": True},
    {"prompt": PROMPT, "max_tokens": 90, "temperature": 0, "stop": ["heron", "wren"]},
    {"prompt": PROMPT, "max_tokens": 200, "temperature": 0, "response_format": BIRDS},
    {"prompt": PROMPT, "max_tokens": 200, "temperature": 1, "seed": 9, "logprobs": 1, "response_format": BIRDS},
    {"prompt": "count: ", "max_tokens": 150, "temperature": 1, "seed": 3, "structured_outputs": {"regex": "(one, two, (three|four), ){10}"}},
]


def answers(worker):
    out = []
    for request in REQUESTS:
        status, _, answer = worker.post("/v1/completions", {"model": "builtin:haiku"} | request)
        assert status == 200, answer
        out.append(([{k: c.get(k) for k in ("text", "finish_reason", "logprobs")} for c in answer["choices"]], answer["usage"]))
    return out


class Speculate(unittest.TestCase):
    def test_answers_do_not_depend_on_guesses(self):
        with Worker("--speculate", "off") as plain, Worker() as guessing:
            expected, got = answers(plain), answers(guessing)
            for request, e, g in zip(REQUESTS, expected, got):
                self.assertEqual(g, e, request)
            self.assertEqual(plain.metric("llorch_worker_tokens_drafted_total"), 0)
            drafted, accepted = (guessing.metric(f"llorch_worker_tokens_{kind}_total") for kind in ("drafted", "accepted"))
            self.assertGreater(accepted, 50)
            self.assertGreater(drafted, accepted, "some guesses are wrong")
            print(f"{drafted:.0f} tokens guessed, {accepted:.0f} of them right")

    def test_what_was_guessed_is_told_of_each_answer(self):
        with Worker() as w:
            end = w.generate(prompt=PROMPT, max_tokens=200, temperature=1, seed=9, response_format=BIRDS)[-1][2]
            self.assertEqual(end["type"], "end")
            self.assertGreater(end["accepted_tokens"], 0)
            self.assertGreaterEqual(end["drafted_tokens"], end["accepted_tokens"])
            # Penalties make each token depend on the one before: nothing is guessed.
            end = w.generate(prompt=PROMPT, max_tokens=60, temperature=0, frequency_penalty=0.1)[-1][2]
            self.assertEqual((end["drafted_tokens"], end["accepted_tokens"]), (0, 0))

    def test_other_kinds_are_refused(self):
        out = subprocess.run([BINARY, "serve", "-m", "builtin:haiku", "--speculate", "mtp"], capture_output=True, text=True, timeout=20)
        self.assertNotEqual(out.returncode, 0)
        self.assertIn("--speculate", out.stderr + out.stdout)


if __name__ == "__main__":
    main()
