"""The SDKs of OpenAI and Anthropic against a worker and a queen: all calls of tests/clients. The other clients: `./dev stage clients`."""
import sys
import unittest

from colony import ROOT, main

sys.path.insert(0, str(ROOT / "tests/clients"))
import run  # noqa: E402

NAMES = ("openai", "anthropic")


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        for path in ("smollm2-135m-q4_1.gguf", "all-minilm-l6-v2/model.safetensors"):
            if not (run.MODELS / path).exists():
                print(f"not run: no {run.MODELS / path} (./dev models)")
                raise unittest.SkipTest("no model")

    def check(self, server):
        with run.SERVERS[server](run.models(long=False)) as where:
            for name in NAMES:
                lines = run.run(name, server, where, sys.executable)
                self.assertGreater(sum(line.startswith("ok") for line in lines.values()), 6, lines)
                for call, line in lines.items():
                    with self.subTest(client=name, call=call):
                        self.assertFalse(line.startswith("FAILED"), line)
                    if line.startswith("not run"):
                        print(f"{name}, {server}, {call}: {line}")

    def test_a_worker(self):
        self.check("worker")

    def test_a_queen(self):
        self.check("queen")


if __name__ == "__main__":
    main()
