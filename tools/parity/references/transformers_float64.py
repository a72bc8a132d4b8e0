"""Hugging Face transformers in float64: the truth (P-01), with checkpoints of each layer."""
# environment: transformers
# packages: torch transformers accelerate gguf sentencepiece protobuf numpy
# check: transformers
# truth
import pathlib
import sys

sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])  # and not this folder, whose files have the engines' names
import reference  # noqa: E402


def checkpoints(model, keep):
    """Hooks on the model itself: what each layer reads, normalises and leaves, under the names of src/forward/model.h."""
    body = model.model
    keep_output = lambda name: lambda module, inputs, output: keep(name, output[0] if isinstance(output, tuple) else output)
    body.layers[0].register_forward_pre_hook(lambda module, inputs, kwargs: keep("embedding", inputs[0] if inputs else kwargs["hidden_states"]), with_kwargs=True)
    for i, layer in enumerate(body.layers):
        layer.input_layernorm.register_forward_hook(keep_output(f"layer_{i:02}.attn_norm"))
        layer.register_forward_hook(keep_output(f"layer_{i:02}.output"))
    body.norm.register_forward_hook(keep_output("final_norm"))


def run(a):
    import numpy as np
    import torch
    import transformers
    from gguf_to_transformers import language_model, stay_in_float64

    if a.model.is_dir():
        config = transformers.AutoConfig.from_pretrained(a.model)
        if not reference.gives_states(config):
            stay_in_float64(config.model_type)
        model = reference.model_class(config).from_pretrained(a.model, dtype=torch.float64, attn_implementation="eager").eval()
        own = transformers.AutoTokenizer.from_pretrained(a.model)
    else:
        config = transformers.AutoConfig.from_pretrained(a.model.parent, gguf_file=a.model.name)
        family = {"gemma3_text": "gemma3"}.get(config.model_type, config.model_type)
        if family not in ("llama", "gemma3"):
            raise reference.Unavailable(f"its weights' names are not known here for {family}")
        stay_in_float64(family)
        model, own = language_model(a.model)
    def keep(name, value):
        np.save(a.out / f"{name}.npy", value.detach().numpy().reshape(-1, value.shape[-1]).astype(np.float32))

    if hasattr(model, "model") and hasattr(model.model, "layers") and hasattr(model.model.layers[0], "input_layernorm"):
        checkpoints(model, keep)
    with torch.no_grad():
        if reference.gives_states(config):
            keep("logits", model(torch.tensor([a.tokens])).last_hidden_state[0])
        else:
            keep("logits", model(torch.tensor([a.tokens]), use_cache=False).logits[0])
    reference.about(a.out, states=reference.gives_states(config), engine="transformers", version=f"{transformers.__version__}, torch {torch.__version__}", weights="as stored", arithmetic="float64", own_ids=own(a.written).input_ids if a.written else None)


if __name__ == "__main__":
    sys.exit(reference.main(run))
