"""Writes a trained checkpoint folder as a GGUF file in F32; `llorch-gguf quantize` then makes the Q8_0 that is committed.

    python tools/haiku/export.py build/haiku build/haiku/f32.gguf
    build/release/bin/llorch-gguf quantize build/haiku/f32.gguf models/haiku.gguf Q8_0

Needs: pip install torch gguf.
"""
import json
import pathlib
import sys

import gguf
import torch

TEMPLATE = ("{%- for message in messages %}{%- if message.role == 'user' %}<|user|>{{ message.content }}"
            "{%- elif message.role == 'assistant' %}<|assistant|>{{ message.content }}<|end|>{%- endif %}{%- endfor %}"
            "{%- if add_generation_prompt %}<|assistant|>{%- endif %}")


def main(folder: pathlib.Path, out: str):
    c = json.loads((folder / "config.json").read_text())
    tok = json.loads((folder / "tokenizer.json").read_text())
    state = torch.load(folder / "model.pt", map_location="cpu")
    w = gguf.GGUFWriter(out, "llama")
    w.add_name("haiku")
    w.add_description("Writes haikus. Trained from nothing by tools/haiku of llama-orch.")
    w.add_license("Apache-2.0")
    w.add_context_length(c["context"])
    w.add_embedding_length(c["dim"])
    w.add_block_count(c["layers"])
    w.add_feed_forward_length(c["ffn"])
    w.add_head_count(c["heads"])
    w.add_head_count_kv(c["kv_heads"])
    w.add_layer_norm_rms_eps(c["eps"])
    w.add_rope_dimension_count(c["dim"] // c["heads"])
    w.add_rope_freq_base(c["rope_base"])
    special = {t["id"] for t in tok["added_tokens"]}
    tokens = sorted(tok["model"]["vocab"], key=tok["model"]["vocab"].get)
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(tokens)
    w.add_token_types([3 if i in special else 1 for i in range(len(tokens))])
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in tok["model"]["merges"]])
    w.add_eos_token_id(tokens.index("<|end|>"))
    w.add_add_bos_token(False)
    w.add_chat_template(TEMPLATE)
    names = {"embedding.weight": "token_embd.weight", "norm.weight": "output_norm.weight", "head.weight": "output.weight"}
    parts = {"attn_norm": "attn_norm", "ffn_norm": "ffn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output",
             "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}
    for name, value in state.items():
        if name.startswith("layers."):
            _, layer, part, _ = name.split(".")
            name = f"blk.{layer}.{parts[part]}.weight"
        else:
            name = names[name]
        w.add_tensor(name, value.float().numpy())
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2])
