"""Parity work from the command line: logs of logits, what they say, and checkpoints to the first divergence (P-04, P-10 to P-13, P-20 to P-24)."""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import tempfile
import unittest

import gguf

from colony import BIN, ROOT, STORIES, Colony, main
from hub import Hub

GOLDEN = ROOT / "tests/golden"


def llorch(*arguments, cwd, env=None):
    return subprocess.run([BIN / "llorch", "parity", *map(str, arguments)], capture_output=True, text=True, cwd=cwd, stdin=subprocess.DEVNULL, env=os.environ | (env or {}), timeout=120)


def model_of(golden, path):
    """The synthetic model that a reference ran, made again."""
    data = (GOLDEN / golden).read_bytes()
    about = json.loads(json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])["__metadata__"]["golden"])
    subprocess.run([BIN / "llorch-gguf", "synth", "--shape", about["shape"], "--type", about["type"], "--seed", str(about["seed"]), path], check=True, capture_output=True)
    return about


class Parity(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="llorch-parity-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def test_arrays_are_the_same_bits_or_the_first_difference_is_named(self):
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }\n"
        for name, values in (("a", (1, 2, 3, 4)), ("b", (1, 2, 3.0000002384, 5))):
            data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + struct.pack("<4f", *values)
            (self.folder / f"{name}.npy").write_bytes(data)
        r = llorch("same", "a.npy", "a.npy", cwd=self.folder)
        self.assertEqual((r.returncode, r.stdout), (0, "the same: 4 values of <f4, shape (2, 2)\n"))
        r = llorch("same", "a.npy", "b.npy", cwd=self.folder)
        self.assertEqual(r.returncode, 3)
        self.assertIn("is at 2 [1, 0]: 3 (0x40400000) and 3.0000002 (0x40400001)", r.stdout)
        r = llorch("same", "a.npy", "b.npy", "--json", cwd=self.folder)
        self.assertEqual((json.loads(r.stdout)["first"], json.loads(r.stdout)["differences"]), (2, 2))
        self.assertEqual(llorch("same", "a.npy", "none.npy", cwd=self.folder).returncode, 1)

    def test_every_architecture_against_pytorch(self):
        for name in ("gpt2", "llama", "qwen2", "qwen3", "phi3", "gpt-oss"):
            about = model_of(f"{name}-F32.safetensors", self.folder / "m.gguf")
            r = llorch("verify", "m.gguf", "--against", GOLDEN / f"{name}-F32.safetensors", "--json", cwd=self.folder)
            self.assertEqual(r.returncode, 0, r.stdout + r.stderr)
            report = json.loads(r.stdout)
            self.assertEqual((report["verdict"], report["first_divergence"], report["same_file"], report["model_sha256"]), ("parity", None, True, about["sha256"]))
            self.assertGreater(len(report["checkpoints"]), 5, name)
            self.assertEqual(report["logits"]["top1"], 1.0)
            self.assertLess(report["logits"]["kl"], 1e-9)

    def broken(self, change):
        about = model_of("llama-F32.safetensors", self.folder / "m.gguf")
        reader = gguf.GGUFReader(self.folder / "m.gguf", "r+")
        change(reader)
        reader.data.flush()
        r = llorch("verify", "m.gguf", "--against", GOLDEN / "llama-F32.safetensors", "--json", cwd=self.folder)
        self.assertEqual(r.returncode, 3, r.stdout + r.stderr)
        report = json.loads(r.stdout)
        self.assertFalse(report["same_file"], "it must say that the reference ran another file")
        self.assertNotEqual(report["model_sha256"], about["sha256"])
        return report["first_divergence"]

    def test_one_flipped_bit_is_located(self):
        for tensor, where in (("blk.1.ffn_up.weight", "layer_01."), ("blk.0.attn_v.weight", "layer_00."), ("output_norm.weight", "norm")):

            def flip(reader, tensor=tensor):
                t = next(t for t in reader.tensors if t.name == tensor)
                reader.data[t.data_offset + 4 * (t.n_elements // 2) + 3] ^= 0x80  # the sign of one weight

            self.assertIn(where, self.broken(flip), tensor)

    def test_positions_turned_a_little_too_far_are_located(self):
        def turn(reader):
            field = reader.fields["llama.rope.freq_base"]
            field.parts[field.data[0]][0] += 1

        first = self.broken(turn)
        self.assertRegex(first, r"^layer_00\.[qk]_rope$", "what comes before the rotation is right")

    def test_another_model_as_reference(self):
        model_of("llama-F32.safetensors", self.folder / "a.gguf")
        model_of("llama-Q8_0.safetensors", self.folder / "b.gguf")
        self.assertEqual(llorch("verify", "a.gguf", "--against", "a.gguf", "--tokens", "1,2,3", cwd=self.folder).returncode, 0)
        r = llorch("verify", "b.gguf", "--against", "a.gguf", "--tokens", "1,2,3", cwd=self.folder)
        self.assertEqual(r.returncode, 3)
        self.assertIn("open: the first divergence is embedding", r.stdout)
        for bad in (("nowhere.gguf", "--against", "a.gguf", "--tokens", "1"), ("a.gguf", "--against", "b.gguf"), ("a.gguf", "--against", "b.gguf", "--tokens", "99999999")):
            r = llorch("verify", *bad, cwd=self.folder)
            self.assertIn(r.returncode, (1, 2), r.stdout)
            self.assertIn("error", r.stderr)

    def test_a_log_of_our_own(self):
        r = llorch("log", "builtin:haiku", "--values", "4000", cwd=self.folder)
        self.assertEqual(r.returncode, 0, r.stderr)
        lines = [json.loads(line) for line in (self.folder / "logits.jsonl").read_text().splitlines()]
        ids = subprocess.run([BIN / "llorch-worker-cpu", "tokenize", "-m", "builtin:haiku", "--text", "GPU haiku with word fifty-one: "], capture_output=True, text=True, check=True).stdout.split()
        self.assertIn([x["token_idx"] for x in lines], [list(range(first, first + len(lines))) for first in (len(ids) - 1, len(ids))])
        self.assertTrue(0 < len(lines) <= 15)
        for x in lines:
            self.assertEqual((x["checkpoint"], x["dtype"], x["shape"], x["team"], x["nonfinite"]), ("logits", "f32", "[1,2048]", "llorch", {"nan": 0, "inf": 0}))
            self.assertEqual(x["values"].index(max(x["values"])), x["argmax"])
        self.assertEqual(llorch("analyze", "logits.jsonl", "--stats", "--numpy", "x.npy", cwd=self.folder).returncode, 0)
        self.assertTrue((self.folder / "x.npy").read_bytes().startswith(b"\x93NUMPY"))
        self.assertEqual(llorch("compare", "logits.jsonl", "logits.jsonl", cwd=self.folder).returncode, 0)
        self.assertEqual(llorch("log", "/nowhere.gguf", "-o", "none.jsonl", cwd=self.folder).returncode, 1)
        for script, arguments in (("analyze_logits.sh", ["logits.jsonl"]), ("compare_parity.sh", ["logits.jsonl", "logits.jsonl"]), ("test_logging.sh", ["builtin:haiku"])):
            s = subprocess.run([ROOT / "tools/parity" / script, *arguments], capture_output=True, text=True, cwd=self.folder, env=os.environ | {"LLORCH_BIN": str(BIN)}, timeout=60)
            self.assertEqual(s.returncode, 0, s.stderr)
        for script in (ROOT / "tools/parity").glob("*.sh"):
            self.assertEqual(len(script.read_text().splitlines()), 3, f"{script.name} is one line of our own tool")

    def test_planted_faults_are_found(self):
        llorch("log", "builtin:haiku", cwd=self.folder)
        lines = [json.loads(line) for line in (self.folder / "logits.jsonl").read_text().splitlines()]
        faults = {"nan": lambda x: x.update(values=[None] + x["values"][1:], nonfinite={"nan": 1, "inf": 0}), "big": lambda x: x["values"].__setitem__(2, 1e16), "argmax": lambda x: x.update(argmax=x["argmax"] + 1)}
        for name, plant in faults.items():
            bad = json.loads(json.dumps(lines))
            plant(bad[3])
            (self.folder / f"{name}.jsonl").write_text("".join(json.dumps(x) + "\n" for x in bad))
            r = llorch("compare", "logits.jsonl", f"{name}.jsonl", "-o", "out.csv", cwd=self.folder)
            self.assertEqual(r.returncode, 3, (name, r.stderr))
            self.assertIn(f"position {bad[3]['token_idx']}: bug", r.stderr)
            self.assertEqual((self.folder / "out.csv").read_text().splitlines()[0], "token_idx,max_abs_diff,mean_abs_diff,llorch,llorch")
            r = llorch("analyze", f"{name}.jsonl", "--json", cwd=self.folder)
            found = [p["token_idx"] for p in json.loads(r.stdout)["positions"] if p["finding"]]
            self.assertEqual((found, r.returncode), ([bad[3]["token_idx"]], 3) if name != "argmax" else ([], 0), name)
        (self.folder / "far.jsonl").write_text(json.dumps(lines[0] | {"token_idx": 9999}) + "\n")
        self.assertEqual(llorch("compare", "logits.jsonl", "far.jsonl", cwd=self.folder).returncode, 2)
        self.assertEqual(llorch("compare", "logits.jsonl", "nowhere.jsonl", cwd=self.folder).returncode, 1)
        shifted = [x | {"token_idx": i} for i, x in enumerate(lines)]
        (self.folder / "zero.jsonl").write_text("".join(json.dumps(x) + "\n" for x in shifted))
        self.assertEqual(llorch("position0", "zero.jsonl", "zero.jsonl", cwd=self.folder).returncode, 0)
        shifted[0]["values"][0] *= 1.02
        (self.folder / "off.jsonl").write_text("".join(json.dumps(x) + "\n" for x in shifted))
        r = llorch("position0", "zero.jsonl", "off.jsonl", cwd=self.folder)
        self.assertEqual((r.returncode, r.stdout.count("more than 1 %")), (3, 1))

    def test_position_0_that_was_never_computed_is_nobody_s_bug(self):
        llorch("log", "builtin:haiku", cwd=self.folder)
        lines = [json.loads(line) | {"token_idx": i} for i, line in enumerate((self.folder / "logits.jsonl").read_text().splitlines())]
        for name, values in (("zeros", [0.0] * 10), ("garbage", [1e30] * 10), ("nothing", [None] * 10)):
            (self.folder / "one.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
            (self.folder / "two.jsonl").write_text("".join(json.dumps(x | ({"values": values, "team": "other"} if i == 0 else {})) + "\n" for i, x in enumerate(lines)))
            r = llorch("compare", "one.jsonl", "two.jsonl", cwd=self.folder)
            self.assertEqual(r.returncode, 0, (name, r.stderr))
            self.assertIn("position 0: open (one of the two never computed it", r.stderr)
            for command in ([BIN / "llorch", "parity", "position0"], [ROOT / "tools/parity/verify_position0.sh"]):
                r = subprocess.run([*command, "one.jsonl", "two.jsonl"], capture_output=True, text=True, cwd=self.folder, env=os.environ | {"LLORCH_BIN": str(BIN)}, timeout=60)
                self.assertEqual(r.returncode, 2, name)
                self.assertIn("it is nobody's bug", r.stderr)
        (self.folder / "two.jsonl").write_text("".join(json.dumps(x | ({"values": [0.0] * 10} if i in (0, 4) else {})) + "\n" for i, x in enumerate(lines)))
        self.assertEqual(llorch("compare", "one.jsonl", "two.jsonl", cwd=self.folder).returncode, 3, "two positions are no accident")

    @unittest.skipUnless(STORIES.exists(), "not run: needs shared/models")
    def test_logging_changes_nothing(self):
        run = [BIN / "llorch-worker-cpu", "generate", "-m", STORIES, "-p", "Once upon a time", "-n", "60", "--seed", "7", "--temperature", "0.8"]
        texts = [subprocess.run(run, capture_output=True, env=os.environ | env, check=True).stdout for env in ({}, {"ORCH_LOG_FILE": str(self.folder / "x.jsonl")})]
        self.assertEqual(*texts)
        self.assertEqual(len((self.folder / "x.jsonl").read_text().splitlines()), 60)
        r = subprocess.run(run, capture_output=True, text=True, env=os.environ | {"ORCH_LOG_FILE": "/nowhere/x.jsonl"})
        self.assertEqual(r.returncode, 1)
        self.assertIn("ORCH_LOG_FILE", r.stderr)

    def test_a_model_of_the_study_is_fetched(self):
        haiku = (ROOT / "models/haiku.gguf").read_bytes()
        hub = Hub({"qwen2.5-0.5b-instruct-q4_k_m.gguf": haiku}, repo="Qwen/Qwen2.5-0.5B-Instruct-GGUF")
        self.addCleanup(hub.close)
        with Colony(HF_ENDPOINT=hub.url) as c:
            for _ in range(2):
                r = subprocess.run(c.command("parity", "fetch", "qwen"), capture_output=True, text=True, env=c.env, cwd=self.folder, timeout=60)
                self.assertEqual(r.returncode, 0, r.stderr)
                self.assertEqual((self.folder / r.stdout.strip()).read_bytes(), haiku)
            self.assertEqual(llorch("log", "qwen", cwd=self.folder).returncode, 0, "its word is enough")
            r = subprocess.run([ROOT / "tools/parity/fetch_models.sh", "no_such"], capture_output=True, text=True, env=c.env | {"LLORCH_BIN": str(BIN)}, cwd=self.folder, timeout=60)
            self.assertEqual(r.returncode, 2, r.stderr)
            r = subprocess.run(c.command("parity", "fetch", "no_such"), capture_output=True, text=True, env=c.env, cwd=self.folder)
            self.assertEqual(r.returncode, 2)
            self.assertIn("tinyllama", r.stderr)
            hub.close()
            self.assertNotEqual(subprocess.run(c.command("parity", "fetch", "phi3"), capture_output=True, env=c.env, cwd=self.folder).returncode, 0)
            c.assert_nothing_left()


if __name__ == "__main__":
    main()
