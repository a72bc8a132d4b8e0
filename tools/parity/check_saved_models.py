"""Directories as Hugging Face transformers itself writes them (save_pretrained), loaded by us: the same bits as the GGUF file they were made from.

    python tools/parity/check_saved_models.py build/release/bin

Off-line, like export_golden.py, whose builders it uses: needs torch, transformers, gguf, safetensors, tokenizers.
"""
import pathlib
import subprocess
import sys
import tempfile

import torch

from export_golden import BUILDERS, Weights, SEED
from tokenizers import Tokenizer, decoders, models, pre_tokenizers


def bytes_tokenizer():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tok = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tok.pre_tokenizer, tok.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return tok.to_str()


def main(bin_dir):
    failed = []
    for arch, build in BUILDERS.items():
        with tempfile.TemporaryDirectory() as tmp:
            tmp = pathlib.Path(tmp)
            subprocess.run([f"{bin_dir}/llorch-gguf", "synth", "--shape", f"tiny-{arch}", "--seed", str(SEED), tmp / "m.gguf"], check=True)
            w = Weights(tmp / "m.gguf")
            if arch == "llama":  # config.json cannot say these factors
                subprocess.run([f"{bin_dir}/llorch-gguf", "synth", "--shape", "tiny-llama", "--tied", "--seed", str(SEED), tmp / "m.gguf"], check=True)
                w.tensors["rope_freqs.weight"] = torch.ones_like(w("rope_freqs.weight"))
                w.tensors["output.weight"] = w("token_embd.weight")
            _, model, sd = build(w, 0)
            model.load_state_dict(sd, strict=False)
            model.float().save_pretrained(tmp / "hf")
            (tmp / "hf/tokenizer.json").write_text(bytes_tokenizer())
            got = []
            for i, path in enumerate((tmp / "m.gguf", tmp / "hf")):
                run = subprocess.run([f"{bin_dir}/llorch-worker-cpu", "logits", "-m", path, "--tokens", "3,141,59,265,35,89", "--out", tmp / f"{i}.npy"], capture_output=True, text=True)
                got.append((tmp / f"{i}.npy").read_bytes() if run.returncode == 0 else run.stderr.strip())
            same = got[0] == got[1] and isinstance(got[0], bytes)
            print(f"{arch}: {'same bits' if same else got[1] if isinstance(got[1], str) else 'other logits'}")
            if not same:
                failed.append(arch)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main(sys.argv[1])
