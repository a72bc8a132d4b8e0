"""Hugging Face transformers as it ships: its own reader of GGUF files, its own choice of arithmetic."""
# environment: transformers
# packages: torch transformers accelerate gguf sentencepiece protobuf numpy
# check: transformers
import pathlib
import sys

sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])  # and not this folder, whose files have the engines' names
import reference  # noqa: E402


def run(a):
    import numpy as np
    import torch
    import transformers

    place = (a.model,) if a.model.is_dir() else (a.model.parent,)
    which = {} if a.model.is_dir() else {"gguf_file": a.model.name}
    config = transformers.AutoConfig.from_pretrained(*place, **which)
    model = reference.model_class(config).from_pretrained(*place, **which).eval()
    own = transformers.AutoTokenizer.from_pretrained(*place, **which)
    with torch.no_grad():
        out = model(torch.tensor([a.tokens]))
    logits = (out.last_hidden_state if reference.gives_states(config) else out.logits)[0].float().numpy()
    np.save(a.out / "logits.npy", logits.astype(np.float32))
    kind = str(model.dtype).removeprefix("torch.")
    reference.about(a.out, states=reference.gives_states(config), engine="transformers", version=f"{transformers.__version__}, torch {torch.__version__}", weights="as stored", arithmetic=kind, reduced=kind != "float32", own_ids=own(a.written).input_ids if a.written else None)


if __name__ == "__main__":
    sys.exit(reference.main(run))
