"""llama.cpp, by llama-cpp-python: the file as it is, logits of every position asked for."""
# environment: llama_cpp
# packages: llama-cpp-python numpy
# check: llama_cpp
# folders as f32
import pathlib
import sys

sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])  # and not this folder, whose files have the engines' names
import reference  # noqa: E402


def run(a):
    import llama_cpp
    import numpy as np

    path = a.f32 if a.model.is_dir() else a.model
    size = {"n_ctx": max(64, len(a.tokens) + 1), "n_batch": max(512, len(a.tokens)), "verbose": False}
    model = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    states = any(key.endswith(".attention.causal") and value == "false" for key, value in model.metadata.items())
    if states:
        model = llama_cpp.Llama(str(path), embedding=True, pooling_type=llama_cpp.LLAMA_POOLING_TYPE_NONE, n_ubatch=size["n_batch"], **size)
        model._batch.set_batch(batch=a.tokens, n_past=0, logits_all=True)
        model._ctx.decode(model._batch) if not hasattr(model._ctx, "encode") else model._ctx.encode(model._batch)
        logits = np.array([np.ctypeslib.as_array(llama_cpp.llama_get_embeddings_ith(model.ctx, i), (model.n_embd(),)) for i in range(len(a.tokens))], np.float32)
    else:
        model = llama_cpp.Llama(str(path), logits_all=True, **size)
        model.eval(a.tokens)
        logits = np.array(model.scores[: len(a.tokens)], dtype=np.float32)
    np.save(a.out / "logits.npy", logits)
    own = model.tokenize(a.written.encode(), add_bos=False, special=False) if a.written else None
    reference.about(a.out, states=states, engine="llama.cpp", version=f"llama-cpp-python {llama_cpp.__version__}", weights="as stored", arithmetic="activations in 8 bits, KV cache in float16", reduced=True, own_ids=own)


if __name__ == "__main__":
    sys.exit(reference.main(run))
