"""The weights of synthetic models, as src/arch/synth.h documents them, bit for bit. An independent second writing: nothing is shared."""
import math

import numpy as np

MASK = (1 << 64) - 1


def _mix(x):
    """SplitMix64's finaliser over uint64 arrays."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _fnv1a(text: str) -> int:
    h = 0xCBF29CE484222325
    for b in text.encode():
        h = ((h ^ b) * 0x100000001B3) & MASK
    return h


def kind_of(name: str) -> str:
    if name.startswith("rope_f"):
        return "factors"
    if name.endswith(".bias") or "sinks" in name:
        return "bias"
    return "gain" if "norm" in name else "matrix"


def values(seed: int, name: str, count: int, columns: int) -> np.ndarray:
    """float32 values of a tensor with `count` elements, `columns` of them contiguous in a row."""
    key = _mix(np.array([seed ^ _fnv1a(name)], dtype=np.uint64))[0]
    with np.errstate(over="ignore"):
        u = _mix(key + np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
    t = u.astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    kind = kind_of(name)
    if kind == "matrix":
        return t * np.float32(math.sqrt(3.0 / columns))
    if kind == "gain":
        return np.float32(1) + t * np.float32(0.25)
    if kind == "bias":
        return t * np.float32(0.125)
    return np.float32(1) + (t + np.float32(1)) * np.float32(0.5)
