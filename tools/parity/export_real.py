#!/usr/bin/env python3
"""What real models compute, by Hugging Face transformers in float64 on the weights that the files hold: the truth of tests/worker/real_models_test.py.

    ./dev models
    python tools/parity/export_real.py [--out tests/golden/real] [NAME ...]

By hand: needs `pip install torch transformers sentence-transformers accelerate gguf` (5 GB) and minutes. Tests need only the numbers that it
writes. GGUF weights are dequantized by the `gguf` package, configurations and tokenizers of GGUF files are those that transformers makes of
them, vectors are those of sentence-transformers: nothing of ours is asked.
"""
import argparse
import hashlib
import json
import pathlib

import numpy as np
import torch
import transformers

from gguf_to_transformers import language_model, stay_in_float64

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ROOT / ".test-models"
TEXT = ROOT / "tests/golden/real/text.txt"
NEW_TOKENS, LOGITS_EVERY, LOGITS_POSITIONS = 40, 499, (0, 1, 30, -1)

# Of models that were trained for it, the chat template makes the prompt; the others continue a text.
PROMPTS = {
    "smollm2-135m-q4_1": [[{"role": "user", "content": text}] for text in ("What is the capital of Germany?", "What is 2+2?", "What is gravity?")],
    "gemma3-270m-q4_k_m": ["The capital of France is Paris. The capital of Japan is", "Question: What do bees make?\nAnswer:", "Monday, Tuesday, Wednesday,"],
}
SENTENCES = [
    "A lighthouse keeper writes down every ship.",
    "The woman in the tower noted which vessels passed.",
    "Gradient descent converges for convex functions.",
    "Ünïcode, naïve café — 東京タワー and \U0001f642!",
    "x",
]


def sha256_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def made_by(*modules):
    return ", ".join(f"{m.__name__} {m.__version__}" for m in modules) + ", float64"


@torch.no_grad()
def export_gguf(name, out):
    stay_in_float64("llama", "gemma3")
    path = MODELS / f"{name}.gguf"
    model, tokenizer = language_model(path)
    prompts = []
    for prompt in PROMPTS[name]:
        chat = not isinstance(prompt, str)
        text = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True) if chat else prompt
        ids = tokenizer(text, add_special_tokens=not chat).input_ids
        answer, margins, new, cache = [], [], ids, None
        while len(answer) < NEW_TOKENS and (not answer or answer[-1] != tokenizer.eos_token_id):
            step = model(torch.tensor([new]), past_key_values=cache, use_cache=True, logits_to_keep=1)
            row, cache = step.logits[0, -1].numpy(), step.past_key_values
            best = np.argsort(row)[-2:]
            answer.append(int(best[1]))
            new = answer[-1:]
            margins.append(round(float(row[best[1]] - row[best[0]]), 4))
        shown = tokenizer.decode(answer, skip_special_tokens=True)
        print(f"{name}: {prompt if not chat else prompt[0]['content']!r} -> {shown!r}, smallest margin {min(margins)}", flush=True)
        prompts.append({"messages" if chat else "text": prompt, "prompt": text, "prompt_ids": ids, "ids": answer, "margins": margins, "answer": shown,
                        "ends": [len(tokenizer.decode(answer[: i + 1], skip_special_tokens=True)) for i in range(len(answer))]})
    ids = tokenizer(TEXT.read_text(), add_special_tokens=False).input_ids
    part = TEXT.read_text().split(". ")[0] + "."
    part_ids = tokenizer(part, add_special_tokens=False).input_ids
    assert part_ids == ids[: len(part_ids)], "the part of the text is cut in a token"
    prefix = [tokenizer.bos_token_id] if tokenizer("x").input_ids[0] == tokenizer.bos_token_id else []
    logits = model(torch.tensor([prefix + ids]), use_cache=False).logits[0].numpy()
    losses = np.log(np.exp(logits - logits.max(-1, keepdims=True)).sum(-1)) + logits.max(-1)
    losses = losses[:-1] - logits[np.arange(len(logits) - 1), (prefix + ids)[1:]]
    rows = [{"position": p % len(logits), "largest": float(np.abs(logits[p]).max()), "values": [round(float(v), 6) for v in logits[p, ::LOGITS_EVERY]]} for p in LOGITS_POSITIONS]
    print(f"{name}: perplexity {np.exp(losses.mean()):.6f} over {len(losses)} tokens", flush=True)
    write(out / f"{name}.json", {
        "made_by": made_by(transformers, torch), "sha256": sha256_of(path), "prompts": prompts, "text_sha256": sha256_of(TEXT), "add_bos": bool(prefix), "eos": tokenizer.eos_token_id, "text_ids": prefix + ids,
        "part_characters": len(part), "part_tokens": len(prefix + part_ids) - 1,
        "logits_every": LOGITS_EVERY, "logits": rows, "losses": [round(float(v), 7) for v in losses], "perplexity": float(np.exp(losses.mean()))})


def export_vectors(name, out):
    import sentence_transformers

    stay_in_float64("bert")
    folder = MODELS / name
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu", model_kwargs={"attn_implementation": "eager"}).double()
    assert all(p.dtype == torch.float64 for p in model.parameters())
    texts = [*SENTENCES, TEXT.read_text()[:900]]
    vectors = model.encode(texts, batch_size=1, convert_to_numpy=True)
    assert vectors.dtype == np.float64, vectors.dtype
    print(f"{name}: {vectors.shape}, lengths {np.linalg.norm(vectors, axis=1)}, most alike {np.round(vectors @ vectors.T, 3).tolist()[0]}", flush=True)
    write(out / f"{name}.json", {
        "made_by": made_by(sentence_transformers, transformers, torch), "sha256": sha256_of(folder / "model.safetensors"), "max_tokens": model.max_seq_length,
        "texts": [{"text": t, "ids": model.tokenizer(t).input_ids, "vector": [round(float(v), 9) for v in row]} for t, row in zip(texts, vectors)]})


def write(path, truth):
    path.write_text(json.dumps(truth, ensure_ascii=False, separators=(",", ":")).replace('},{"', '},\n{"') + "\n")


def main():
    known = {**dict.fromkeys(PROMPTS, export_gguf), "all-minilm-l6-v2": export_vectors}
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=pathlib.Path, default=ROOT / "tests/golden/real")
    p.add_argument("names", nargs="*", metavar="NAME", help=", ".join(known))
    args = p.parse_args()
    for name in args.names or known:
        known[name](name, args.out)


if __name__ == "__main__":
    main()
