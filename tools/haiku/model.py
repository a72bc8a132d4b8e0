"""The haiku model in PyTorch: a small Llama (RMSNorm, rotary embedding on adjacent pairs, grouped-query attention, SwiGLU)."""
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Config:
    vocab: int = 2048
    dim: int = 192
    layers: int = 5
    heads: int = 6
    kv_heads: int = 2
    ffn: int = 512
    context: int = 256
    rope_base: float = 10000.0
    eps: float = 1e-5

    dict = asdict


class Norm(nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


def rotate(x, cos, sin):
    """x: (batch, heads, length, head_dim); pairs (2i, 2i+1) turn by position * base^(-2i/head_dim)."""
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)


class Layer(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.c, head_dim = c, c.dim // c.heads
        self.attn_norm, self.ffn_norm = Norm(c.dim, c.eps), Norm(c.dim, c.eps)
        self.q = nn.Linear(c.dim, c.dim, bias=False)
        self.k = nn.Linear(c.dim, c.kv_heads * head_dim, bias=False)
        self.v = nn.Linear(c.dim, c.kv_heads * head_dim, bias=False)
        self.o = nn.Linear(c.dim, c.dim, bias=False)
        self.gate = nn.Linear(c.dim, c.ffn, bias=False)
        self.up = nn.Linear(c.dim, c.ffn, bias=False)
        self.down = nn.Linear(c.ffn, c.dim, bias=False)

    def forward(self, x, cos, sin):
        b, t, _ = x.shape
        h = self.attn_norm(x)
        heads = lambda y, n: y.view(b, t, n, -1).transpose(1, 2)
        q = rotate(heads(self.q(h), self.c.heads), cos, sin)
        k = rotate(heads(self.k(h), self.c.kv_heads), cos, sin)
        v = heads(self.v(h), self.c.kv_heads)
        group = self.c.heads // self.c.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        x = x + self.o(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(-2))
        h = self.ffn_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Haiku(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.c = c
        self.embedding = nn.Embedding(c.vocab, c.dim)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.layers))
        self.norm = Norm(c.dim, c.eps)
        self.head = nn.Linear(c.dim, c.vocab, bias=False)
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.04)
        for layer in self.layers:
            for m in (layer.o, layer.down):
                nn.init.normal_(m.weight, std=0.04 / (2 * c.layers) ** 0.5)
        half = c.dim // c.heads // 2
        angle = torch.outer(torch.arange(c.context), c.rope_base ** (-torch.arange(half) / half))
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, ids, keep=None):
        """ids: (batch, length) -> logits (batch, length, vocab), or (kept, vocab) where `keep` (batch, length) is true"""
        x, t = self.embedding(ids), ids.shape[1]
        for layer in self.layers:
            x = layer(x, self.cos[:t].to(x.dtype), self.sin[:t].to(x.dtype))
        return self.head(self.norm(x if keep is None else x[keep]))
