"""candle, by its Python package: its quantized matrices and operations. The package's own model has neither grouped queries nor all rows,
so the wiring of llama's layers stands here, after the architecture's paper."""
# environment: candle
# packages: candle-nn numpy
# check: candle
import pathlib
import sys

sys.path[0] = str(pathlib.Path(__file__).resolve().parents[1])  # and not this folder, whose files have the engines' names
import reference  # noqa: E402


def rms_norm(x, weight, epsilon):
    return x.broadcast_div(((x.sqr().sum_keepdim(1) / x.shape[1]) + epsilon).sqrt()).broadcast_mul(weight)


def rotate(x, cos, sin):
    """x [heads, n, head_dim]: neighbours are the two of a rotation, as GGUF stores llama's rows. cos, sin [n, head_dim / 2, 1]."""
    import candle

    heads, n, width = x.shape
    pairs = x.reshape((heads, n, width // 2, 2))
    a, b = pairs.narrow(3, 0, 1), pairs.narrow(3, 1, 1)
    return candle.cat([a.broadcast_mul(cos) - b.broadcast_mul(sin), a.broadcast_mul(sin) + b.broadcast_mul(cos)], 3).reshape((heads, n, width))


def attention(layer, x, shape, cos, sin, mask):
    from candle import functional

    n, (heads, shared, width) = x.shape[0], shape
    q, k, v = (layer(name).matmul_t(x).reshape((n, count, width)).transpose(0, 1).contiguous() for name, count in (("attn_q", heads), ("attn_k", shared), ("attn_v", shared)))
    q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    group = heads // shared
    k, v = (t.reshape((shared, 1, n, width)).broadcast_as((shared, group, n, width)).reshape((heads, n, width)).contiguous() for t in (k, v))
    scores = (q.matmul(k.transpose(1, 2).contiguous()) / width**0.5).broadcast_add(mask)
    seen = functional.softmax(scores, -1).matmul(v)
    return layer("attn_output").matmul_t(seen.transpose(0, 1).contiguous().reshape((n, heads * width)))


def run(a):
    import importlib.metadata

    import candle
    import numpy as np
    from candle import functional

    if a.model.is_dir():
        raise reference.Unavailable("it reads GGUF files alone")
    tensors, about = candle.utils.load_gguf(str(a.model))
    if about["general.architecture"] != "llama":
        raise reference.Unavailable(f"only llama's layers are wired here, not those of {about['general.architecture']}")
    of = lambda key: about[f"llama.{key}"]
    heads, shared, epsilon = of("attention.head_count"), of("attention.head_count_kv"), of("attention.layer_norm_rms_epsilon")
    width, n = of("embedding_length") // heads, len(a.tokens)
    angles = np.arange(n)[:, None] * about.get("llama.rope.freq_base", 10000.0) ** (-np.arange(0, width, 2) / width)
    cos, sin = (candle.tensor(f(angles).astype(np.float32).tolist()).reshape((n, width // 2, 1)) for f in (np.cos, np.sin))
    mask = candle.tensor(np.triu(np.full((n, n), -1e30), 1).tolist()).to_dtype(candle.f32)
    embedding = tensors["token_embd.weight"]
    x = embedding.dequantize().index_select(candle.tensor(a.tokens).to_dtype(candle.u32), 0)
    for i in range(of("block_count")):
        layer = lambda name, i=i: tensors[f"blk.{i}.{name}.weight"]
        normed = rms_norm(x, layer("attn_norm").dequantize(), epsilon)
        x = x + attention(layer, normed, (heads, shared, width), cos, sin, mask)
        normed = rms_norm(x, layer("ffn_norm").dequantize(), epsilon)
        x = x + layer("ffn_down").matmul_t(functional.silu(layer("ffn_gate").matmul_t(normed)) * layer("ffn_up").matmul_t(normed))
    logits = tensors.get("output.weight", embedding).matmul_t(rms_norm(x, tensors["output_norm.weight"].dequantize(), epsilon))
    np.save(a.out / "logits.npy", np.array(logits.values(), np.float32))
    reference.about(a.out, engine="candle", version=importlib.metadata.version("candle-nn"), weights="as stored", arithmetic="activations in 8 bits", reduced=True)


if __name__ == "__main__":
    sys.exit(reference.main(run))
