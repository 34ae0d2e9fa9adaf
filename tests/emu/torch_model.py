"""A decoder-only transformer in PyTorch, in fp64, written from the model's
description alone: what Troupe's one-device run must equal.

Documents of a sequence are computed one by one, so that nothing can leak from
one to another. Gradients are autograd's, the optimizer is PyTorch's."""
import math

import torch
import torch.nn.functional as F


def norm(x, p, name, model):
    epsilon = model["norm_epsilon"]
    scale = p[name + ".scale"]
    if name + ".bias" in p:
        return F.layer_norm(x, scale.shape, scale, p[name + ".bias"],
                            epsilon)
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + epsilon) * scale


def linear(x, p, name):
    """Heads are flattened: of queries on the output side, of the attention's
    output on the input side."""
    weight = p[name]
    if weight.dim() == 3:
        outputs = name.endswith("attention.output")
        weight = weight.flatten(1) if outputs else weight.flatten(0, 1)
    bias = p.get(name + ".bias")
    return F.linear(x, weight, None if bias is None else bias.flatten())


def slowed(turns, factor, low, high, original):
    """Llama 3.1: pairs of long wave lengths turn slower."""
    made = turns * original  # turns in the old context
    keep = ((made - low) / (high - low)).clamp(0, 1)
    return torch.lerp(turns / factor, turns, keep)


def rotate(x, model):
    """x (tokens, heads, dim): pairs (i, i + dim/2) as complex numbers."""
    tokens, _, dim = x.shape
    turns = model["rotary_base"] ** (
        -torch.arange(0, dim, 2, dtype=x.dtype) / dim)
    # The scaling counts whole turns, not radians.
    turns = 2 * math.pi * slowed(turns / (2 * math.pi),
                                 *model["rotary_scaling"])
    angle = torch.outer(torch.arange(tokens, dtype=x.dtype), turns)
    turned = torch.complex(x[..., :dim // 2], x[..., dim // 2:]) * torch.polar(
        torch.ones_like(angle), angle)[:, None, :]
    return torch.cat([turned.real, turned.imag], -1)


def is_local(layer, model):
    """Whether a layer sees only the last tokens."""
    every = model["full_attention_every"]
    return (model["attention_window"] > 0 and
            layer >= model["full_attention_first"] and
            not (every and (layer + 1) % every == 0))


def attention(x, p, name, model, local):
    tokens, dim = len(x), model["head_dim"]
    q, k, v = (linear(x, p, f"{name}.{part}").view(tokens, -1, dim)
               for part in ("query", "key", "value"))
    if model["positions"] == "rotary":
        q, k = rotate(q, model), rotate(k, model)
    each = model["heads"] // model["kv_heads"]
    k, v = (t.repeat_interleave(each, dim=1) for t in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(dim)
    place = torch.arange(tokens)
    back = place[:, None] - place[None, :]
    hidden = back < 0
    if local:
        hidden |= back >= model["attention_window"]
    weights = torch.softmax(scores.masked_fill(hidden, -math.inf), -1)
    out = torch.einsum("hqk,khd->qhd", weights, v).flatten(1)
    return linear(out, p, name + ".output")


def gelu_tanh(x):
    inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3)
    return 0.5 * x * (1 + torch.tanh(inner))


def mlp(x, p, name, model):
    kind = model["activation"]
    function = {"swiglu": F.silu, "geglu": F.gelu, "gelu": F.gelu,
                "gelu_tanh": gelu_tanh, "relu": torch.relu}[kind]
    up = linear(x, p, name + ".up")
    if kind in ("swiglu", "geglu"):
        hidden = function(linear(x, p, name + ".gate")) * up
    else:
        hidden = function(up)
    return linear(hidden, p, name + ".down")


def document_loss(tokens, p, model):
    """Sum of the losses of all tokens but the last, which has no label."""
    if len(tokens) < 2:
        return torch.zeros((), dtype=torch.float64)
    x = p["embedding.tokens"][tokens]
    if model["positions"] == "learned":
        x = x + p["embedding.positions"][:len(tokens)]
    for i in range(model["layers"]):
        layer = f"layers.{i}."
        normed = norm(x, p, layer + "norm1", model)
        x = x + attention(normed, p, layer + "attention", model,
                          is_local(i, model))
        normed = norm(x, p, layer + "norm2", model)
        x = x + mlp(normed, p, layer + "mlp", model)
    if model["final_norm"]:
        x = norm(x, p, "head.norm", model)
    table = p["embedding.tokens" if model["tied_embeddings"] else
              "head.output"]
    logits = F.linear(x, table, p.get("head.output.bias"))
    return F.cross_entropy(logits[:-1], tokens[1:], reduction="sum")


def optimizer_of(p, training):
    """Matrices and tables decay; scales of norms and biases do not."""
    flat = [k for k in p if k.endswith((".scale", ".bias"))]
    groups = [
        {"params": [v for k, v in p.items() if k not in flat],
         "weight_decay": training["decay"]},
        {"params": [p[k] for k in flat], "weight_decay": 0.0}]
    return torch.optim.AdamW(
        groups, lr=training["rate"], eps=training["epsilon"],
        betas=(training["beta1"], training["beta2"]))


def step(documents, p, model, training, optimizer):
    """One step on `documents`. The loss, the norm of all gradients and the
    gradients before clipping."""
    for v in p.values():
        v.grad = torch.zeros_like(v)
    labels = sum(len(d) - 1 for d in documents)
    loss = 0.0
    for d in documents:
        share = document_loss(d, p, model) / labels
        if share.requires_grad:
            share.backward()
        loss += share.item()
    gradients = {k: v.grad.clone() for k, v in p.items()}
    size = math.sqrt(sum((g * g).sum().item() for g in gradients.values()))
    if training["clip"] > 0 and size > training["clip"]:
        for v in p.values():
            v.grad *= training["clip"] / size
    optimizer.step()
    return loss, size, gradients
