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
import importlib
import json
import pathlib
import re

import gguf
import numpy as np
import torch
import transformers

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


class Float64Torch:
    """Stands for the module `torch` inside modeling code, so that its casts to float32 stay in float64."""

    def __getattr__(self, name):
        return torch.float64 if name in ("float32", "float") else getattr(torch, name)


def stay_in_float64(*families):
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double
    for name in families:
        importlib.import_module(f"transformers.models.{name}.modeling_{name}").torch = Float64Torch()


def sha256_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def made_by(*modules):
    return ", ".join(f"{m.__name__} {m.__version__}" for m in modules) + ", float64"


# Names of transformers' layers, by GGUF's.
LAYERS = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
OF_LLAMA = {"ffn_norm": "post_attention_layernorm"}
OF_GEMMA = {"post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}
ENDS = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}


def unpaired(w, heads):
    """GGUF stores rows of llama's queries and keys so that the two of a rotation are neighbours; transformers has them half a head apart."""
    return w.reshape(heads, w.shape[0] // heads // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def state_dict(path, config):
    out, gemma = {}, config.model_type != "llama"
    names = LAYERS | (OF_GEMMA if gemma else OF_LLAMA)
    for t in gguf.GGUFReader(path).tensors:
        w = gguf.quants.dequantize(t.data, t.tensor_type).reshape([int(d) for d in reversed(t.shape)]).astype(np.float64)
        if gemma and t.name.endswith("norm.weight"):
            w = w - 1  # transformers adds it to the stored weight, GGUF's has it
        name = ENDS.get(t.name)
        if m := re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", t.name):
            name = f"model.layers.{m[1]}.{names[m[2]]}.weight"
            if not gemma and m[2] in ("attn_q", "attn_k"):
                w = unpaired(w, config.num_attention_heads if m[2] == "attn_q" else config.num_key_value_heads)
        out[name] = torch.from_numpy(np.ascontiguousarray(w))
    return out | {"lm_head.weight": out["model.embed_tokens.weight"]}  # both families tie them


def language_model(path):
    config = transformers.AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    config.quantization_config = None
    del config.quantization_config
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float64)
    model.load_state_dict(state_dict(path, config), strict=True)
    assert all(p.dtype == torch.float64 for p in model.parameters())
    assert all(b.dtype == torch.float64 for b in model.buffers() if b.is_floating_point()), "a table in float32"
    return model.eval(), transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)


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
