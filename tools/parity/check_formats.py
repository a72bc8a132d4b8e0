"""Our readers and writers against independent ones (E-05): the `gguf`, `safetensors` and `tokenizers` packages.

1. Every tensor of synthetic files in every type has, through our reader, the bytes that the `gguf` package sees (SHA-256 per tensor).
2. A Hugging Face directory written by those packages gives through `llorch-worker-cpu logits` the same bits as the GGUF file it was made from, directly and
   after `llorch-gguf convert`; and the converted file tokenizes like the directory's own tokenizer.json.
Needs: pip install gguf safetensors tokenizers numpy.
"""
import argparse
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy as np
from safetensors.numpy import save_file

from tokenizer_vectors import fields, reference

TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "MXFP4", "IQ4_XS", "IQ3_S", "IQ3_XXS", "TQ2_0", "NVFP4"]
QWEN2 = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
LAYER = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
         "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}


def run(*arguments):
    done = subprocess.run(arguments, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, arguments))}\n{done.stderr}")
    return done.stdout


def check_bytes(bin_dir, tmp):
    count = 0
    for kind in TYPES:
        path = tmp / "m.gguf"
        run(f"{bin_dir}/llorch-gguf", "synth", "--shape", "tiny-gpt-oss", "--type", kind, path)
        ours = {t["name"]: t for t in json.loads(run(f"{bin_dir}/llorch-gguf", "inspect", path, "--json", "--hash"))["tensors"]}
        theirs = gguf.GGUFReader(path).tensors
        if len(ours) != len(theirs):
            sys.exit(f"{kind}: {len(ours)} tensors, the gguf package sees {len(theirs)}")
        for t in theirs:
            mine = ours[t.name]
            if mine["shape"] != [int(d) for d in t.shape] or mine["type"] != t.tensor_type.name:
                sys.exit(f"{kind}: {t.name} is {mine}, the gguf package says {t.shape} {t.tensor_type.name}")
            if mine["sha256"] != hashlib.sha256(np.ascontiguousarray(t.data).tobytes()).hexdigest():
                sys.exit(f"{kind}: {t.name} has other bytes")
            count += 1
    print(f"{count} tensors in {len(TYPES)} types: same bytes as the gguf package reads")


def check_directory(bin_dir, tmp):
    source, hf = tmp / "q.gguf", tmp / "hf"
    vocab = "models/haiku.gguf"
    run(f"{bin_dir}/llorch-gguf", "synth", "--shape", "tiny-qwen2", "--type", "F32", "--vocab", vocab, source)
    reader = gguf.GGUFReader(source)
    tensors = {}
    for t in reader.tensors:
        stem, part = t.name.rsplit(".", 1)
        if stem.startswith("blk."):
            _, layer, rest = stem.split(".")
            name = f"model.layers.{layer}.{LAYER[rest]}.{part}"
        else:
            name = f"{QWEN2[stem]}.{part}"
        tensors[name] = np.array(t.data).reshape([int(d) for d in reversed(t.shape)])
    hf.mkdir()
    # Two shards with an index, as large models come.
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[: len(names) // 2], "model-00002-of-00002.safetensors": names[len(names) // 2:]}
    for file, part in shards.items():
        save_file({n: tensors[n] for n in part}, hf / file, metadata={"format": "pt"})
    (hf / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": {n: f for f, part in shards.items() for n in part}}))
    tok = reference(fields(vocab))
    specials = [t for t, k in zip(fields(vocab)["tokens"], fields(vocab)["token_type"]) if k == 3]
    tok.add_special_tokens(specials)
    (hf / "tokenizer.json").write_text(tok.to_str())
    (hf / "config.json").write_text(json.dumps(dict(
        model_type="qwen2", vocab_size=tensors["model.embed_tokens.weight"].shape[0], hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, rms_norm_eps=1e-6, rope_theta=1e6, tie_word_embeddings=False, eos_token_id=tok.token_to_id("<|end|>"))))
    run(f"{bin_dir}/llorch-gguf", "convert", hf, tmp / "converted.gguf")
    logits = []
    for i, model in enumerate((source, hf, tmp / "converted.gguf")):
        run(f"{bin_dir}/llorch-worker-cpu", "logits", "-m", model, "--tokens", "3,141,59,265,1000,7", "--out", tmp / f"{i}.npy")
        logits.append((tmp / f"{i}.npy").read_bytes())
    if not logits[0] == logits[1] == logits[2]:
        sys.exit("GGUF, SafeTensors and the converted file give different logits")
    for text in ("Silent river", "<|user|>two  moons\n", "ünï 世界 12"):
        ids = " ".join(map(str, tok.encode(text).ids))
        for model in (hf, tmp / "converted.gguf"):
            got = run(f"{bin_dir}/llorch-worker-cpu", "tokenize", "-m", model, "--text", text, "--parse-special").strip()
            if got != ids:
                sys.exit(f"{model.name}: '{text}' -> {got}, the reference says {ids}")
    print("GGUF, sharded SafeTensors and the converted file: same logits to the bit, same tokens")


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("bin")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        check_bytes(a.bin, pathlib.Path(tmp))
        check_directory(a.bin, pathlib.Path(tmp))
