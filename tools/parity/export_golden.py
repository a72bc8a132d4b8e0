"""Goldens from the reference implementation: tiny models of every architecture and block format, run by Hugging Face transformers in float64.

    python tools/parity/export_golden.py --gguf build/release/bin/llorch-gguf --out tests/golden

Runs off-line; CI needs only the numbers that it writes. Weights are not committed: `llorch-gguf synth` makes them again, and the golden file
holds the SHA-256 of the model file that was used. F32 weights are checked bit for bit against generator.py, quantized ones are
dequantized by the `gguf` package, so that neither our reader nor our dequantizer is trusted here.
Needs: pip install torch transformers gguf safetensors numpy.
"""
import argparse
import hashlib
import importlib
import json
import pathlib
import subprocess
import tempfile

import gguf
import numpy as np
import torch
import transformers
from safetensors.numpy import save_file

import generator

SEED = 7
TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "MXFP4", "IQ4_XS", "IQ3_S", "IQ3_XXS", "TQ2_0", "NVFP4"]
SHORT = [3, 141, 59, 265, 35, 89, 79, 32, 38, 46]
LONG = [(i * i * 31 + 7 * i + 11) % 319 for i in range(70)]


class Float64Torch:
    """Stands for the module `torch` inside modeling code, so that its casts to float32 stay in float64."""

    def __getattr__(self, name):
        return torch.float64 if name in ("float32", "float") else getattr(torch, name)


def modeling(name):
    module = importlib.import_module(f"transformers.models.{name}.modeling_{name}")
    module.torch = Float64Torch()
    return module


class Weights:
    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.tensors = {}
        for t in reader.tensors:
            shape = [int(d) for d in reversed(t.shape)]
            data = np.asarray(t.data)
            if t.tensor_type == gguf.GGMLQuantizationType.F32:
                values = np.asarray(data, dtype=np.float32).reshape(shape)
                expected = generator.values(SEED, t.name, values.size, shape[-1]).reshape(shape)
                if not np.array_equal(values.view(np.uint32), expected.view(np.uint32)):
                    raise SystemExit(f"{t.name}: synth and generator.py disagree")
            else:
                values = gguf.quants.dequantize(data, t.tensor_type).reshape(shape)
            self.tensors[t.name] = torch.from_numpy(values.astype(np.float64))

    def __call__(self, name):
        return self.tensors[name]

    def has(self, name):
        return name in self.tensors


def eps32(x):
    return float(np.float32(x))


def unpair(w, heads):
    """Rows from GGUF's adjacent rotary pairs to Hugging Face's halves."""
    half = w.shape[0] // heads // 2
    return w.reshape(heads, half, 2, *w.shape[1:]).transpose(1, 2).reshape(w.shape)


def pair(x, heads):
    """Columns (tokens, heads * dim) from halves to adjacent pairs: how our checkpoints see a Llama's q and k."""
    half = x.shape[-1] // heads // 2
    return x.reshape(-1, heads, 2, half).transpose(-1, -2).reshape(x.shape)


def base_config(extra):
    return dict(vocab_size=320, hidden_size=256, num_hidden_layers=2, num_attention_heads=4, attn_implementation="eager", use_cache=False) | extra


def rope(theta, **extra):
    return dict(rope_parameters=dict(rope_type="default", rope_theta=theta) | extra)


def llama_like(name, w, config, qkv_bias=False, permute=False, extra=lambda sd, l: None):
    module = modeling(name)
    cls = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}[name]
    model = getattr(module, cls)(config)
    sd = {"model.embed_tokens.weight": w("token_embd.weight"), "model.norm.weight": w("output_norm.weight"), "lm_head.weight": w("output.weight")}
    for l in range(config.num_hidden_layers):
        hf, b = f"model.layers.{l}.", f"blk.{l}."
        for ours, theirs, heads in (("attn_q", "self_attn.q_proj", config.num_attention_heads), ("attn_k", "self_attn.k_proj", config.num_key_value_heads),
                                    ("attn_v", "self_attn.v_proj", 0), ("attn_output", "self_attn.o_proj", 0), ("ffn_gate", "mlp.gate_proj", 0),
                                    ("ffn_up", "mlp.up_proj", 0), ("ffn_down", "mlp.down_proj", 0)):
            value = w(b + ours + ".weight")
            sd[hf + theirs + ".weight"] = unpair(value, heads) if permute and heads else value
            if w.has(b + ours + ".bias"):
                sd[hf + theirs + ".bias"] = w(b + ours + ".bias")
        sd[hf + "input_layernorm.weight"] = w(b + "attn_norm.weight")
        sd[hf + "post_attention_layernorm.weight"] = w(b + "ffn_norm.weight")
        extra(sd, l)
    return module, model, sd


def build_llama(w, context):
    config = transformers.LlamaConfig(**base_config(dict(intermediate_size=512, num_key_value_heads=2, head_dim=64, max_position_embeddings=256,
                                                         rms_norm_eps=eps32(1e-5), tie_word_embeddings=False)), **rope(10000.0))
    module, model, sd = llama_like("llama", w, config, permute=True)
    rotary = model.model.rotary_emb
    rotary.inv_freq = rotary.inv_freq.double() / w("rope_freqs.weight")
    return module, model, sd


def build_qwen2(w, context):
    config = transformers.Qwen2Config(**base_config(dict(intermediate_size=512, num_key_value_heads=2, max_position_embeddings=256,
                                                         rms_norm_eps=eps32(1e-6), tie_word_embeddings=False)), **rope(1e6))
    return llama_like("qwen2", w, config)


def build_qwen3(w, context):
    config = transformers.Qwen3Config(**base_config(dict(intermediate_size=512, num_key_value_heads=2, head_dim=128, max_position_embeddings=256,
                                                         rms_norm_eps=eps32(1e-6), tie_word_embeddings=False)), **rope(1e6))

    def norms(sd, l):
        for n in ("q", "k"):
            sd[f"model.layers.{l}.self_attn.{n}_norm.weight"] = w(f"blk.{l}.attn_{n}_norm.weight")
    return llama_like("qwen3", w, config, extra=norms)


def build_qwen3moe(w, context):
    config = transformers.Qwen3MoeConfig(**base_config(dict(intermediate_size=256, moe_intermediate_size=256, num_key_value_heads=2, head_dim=64, num_experts=6,
                                                            num_experts_per_tok=2, norm_topk_prob=True, max_position_embeddings=256,
                                                            rms_norm_eps=eps32(1e-6), tie_word_embeddings=False)), **rope(1e6))
    config._experts_implementation = "eager"
    module = modeling("qwen3_moe")
    model = module.Qwen3MoeForCausalLM(config)
    sd = {"model.embed_tokens.weight": w("token_embd.weight"), "model.norm.weight": w("output_norm.weight"), "lm_head.weight": w("output.weight")}
    for l in range(2):
        hf, b = f"model.layers.{l}.", f"blk.{l}."
        for ours, theirs in (("attn_q", "self_attn.q_proj"), ("attn_k", "self_attn.k_proj"), ("attn_v", "self_attn.v_proj"), ("attn_output", "self_attn.o_proj"),
                             ("attn_q_norm", "self_attn.q_norm"), ("attn_k_norm", "self_attn.k_norm"), ("attn_norm", "input_layernorm"),
                             ("ffn_norm", "post_attention_layernorm"), ("ffn_gate_inp", "mlp.gate")):
            sd[hf + theirs + ".weight"] = w(b + ours + ".weight")
        sd[hf + "mlp.experts.gate_up_proj"] = torch.cat((w(b + "ffn_gate_exps.weight"), w(b + "ffn_up_exps.weight")), 1)
        sd[hf + "mlp.experts.down_proj"] = w(b + "ffn_down_exps.weight")
    return module, model, sd


def build_phi3(w, context):
    module = modeling("phi3")
    config = transformers.Phi3Config(**base_config(dict(intermediate_size=512, num_key_value_heads=4, max_position_embeddings=128,
                                                        original_max_position_embeddings=16, rms_norm_eps=eps32(1e-5), sliding_window=9,
                                                        tie_word_embeddings=False, pad_token_id=0)),
                                     **rope(10000.0, rope_type="longrope", original_max_position_embeddings=16,
                                            short_factor=w("rope_factors_short.weight").tolist(), long_factor=w("rope_factors_long.weight").tolist()))
    model = module.Phi3ForCausalLM(config)
    sd = {"model.embed_tokens.weight": w("token_embd.weight"), "model.norm.weight": w("output_norm.weight"), "lm_head.weight": w("output.weight")}
    for l in range(2):
        for ours, theirs in (("attn_norm", "input_layernorm"), ("attn_qkv", "self_attn.qkv_proj"), ("attn_output", "self_attn.o_proj"),
                             ("ffn_norm", "post_attention_layernorm"), ("ffn_up", "mlp.gate_up_proj"), ("ffn_down", "mlp.down_proj")):
            sd[f"model.layers.{l}.{theirs}.weight"] = w(f"blk.{l}.{ours}.weight")
    return module, model, sd


def build_gpt2(w, context):
    module = modeling("gpt2")
    config = transformers.GPT2Config(vocab_size=320, n_positions=128, n_embd=256, n_layer=2, n_head=4, n_inner=1024, activation_function="gelu_new",
                                     layer_norm_epsilon=eps32(1e-5), resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, attn_implementation="eager", use_cache=False,
                                     tie_word_embeddings=False)
    model = module.GPT2LMHeadModel(config)
    sd = {"transformer.wte.weight": w("token_embd.weight"), "transformer.wpe.weight": w("position_embd.weight"), "lm_head.weight": w("output.weight"),
          "transformer.ln_f.weight": w("output_norm.weight"), "transformer.ln_f.bias": w("output_norm.bias")}
    for l in range(2):
        for ours, theirs, turn in (("attn_norm", "ln_1", 0), ("attn_qkv", "attn.c_attn", 1), ("attn_output", "attn.c_proj", 1), ("ffn_norm", "ln_2", 0),
                                   ("ffn_up", "mlp.c_fc", 1), ("ffn_down", "mlp.c_proj", 1)):
            weight = w(f"blk.{l}.{ours}.weight")
            sd[f"transformer.h.{l}.{theirs}.weight"] = weight.T.contiguous() if turn else weight
            sd[f"transformer.h.{l}.{theirs}.bias"] = w(f"blk.{l}.{ours}.bias")
    return module, model, sd


def build_gpt_oss(w, context):
    module = modeling("gpt_oss")
    config = transformers.GptOssConfig(**base_config(dict(intermediate_size=256, num_attention_heads=8, num_key_value_heads=2, head_dim=64, num_local_experts=6,
                                                          num_experts_per_tok=2, sliding_window=7, max_position_embeddings=256,
                                                          rms_norm_eps=eps32(1e-5), tie_word_embeddings=False)),
                                       **rope(150000.0, rope_type="yarn", factor=32.0, beta_fast=32.0, beta_slow=1.0, truncate=False,
                                              original_max_position_embeddings=64))
    config._experts_implementation = "eager"
    model = module.GptOssForCausalLM(config)
    sd = {"model.embed_tokens.weight": w("token_embd.weight"), "model.norm.weight": w("output_norm.weight"), "lm_head.weight": w("output.weight")}
    for l in range(2):
        hf, b = f"model.layers.{l}.", f"blk.{l}."
        for ours, theirs in (("attn_q", "self_attn.q_proj"), ("attn_k", "self_attn.k_proj"), ("attn_v", "self_attn.v_proj"),
                             ("attn_output", "self_attn.o_proj"), ("ffn_gate_inp", "mlp.router")):
            sd[hf + theirs + ".weight"], sd[hf + theirs + ".bias"] = w(b + ours + ".weight"), w(b + ours + ".bias")
        sd[hf + "self_attn.sinks"] = w(b + "attn_sinks.weight")
        sd[hf + "input_layernorm.weight"] = w(b + "attn_norm.weight")
        sd[hf + "post_attention_layernorm.weight"] = w(b + "post_attention_norm.weight")
        gate, up = w(b + "ffn_gate_exps.weight").transpose(1, 2), w(b + "ffn_up_exps.weight").transpose(1, 2)
        sd[hf + "mlp.experts.gate_up_proj"] = torch.stack((gate, up), -1).flatten(-2)
        sd[hf + "mlp.experts.gate_up_proj_bias"] = torch.stack((w(b + "ffn_gate_exps.bias"), w(b + "ffn_up_exps.bias")), -1).flatten(-2)
        sd[hf + "mlp.experts.down_proj"] = w(b + "ffn_down_exps.weight").transpose(1, 2).contiguous()
        sd[hf + "mlp.experts.down_proj_bias"] = w(b + "ffn_down_exps.bias")
    return module, model, sd


BUILDERS = {"llama": build_llama, "qwen2": build_qwen2, "qwen3": build_qwen3, "qwen3moe": build_qwen3moe, "phi3": build_phi3, "gpt2": build_gpt2, "gpt-oss": build_gpt_oss}


def first(x):
    return x[0] if isinstance(x, tuple) else x


def watch(arch, module, model):
    """Hooks that record every checkpoint under our names; returns the dictionary that they fill."""
    seen = {}

    def put(name, x):
        x = x.detach()
        seen[name] = x.reshape(-1, x.shape[-1]).clone()

    def after(m, name, pick=lambda x: x):
        m.register_forward_hook(lambda _m, _i, out: put(name, pick(first(out))))

    def before(m, name):
        m.register_forward_pre_hook(lambda _m, args, kwargs: put(name, args[0] if args else kwargs["hidden_states"]), with_kwargs=True)

    gpt2 = arch == "gpt2"
    layers = model.transformer.h if gpt2 else model.model.layers
    heads = model.config.num_attention_heads
    kv_heads = getattr(model.config, "num_key_value_heads", heads)
    before(layers[0], "embedding")
    for l, layer in enumerate(layers):
        p = f"layer_{l:02}."
        attention = layer.attn if gpt2 else layer.self_attn
        norm1, norm2 = (layer.ln_1, layer.ln_2) if gpt2 else (layer.input_layernorm, layer.post_attention_layernorm)
        after(norm1, p + "attn_norm")
        before(norm2, p + "attn_residual")
        after(norm2, p + "mlp_norm")
        output = attention.c_proj if gpt2 else attention.o_proj
        before(output, p + "attn")
        after(output, p + "attn_out")
        after(layer.mlp, p + "mlp")
        after(layer, p + "output")
        turn = pair if arch == "llama" else lambda x, h: x
        if gpt2 or arch == "phi3":
            fused = attention.c_attn if gpt2 else attention.qkv_proj
            q = model.config.hidden_size
            k = (fused.weight.shape[1] - q) // 2 if gpt2 else (fused.weight.shape[0] - q) // 2
            for name, at, n in (("q", 0, q), ("k", q, k), ("v", q + k, k)):
                after(fused, p + name, lambda x, at=at, n=n: x[..., at:at + n])
                if gpt2 and name != "v":
                    after(fused, p + name + "_rope", lambda x, at=at, n=n: x[..., at:at + n])
        else:
            after(attention.q_proj, p + "q", lambda x: turn(x, heads))
            after(attention.k_proj, p + "k", lambda x: turn(x, kv_heads))
            after(attention.v_proj, p + "v")
    after(model.transformer.ln_f if gpt2 else model.model.norm, "final_norm")
    if not gpt2:
        plain, calls = module.apply_rotary_pos_emb, []

        def rotary(q, k, *args, **kwargs):
            q, k = plain(q, k, *args, **kwargs)
            layer = len(calls) % len(layers)
            calls.append(0)
            for name, x, h in (("q_rope", q, heads), ("k_rope", k, kv_heads)):
                flat = x.transpose(1, 2).reshape(x.shape[2], -1)
                put(f"layer_{layer:02}.{name}", pair(flat, h) if arch == "llama" else flat)
            return q, k
        module.apply_rotary_pos_emb = rotary
        seen["_undo"] = lambda: setattr(module, "apply_rotary_pos_emb", plain)
    return seen


def greedy(arch, path, tokens, count):
    """The most likely continuation, one token at a time without a cache."""
    _, model, sd = BUILDERS[arch](Weights(path), 0)
    model = model.double().eval()
    model.load_state_dict(sd, strict=False)
    ids = list(tokens)
    with torch.no_grad():
        for _ in range(count):
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(tokens):]


def run(arch, path, context, tokens, watched):
    w = Weights(path)
    module, model, sd = BUILDERS[arch](w, context)
    model = model.double().eval()
    missing, unexpected = model.load_state_dict(sd, strict=False)
    missing = [m for m in missing if not m.endswith((".attn.bias", ".attn.masked_bias", "inv_freq"))]
    if missing or unexpected:
        raise SystemExit(f"{arch}: missing {missing}, unexpected {unexpected}")
    used = {n for n in w.tensors if not n.startswith("rope_f")}
    elements = sum(w.tensors[n].numel() for n in used)
    if elements != sum(v.numel() for v in sd.values()):
        raise SystemExit(f"{arch}: the reference does not hold every weight")
    seen = watch(arch, module, model) if watched else {}
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0]
    if logits.dtype != torch.float64:
        raise SystemExit(f"{arch}: logits are {logits.dtype}")
    undo = seen.pop("_undo", None)
    if undo:
        undo()
    for name, x in seen.items():
        if x.dtype != torch.float64:
            raise SystemExit(f"{arch}: checkpoint {name} is {x.dtype}")
    seen["logits"] = logits
    return {k: np.ascontiguousarray(v.numpy().astype(np.float32)) for k, v in seen.items()}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--gguf", required=True)
    p.add_argument("--out", type=pathlib.Path, required=True)
    p.add_argument("--arch", nargs="*", default=list(BUILDERS))
    p.add_argument("--type", nargs="*", default=TYPES)
    a = p.parse_args()
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    importlib.import_module("transformers.modeling_rope_utils").torch = Float64Torch()
    a.out.mkdir(parents=True, exist_ok=True)
    for arch in a.arch:
        for kind in a.type:
            with tempfile.TemporaryDirectory() as tmp:
                path = f"{tmp}/model.gguf"
                subprocess.run([a.gguf, "synth", "--shape", f"tiny-{arch}", "--type", kind, "--seed", str(SEED), path], check=True)
                short_context = 16 if arch == "phi3" else 0  # phi3: within the original context, so the short factors hold
                result = {f"short/{k}": v for k, v in run(arch, path, short_context, SHORT, kind == "F32").items()}
                if kind == "F32":
                    result["long/logits"] = run(arch, path, 0, LONG, False)["logits"]
                follow = greedy(arch, path, SHORT, 6) if kind == "F32" else []
                meta = dict(greedy=follow, shape=f"tiny-{arch}", type=kind, seed=SEED, sha256=hashlib.sha256(open(path, "rb").read()).hexdigest(),
                            short_tokens=SHORT, long_tokens=LONG, short_context=short_context, reference="transformers float64, eager attention",
                            versions=dict(torch=torch.__version__, transformers=transformers.__version__, numpy=np.__version__))
                save_file(result, a.out / f"{arch}-{kind}.safetensors", metadata={"golden": json.dumps(meta)})
                print(arch, kind, len(result), flush=True)


if __name__ == "__main__":
    main()
