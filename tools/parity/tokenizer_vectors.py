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
import unicodedata

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

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


# Libraries carry different versions of Unicode (the reference's punctuation table is older than ours), so that a character
# added lately has another category in each. Random ones are drawn from those whose category is the same since Unicode 3.2.
STABLE = [c for c in range(1, 0x110000) if not 0xD800 <= c <= 0xDFFF and unicodedata.category(chr(c)) != "Cn"
          and unicodedata.category(chr(c)) == unicodedata.ucd_3_2_0.category(chr(c))]


def random_text(r):
    parts = []
    for _ in range(r.randint(1, 12)):
        if r.random() < 0.15:
            c = chr(r.choice(STABLE))
            parts.append(c * r.randint(1, 3))
        else:
            parts.append("".join(r.choice(r.choice(ALPHABETS)) for _ in range(r.randint(1, 10))))
        if r.random() < 0.4:
            parts.append(r.choice([" ", "  ", "\n", "\n\n", "'s", "'LL", " 12"]))
    return "".join(parts)


def trained(kind, texts):
    """A small tokenizer of a kind that GGUF files do not carry, trained here on the texts themselves."""
    special = ["<unk>", "<s>", "</s>"]
    texts = [t for t in texts if len(t) < 500 and all(ord(c) < 0x180 for c in t)] * 3  # the rest is unknown to it
    if kind == "unigram":
        tok = Tokenizer(models.Unigram())
        tok.normalizer = normalizers.NFKC()
        tok.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
        tok.decoder = decoders.Metaspace(replacement="\u2581", prepend_scheme="always")
        tok.train_from_iterator(texts, trainers.UnigramTrainer(vocab_size=1500, special_tokens=special, unk_token="<unk>", show_progress=False))
    elif kind == "byte-fallback":
        tok = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        tok.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
        tok.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
        tok.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=900, special_tokens=special + [f"<0x{b:02X}>" for b in range(256)], limit_alphabet=60, show_progress=False))
    else:
        tok = Tokenizer(models.BPE())
        tok.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
        tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Punctuation(behavior="contiguous"), pre_tokenizers.Digits(individual_digits=False),
                                                     pre_tokenizers.ByteLevel(add_prefix_space=True)])
        tok.decoder = decoders.ByteLevel()
        tok.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=800, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return tok


# Patterns of published tokenizer.json files by the names that GGUF has for them; digits that are cut off first are a list's first entry.
UPPER, LOWER, SPACES = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", r"\s*[\r\n]+|\s+(?!\S)|\s+"
WORD = rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+%s|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+{LOWER}*%s"
ENDING = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
DEEPSEEK3 = [r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
             r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|""" + SPACES]
PUBLISHED = {
    "lfm2": [LLAMA3],
    "exaone4": [GPT2],
    "modern-bert": [GPT2],
    "starcoder": [r"\p{N}", GPT2],
    "qwen35": [r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + SPACES],
    "seed-coder": [r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|" + SPACES],
    "deepseek-v3": DEEPSEEK3,
    "hunyuan-dense": DEEPSEEK3,
    "gpt-4o": [WORD % (ENDING, ENDING) + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACES],
    "tekken": [WORD % ("", "") + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACES],
}


def trained_with(patterns, whole_words, texts):
    tok = Tokenizer(models.BPE(ignore_merges=whole_words))
    tok.pre_tokenizer = pre_tokenizers.Sequence([*(pre_tokenizers.Split(Regex(p), "isolated") for p in patterns), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator([t for t in texts if len(t) < 500] * 3, trainers.BpeTrainer(vocab_size=3000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    return tok


def write_byte_level(path, tok, pre):
    model = json.loads(tok.to_str())["model"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(sorted(model["vocab"], key=model["vocab"].get))
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in model["merges"]])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# BERT's normalizer in each of its forms that change a text: what GGUF can say of them, and the rest.
WORD_PIECES = {
    "wordpiece": {},
    "wordpiece, cased": {"lowercase": False},
    "wordpiece, cased without accents": {"lowercase": False, "strip_accents": True},
    "wordpiece, accents in lower case": {"strip_accents": False},
    "wordpiece, not cleaned": {"clean_text": False, "handle_chinese_chars": False},
}


def word_piece(texts, **form):
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    tok.normalizer = normalizers.BertNormalizer(**form)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=1500, limit_alphabet=200, special_tokens=special, show_progress=False)
    tok.train_from_iterator([t for t in texts if len(t) < 500] * 3, trainer)
    tok.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[(t, tok.token_to_id(t)) for t in ("[CLS]", "[SEP]")])
    return tok


def write_word_piece(path, tok, lowercase=True, strip_accents=None):
    """As GGUF has it: pieces that begin a word are marked, not those inside one."""
    vocab = tok.get_vocab()
    tokens = sorted(vocab, key=vocab.get)
    control = {t.content for t in tok.get_added_tokens_decoder().values()}
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_tokenizer_model("bert")
    writer.add_token_list([t if t in control else t[2:] if t.startswith("##") else "\u2581" + t for t in tokens])
    writer.add_token_types([3 if t in control else 1 for t in tokens])
    writer.add_bos_token_id(vocab["[CLS]"])
    writer.add_eos_token_id(vocab["[SEP]"])
    writer.add_unk_token_id(vocab["[UNK]"])
    writer.add_bool("tokenizer.ggml.normalizer.lowercase", lowercase)
    if strip_accents is not None:
        writer.add_bool("tokenizer.ggml.normalizer.strip_accents", strip_accents)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def run_vectors(bin_dir, name, tmp, tok, texts, decode, given=None):
    sep = "\n__ggml_vocab_test__\n"
    (pathlib.Path(tmp) / "vectors.gguf.inp").write_bytes("".join(t + sep for t in texts).encode())
    (pathlib.Path(tmp) / "vectors.gguf.out").write_text("".join(" ".join(map(str, tok.encode(t, add_special_tokens=False).ids)) + "\n" for t in texts))
    (pathlib.Path(tmp) / "tokenizer.json").write_text((given or tok).to_str())
    env = os.environ | {"LLORCH_VECTORS": str(tmp)} | ({} if decode else {"LLORCH_VECTORS_IDS_ONLY": "1"})
    run = subprocess.run([f"{bin_dir}/test_text", "--gtest_filter=*Vectors*", "--gtest_brief=1"], env=env, capture_output=True, text=True)
    if run.returncode:
        print(run.stdout[-3000:])
        sys.exit(f"{name}: tokenizers differ from the reference")


def compare(bin_dir, name, gguf_path, f, texts):
    """Our ids by a worker per batch of texts: the vocabulary test reads them from a folder in the test data's own format."""
    tok = reference(f)
    with tempfile.TemporaryDirectory() as tmp:
        (pathlib.Path(tmp) / "vectors.gguf").symlink_to(os.path.abspath(gguf_path))
        run_vectors(bin_dir, name, tmp, tok, texts, True)
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
    for kind in ("unigram", "byte-fallback", "normalised"):
        with tempfile.TemporaryDirectory() as tmp:
            # Normalisation may change text, so that only ids are compared; special tokens are never spelled by these texts.
            run_vectors(a.bin, kind, tmp, trained(kind, texts), texts, False)
        print(f"{kind}: {len(texts)} texts, from tokenizer.json: same ids")
    for name, patterns in PUBLISHED.items():
        with tempfile.TemporaryDirectory() as tmp:
            tok = trained_with(patterns, name in ("lfm2", "tekken"), texts)
            write_byte_level(f"{tmp}/vectors.gguf", tok, name)
            run_vectors(a.bin, name, tmp, tok, texts, True)
        print(f"{name}: {len(texts)} texts, from GGUF and from tokenizer.json: same ids")
    texts += ["don't \u4e16\u754c\ufffdx \U0002b820 \U0002a700!", "\u0130stanbul \u1e9e \u03a3\u03a3", "x" * 100 + " " + "x" * 101 + " " + "\u00e9" * 100, "[CLS] [UNK] [ ] ##a a##b \u2581a a\u2581b"]
    for kind, form in WORD_PIECES.items():
        with tempfile.TemporaryDirectory() as tmp:
            tok = word_piece(texts, **form)
            has_keys = set(form) <= {"lowercase", "strip_accents"}
            if has_keys:
                write_word_piece(f"{tmp}/vectors.gguf", tok, **form)
            plain = Tokenizer.from_str(json.dumps(json.loads(tok.to_str()) | {"added_tokens": []}))  # a spelling of a control token in a text is not one
            run_vectors(a.bin, kind, tmp, plain, texts, False, tok)
        print(f"{kind}: {len(texts)} texts, from {'GGUF and from ' if has_keys else ''}tokenizer.json: same ids")


if __name__ == "__main__":
    main()
