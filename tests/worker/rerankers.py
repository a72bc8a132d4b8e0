"""Rerankers of the zoo's encoders: a classification head of random weights beside the body, as Hugging Face folders have it. Also read by
tools/parity/export_rerank.py, which records what transformers computes with them."""
import json
import pathlib
import shutil
import struct

import numpy

# Of the zoo's folder: the class that transformers has for it, and what is before the names of its body's tensors.
KINDS = {"bert": ("BertForSequenceClassification", "bert."), "modernbert": ("ModernBertForSequenceClassification", "model.")}
QUERY = "The river runs slowly"
DOCUMENTS = ["it's raining!", "42 sacks of slow rivers, and more rain", "runs", "The river runs slowly: 42 sacks, it's raining!"]


def head_of(kind, dim, labels, seed=3):
    random = numpy.random.default_rng(seed)
    tensors = {"classifier.weight": random.standard_normal((labels, dim)) / 2, "classifier.bias": random.standard_normal(labels) / 2}
    if kind == "bert":
        tensors |= {"bert.pooler.dense.weight": random.standard_normal((dim, dim)) / 4, "bert.pooler.dense.bias": random.standard_normal(dim) / 4}
    else:
        tensors |= {"head.dense.weight": random.standard_normal((dim, dim)) / 4, "head.norm.weight": 1 + random.standard_normal(dim) / 4}
    return {name: values.astype(numpy.float32) for name, values in tensors.items()}


def make(zoo, kind, out, labels=1, **config_fields):
    """`out` becomes a folder of the zoo's `kind` with a head."""
    source, out = pathlib.Path(zoo) / kind / "hf", pathlib.Path(out)
    architecture, prefix = KINDS[kind]
    out.mkdir()
    for file in source.iterdir():
        if file.name != "model.safetensors":
            shutil.copy(file, out)
    config = json.loads((source / "config.json").read_text())
    config |= {"architectures": [architecture], "id2label": {str(i): f"LABEL_{i}" for i in range(labels)}, "label2id": {f"LABEL_{i}": i for i in range(labels)}} | config_fields
    (out / "config.json").write_text(json.dumps(config))
    raw = (source / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header, data = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    tensors = {prefix + name: entry for name, entry in header.items() if name != "__metadata__"}
    for name, values in head_of(kind, config["hidden_size"], labels).items():
        tensors[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [len(data), len(data) + values.nbytes]}
        data += values.tobytes()
    text = json.dumps(tensors).encode()
    text += b" " * (-len(text) % 8)
    (out / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    return out
