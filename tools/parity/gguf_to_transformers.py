"""A GGUF file's model as Hugging Face transformers runs it in float64. Weights are dequantized by the `gguf` package: nothing of ours is asked."""
import importlib
import re

import gguf
import numpy as np
import torch
import transformers


class Float64Torch:
    """Stands for the module `torch` inside modeling code, so that its casts to float32 stay in float64."""

    def __getattr__(self, name):
        return torch.float64 if name in ("float32", "float") else getattr(torch, name)


def stay_in_float64(*families):
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = torch.Tensor.double
    for name in families:
        importlib.import_module(f"transformers.models.{name}.modeling_{name}").torch = Float64Torch()


# Names of transformers' layers, by GGUF's.
LAYERS = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}
OF_LLAMA = {"ffn_norm": "post_attention_layernorm"}
OF_GEMMA = {"post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}
ENDS = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight"}


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
    return {"lm_head.weight": out["model.embed_tokens.weight"]} | out  # where they are tied


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
