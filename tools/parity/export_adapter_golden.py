"""Results of PEFT's own LoRA layers over the tiny models of export_golden.py, in float64.

    python tools/parity/export_adapter_golden.py --gguf build/release/bin/llorch-gguf --out tests/golden/adapters/peft.safetensors

Written are logits, and of each adapter what PEFT saved beside its numbers: adapter_config.json, the tensors' names and shapes. The numbers
are those of generator.py under these names, so that tests/adapter_test.cc makes the folder again.
Needs besides what export_golden.py needs: pip install peft.
"""
import argparse
import importlib
import json
import pathlib
import subprocess
import tempfile

import numpy as np
import peft
import torch
from safetensors.numpy import load_file, save_file

import export_golden
import generator

SEED, ROWS = 11, 5
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# llama: q and k are stored in another order of rows; gpt2: matrices are stored transposed, queries, keys and values as one.
CONFIGS = {
    "llama": dict(r=4, lora_alpha=6, target_modules=LINEAR, rank_pattern={"layers.1.self_attn.v_proj": 8}, alpha_pattern={"down_proj": 3}),
    "gpt2": dict(r=3, lora_alpha=4, target_modules=["c_attn", "c_proj", "c_fc"], use_rslora=True, fan_in_fan_out=True),
}


def export(arch, path, folder):
    _, model, weights = export_golden.BUILDERS[arch](export_golden.Weights(path), 0)
    model = model.double().eval()
    model.load_state_dict(weights, strict=False)
    model = peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **CONFIGS[arch])).double().eval()
    names = {}
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "lora_" in name:
                stored = name.replace(".default", "")
                names[stored] = list(p.shape)
                values = generator.values(SEED, stored, p.numel(), p.shape[-1]).reshape(p.shape)
                p.copy_(torch.from_numpy(values.astype(np.float64)))
        tokens = torch.tensor([export_golden.SHORT])
        logits = model(tokens).logits[0, -ROWS:]
        with model.disable_adapter():
            alone = model(tokens).logits[0, -ROWS:]
    assert logits.dtype == torch.float64
    model.save_pretrained(folder)
    saved = load_file(f"{folder}/adapter_model.safetensors")
    assert {n: list(v.shape) for n, v in saved.items()} == names, "PEFT saves other tensors"
    print(arch, len(names), "tensors; the adapter changes logits by", float((logits - alone).abs().max() / alone.abs().max()))
    return logits, dict(config=json.load(open(f"{folder}/adapter_config.json")), tensors=names)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--gguf", required=True)
    p.add_argument("--out", type=pathlib.Path, required=True)
    a = p.parse_args()
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    importlib.import_module("transformers.modeling_rope_utils").torch = export_golden.Float64Torch()
    tensors, adapters = {}, {}
    for arch in CONFIGS:
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/model.gguf"
            subprocess.run([a.gguf, "synth", "--shape", f"tiny-{arch}", "--type", "F32", "--seed", str(export_golden.SEED), path], check=True)
            logits, adapters[arch] = export(arch, path, folder)
            tensors[arch] = np.ascontiguousarray(logits.numpy().astype(np.float32))
    meta = dict(adapters=adapters, tokens=export_golden.SHORT, model_seed=export_golden.SEED, seed=SEED,
                versions=dict(peft=peft.__version__, torch=torch.__version__, transformers=export_golden.transformers.__version__))
    a.out.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, a.out, metadata={"adapters": json.dumps(meta)})


if __name__ == "__main__":
    main()
