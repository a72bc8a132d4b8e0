"""llama.cpp, by llama-cpp-python: the file as it is, logits of every position asked for."""
# environment: llama_cpp
# packages: llama-cpp-python numpy
# check: llama_cpp
import pathlib
import sys

sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])  # and not this folder, whose files have the engines' names
import reference  # noqa: E402


def run(a):
    import llama_cpp
    import numpy as np

    if a.model.is_dir():
        raise reference.Unavailable("it reads GGUF files alone")
    model = llama_cpp.Llama(str(a.model), n_ctx=max(64, len(a.tokens) + 1), n_batch=512, logits_all=True, verbose=False)
    model.eval(a.tokens)
    logits = np.array(model.scores[: len(a.tokens)], dtype=np.float32)
    np.save(a.out / "logits.npy", logits)
    own = model.tokenize(a.written.encode(), add_bos=False, special=False) if a.written else None
    reference.about(a.out, engine="llama.cpp", version=f"llama-cpp-python {llama_cpp.__version__}", weights="as stored", arithmetic="activations in 8 bits, KV cache in float16", reduced=True, own_ids=own)


if __name__ == "__main__":
    sys.exit(reference.main(run))
