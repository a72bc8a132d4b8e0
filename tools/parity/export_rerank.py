"""Scores of rerankers by Hugging Face transformers in float64: bodies of the zoo with heads of random weights (tests/worker/rerankers.py).

    python tools/parity/export_rerank.py --zoo ../shared/models/zoo --out tests/golden/rerank.json

Needs: pip install torch transformers numpy.
"""
import argparse
import json
import pathlib
import sys
import tempfile

import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests/worker"))
import rerankers


def logits(folder):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
    out = []
    for document in rerankers.DOCUMENTS:
        inputs = tokenizer(rerankers.QUERY, document, return_tensors="pt")
        with torch.no_grad():
            out.append({"tokens": inputs["input_ids"].shape[1], "logits": model(**inputs).logits[0].tolist()})
    return out


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--zoo", required=True)
    p.add_argument("--out", required=True)
    a = p.parse_args()
    torch.set_default_dtype(torch.float64)
    truth = {"versions": {"torch": torch.__version__, "transformers": transformers.__version__}}
    with tempfile.TemporaryDirectory() as tmp:
        truth["bert"] = logits(rerankers.make(a.zoo, "bert", f"{tmp}/bert"))
        for pooling in ("cls", "mean"):
            truth[f"modernbert-{pooling}"] = logits(rerankers.make(a.zoo, "modernbert", f"{tmp}/{pooling}", classifier_pooling=pooling))
    pathlib.Path(a.out).write_text(json.dumps(truth, indent=1) + "\n")


if __name__ == "__main__":
    main()
