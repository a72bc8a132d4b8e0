"""llorch-gguf convert of every folder of the zoo against the GGUF file that the ecosystem's converter made of it: the same tensors, byte for byte,
and a tokenizer that cuts a text as the folder's own."""
import json
import pathlib
import shutil
import subprocess
import tempfile
import unittest

import gguf
import numpy

from harness import BINARY, DATA, main, not_run

ZOO = DATA / "models/zoo"
TOOL = pathlib.Path(BINARY).with_name("llorch-gguf")
# What the converter computes in float32 where we round once: norms + 1 are exact, decays and rotary factors come of exponentials.
COMPUTED = {"ssm_a": 1.2e-7, "rope_freqs.weight": 1e-6}

if not ZOO.exists():
    not_run(f"{ZOO} is not there")


def tensors_of(path):
    return {t.name: t for t in gguf.GGUFReader(path).tensors}


@unittest.skipUnless(ZOO.exists(), "the test data is not there")
class Convert(unittest.TestCase):
    def test_every_family_becomes_the_same_tensors(self):
        folders = sorted(p.parent for p in ZOO.glob("*/hf"))
        self.assertGreaterEqual(len(folders), 43)
        equal = close = 0
        for folder in folders:
            with self.subTest(folder.name), tempfile.TemporaryDirectory() as d:
                out = pathlib.Path(d) / "model.gguf"
                r = subprocess.run([TOOL, "convert", folder / "hf", out, "--type", "F32"], capture_output=True, text=True)
                self.assertEqual(r.returncode, 0, r.stderr)
                text = json.loads((folder / "ids.json").read_text())
                r = subprocess.run([BINARY, "tokenize", "-m", out, "--add-bos", "--text", text["text"], "--json"], capture_output=True, text=True)
                self.assertEqual(r.returncode, 0, r.stderr)
                behind = 1 if gguf.GGUFReader(out).get_field("tokenizer.ggml.add_eos_token").contents() else 0  # which --add-bos leaves out
                self.assertEqual(json.loads(r.stdout)["ids"], text["text_ids"][: len(text["text_ids"]) - behind])
                ours, theirs = tensors_of(out), tensors_of(folder / "model-f32.gguf")
                self.assertEqual(set(ours), set(theirs))
                for name, want in theirs.items():
                    got = ours[name]
                    self.assertEqual([d for d in got.shape if d > 1], [d for d in want.shape if d > 1], name)
                    a, b = (numpy.asarray(t.data, dtype=numpy.float32).reshape(-1) for t in (got, want))
                    if a.tobytes() == b.tobytes():
                        equal += 1
                        continue
                    bound = next((bound for end, bound in COMPUTED.items() if name.endswith(end)), None)
                    self.assertIsNotNone(bound, f"{name} has other bytes")
                    numpy.testing.assert_allclose(a, b, rtol=bound, err_msg=name)
                    close += 1
        print(f"{len(folders)} folders: {equal} tensors with the same bytes, {close} that are computed and within {max(COMPUTED.values())}")

    def test_what_other_engines_ask_for(self):
        """Which epsilon a norm has, that an encoder sees both ways, and vectors in F32, as the ecosystem's converter writes them."""
        for folder in sorted(p.parent for p in ZOO.glob("*/hf")):
            with self.subTest(folder.name), tempfile.TemporaryDirectory() as d:
                out = pathlib.Path(d) / "model.gguf"
                subprocess.run([TOOL, "convert", folder / "hf", out], capture_output=True, check=True)
                ours, theirs = gguf.GGUFReader(out), gguf.GGUFReader(folder / "model-f32.gguf")
                for name, field in theirs.fields.items():
                    if name.endswith("epsilon") or name.endswith("attention.causal"):
                        self.assertIsNotNone(ours.get_field(name), name)
                        self.assertEqual(ours.get_field(name).contents(), field.contents(), name)
                for t in ours.tensors:
                    if sum(d > 1 for d in t.shape) < 2 or "conv1d" in t.name or "shortconv.conv" in t.name or t.name in ("position_embd.weight", "token_types.weight"):
                        self.assertEqual(t.tensor_type.name, "F32", t.name)

    def test_what_gguf_has_no_place_for_is_refused(self):
        for normalizer in ("Lowercase", "NFKC", "NFC", None):
            with self.subTest(normalizer), tempfile.TemporaryDirectory() as d:
                folder = pathlib.Path(d) / "hf"
                shutil.copytree(ZOO / "qwen3/hf", folder)
                tokenizer = json.loads((folder / "tokenizer.json").read_text()) | {"normalizer": normalizer and {"type": normalizer}}
                (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
                r = subprocess.run([TOOL, "convert", folder, pathlib.Path(d) / "m.gguf"], capture_output=True, text=True)
                self.assertEqual(r.returncode, 0 if normalizer in ("NFC", None) else 1, r.stderr)
                if r.returncode:
                    self.assertIn("normalizer", r.stderr)

    def test_nothing_is_written_over_a_part(self):
        with tempfile.TemporaryDirectory() as d:
            out = pathlib.Path(d) / "m-00002-of-00003.gguf"
            r = subprocess.run([TOOL, "convert", ZOO / "qwen3/hf", out], capture_output=True, text=True)
            self.assertEqual((r.returncode, out.exists()), (2, False))
            self.assertIn("part of a split file", r.stderr)


if __name__ == "__main__":
    main()
