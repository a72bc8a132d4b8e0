"""Differential test of the tokenizers: random Unicode and adversarial text through Hugging Face's `tokenizers` and through ours.

The reference tokenizer is put together here from the GGUF file's vocabulary and merges with the library's own parts; the patterns are written
out again from the published tokenizer.json files. Both ways are compared: GGUF metadata, and the reference's own tokenizer.json.
Needs: pip install tokenizers gguf.
"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
PATTERNS = {"gpt-2": GPT2, "llama-bpe": LLAMA3, "qwen2": QWEN2}


def fields(path):
    reader = gguf.GGUFReader(path)
    get = lambda k: reader.fields[k].contents() if k in reader.fields else None
    return {k: get("tokenizer.ggml." + k) for k in ("model", "pre", "tokens", "merges", "token_type", "scores")}


def reference(f):
    if f["model"] == "gpt2":
        vocab = {t: i for i, t in enumerate(f["tokens"])}
        merges = [tuple(m.split(" ", 1)) if not m.startswith(" ") else (" ", m[2:]) for m in f["merges"]]
        tok = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=f["pre"] == "llama-bpe"))
        tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PATTERNS[f["pre"]]), "isolated"),
                                                     pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        tok.decoder = decoders.ByteLevel()
        tok.add_tokens([AddedToken(t, normalized=False) for t, k in zip(f["tokens"], f["token_type"] or []) if k == 4])
        return tok
    return None


ALPHABETS = [
    "abc XYZ'st", "  \t\n\r \u00a0\u3000", "0123456789", "äöüßéñçøÅ", "日本語漢字かなカナ한국어", "русскийΕλληνικά", "🚀👩‍👩‍👧🏽\u200d\ufe0f\u20e3", "!?.,;:-_()[]{}<>|/\\\"'`~@#$%^&*+=",
    "\u0301\u0308\u05b0\u064b", "مرحباשלוםहिन्दी", "\ufeff\u200b\u202e\u2066", "\x01\x7f\u0085", "ſKÅ①Ⅷ½²", "𐐀𝒜𝟘𞤀",
]


def random_text(r):
    parts = []
    for _ in range(r.randint(1, 12)):
        if r.random() < 0.15:
            c = chr(r.choice([r.randint(1, 0xD7FF), r.randint(0xE000, 0x10FFFF)]))
            parts.append(c * r.randint(1, 3))
        else:
            parts.append("".join(r.choice(r.choice(ALPHABETS)) for _ in range(r.randint(1, 10))))
        if r.random() < 0.4:
            parts.append(r.choice([" ", "  ", "\n", "\n\n", "'s", "'LL", " 12"]))
    return "".join(parts)


def compare(bin_dir, name, gguf_path, f, texts):
    """Our ids by a worker per batch of texts: the vocabulary test reads them from a folder in the test data's own format."""
    tok = reference(f)
    with tempfile.TemporaryDirectory() as tmp:
        stem = pathlib.Path(tmp) / "vectors.gguf"
        stem.symlink_to(os.path.abspath(gguf_path))
        sep = "\n__ggml_vocab_test__\n"
        texts = [t for t in texts if "__ggml" not in t]
        (pathlib.Path(tmp) / "vectors.gguf.inp").write_bytes("".join(t + sep for t in texts).encode())
        (pathlib.Path(tmp) / "vectors.gguf.out").write_text("".join(" ".join(map(str, tok.encode(t).ids)) + "\n" for t in texts))
        (pathlib.Path(tmp) / "tokenizer.json").write_text(tok.to_str())
        run = subprocess.run([f"{bin_dir}/test_text", "--gtest_filter=*Vectors*", "--gtest_brief=1"], env=os.environ | {"LLORCH_VECTORS": tmp}, capture_output=True, text=True)
        if run.returncode:
            print(run.stdout[-3000:])
            sys.exit(f"{name}: tokenizers differ from the reference")
    print(f"{name}: {len(texts)} texts, from GGUF and from tokenizer.json: same ids")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--bin", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--count", type=int, default=1500)
    p.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    a = p.parse_args()
    print(f"seed {a.seed}")
    texts = [random_text(random.Random(a.seed + i)) for i in range(a.count)]
    texts += ["a" * 20000, " " * 5000 + "x", "\n" * 3000, "'" * 2000, "ab" * 9000, "1" * 4000, "é" * 3000, "'S'T'RE'x ſ 'ſ"]
    vocabularies = [("builtin:haiku", "models/haiku.gguf")]
    for name in ("gpt-2", "llama-bpe", "qwen2"):
        path = f"{a.data}/vocab/{name}.gguf"
        if os.path.exists(path):
            vocabularies.append((name, path))
        else:
            print(f"{name}: not run, {path} is not there")
    for name, path in vocabularies:
        compare(a.bin, name, path, fields(path), texts)


if __name__ == "__main__":
    main()
