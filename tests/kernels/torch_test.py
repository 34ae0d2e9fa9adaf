"""Forward and backward of every operator, and a whole layer made of them,
against PyTorch's autograd, in fp64 (1e-10) and fp32.

Usage: torch_test.py PROBE. Exit code 77: skipped, with the reason.
"""
import math
import sys
import unittest

try:
    import torch
except ImportError as error:
    print(f"skipped: PyTorch is not installed ({error}); "
          "apt-get install python3-torch")
    sys.exit(77)
import torch.nn.functional as F

from torch_bodies import Bodies, NAMES

PROBE = sys.argv.pop(1)
DTYPES = (torch.float64, torch.float32)
# Errors relative to the largest element, or to 1. An fp32 rounding is 2^-24 =
# 6e-8; 4e-6 is 67 of them, for chains of sums of up to 33 terms on both sides
# (a whole layer backward is seven products and three norms deep).
LIMIT = {torch.float64: 1e-10, torch.float32: 4e-6}


def empty(*shape, dtype):
    return torch.full(shape, math.nan, dtype=dtype)


class TorchTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        torch.set_num_threads(1)
        cls.bodies = Bodies(PROBE)

    @classmethod
    def tearDownClass(cls):
        assert cls.bodies.close() == 0

    def setUp(self):
        torch.manual_seed(5)

    def run_body(self, operator, dtype, **values):
        self.bodies.run(operator, dtype=NAMES[dtype], **values)

    def near(self, got, want, what):
        want = want.detach()
        self.assertEqual(got.shape, want.shape, what)
        limit = LIMIT[got.dtype]
        size = max(1.0, want.abs().max().item())
        error = (got - want).abs().max().item() / size
        # NaN fails too.
        self.assertLessEqual(error, limit, f"{what}, {NAMES[got.dtype]}")

    def leaf(self, *shape, dtype):
        return torch.randn(*shape, dtype=dtype, requires_grad=True)

    def test_gemm(self):
        for dtype in DTYPES:
            for ta in (False, True):
                for tb in (False, True):
                    a = torch.randn(2, *((33, 9) if ta else (9, 33)),
                                    dtype=dtype)
                    b = torch.randn(2, *((65, 33) if tb else (33, 65)),
                                    dtype=dtype)
                    bias = torch.randn(65, dtype=dtype)
                    c = torch.randn(2, 9, 65, dtype=dtype)
                    want = c + bias + (a.mT if ta else a) @ (
                        b.mT if tb else b)
                    self.run_body("gemm", dtype, out=NAMES[dtype], m=9, n=65,
                                  k=33, batch=2, transpose_a=ta,
                                  transpose_b=tb, accumulate=True, a=a, b=b,
                                  bias=bias, c=c)
                    self.near(c, want, f"gemm {ta} {tb}")

    def attention(self, dtype, q_lengths, kv_lengths, heads, kv_heads, dim,
                  causal, window=0):
        q = self.leaf(sum(q_lengths), heads, dim, dtype=dtype)
        k = self.leaf(sum(kv_lengths), kv_heads, dim, dtype=dtype)
        v = self.leaf(sum(kv_lengths), kv_heads, dim, dtype=dtype)
        parts = []
        for qs, ks, vs in zip(q.split(q_lengths), k.split(kv_lengths),
                              v.split(kv_lengths)):
            ks = ks.repeat_interleave(heads // kv_heads, 1)
            vs = vs.repeat_interleave(heads // kv_heads, 1)
            score = torch.einsum("qhd,khd->hqk", qs, ks) / math.sqrt(dim)
            if causal:
                nq, nk = len(qs), len(ks)
                mask = torch.ones(nq, nk).tril(nk - nq).bool()
                if window:
                    mask &= torch.ones(nq, nk).triu(nk - nq - window + 1).bool()
                score = score.masked_fill(~mask, -math.inf)
            parts.append(torch.einsum("hqk,khd->qhd", score.softmax(-1), vs))
        want = torch.cat(parts)
        d_out = torch.randn_like(want)
        want.backward(d_out)
        starts = [torch.tensor([0] + n).cumsum(0).int()
                  for n in (q_lengths, kv_lengths)]
        sizes = dict(sequences=len(q_lengths), q_tokens=len(q),
                     kv_tokens=len(k), max_q=max(q_lengths),
                     max_kv=max(kv_lengths), heads=heads, kv_heads=kv_heads,
                     head_dim=dim, causal=causal, window=window, q_starts=starts[0],
                     kv_starts=starts[1])
        out = empty(len(q), heads, dim, dtype=dtype)
        lse = empty(len(q), heads, dtype=dtype)
        given = dict(q=q.detach(), k=k.detach(), v=v.detach(), **sizes)
        self.run_body("attention_forward", dtype, out=out, lse=lse, **given)
        self.near(out, want, "out")
        dq, dk, dv = (empty(*x.shape, dtype=dtype) for x in (q, k, v))
        self.run_body("attention_backward", dtype, out=out, lse=lse,
                      d_out=d_out, dq=dq, dk=dk, dv=dv, **given)
        self.near(dq, q.grad, "dq")
        self.near(dk, k.grad, "dk")
        self.near(dv, v.grad, "dv")

    def test_attention(self):
        for dtype in DTYPES:
            self.attention(dtype, [65], [65], 4, 2, 16, True)
            self.attention(dtype, [33, 1, 70], [33, 1, 70], 4, 4, 5, False)
            self.attention(dtype, [3, 40], [70, 130], 6, 2, 8, True)
            self.attention(dtype, [40, 9], [130, 9], 6, 2, 8, True, window=31)

    def test_attention_merge(self):
        for dtype in DTYPES:
            out = torch.randn(2, 7, 3, 5, dtype=dtype)
            lse = torch.randn(2, 7, 3, dtype=dtype)
            total = torch.logsumexp(lse, 0)
            want = (out * (lse - total).exp().unsqueeze(-1)).sum(0)
            result = empty(7, 3, 5, dtype=dtype)
            result_lse = empty(7, 3, dtype=dtype)
            for i in range(2):
                self.run_body("attention_merge", dtype, tokens=7, heads=3,
                              head_dim=5, first=i == 0, out=out[i],
                              out_lse=lse[i], sum=result, lse=result_lse)
            self.near(result, want, "sum")
            self.near(result_lse, total, "lse")

    def norm(self, dtype, rms):
        x = self.leaf(7, 33, dtype=dtype)
        w, b = self.leaf(33, dtype=dtype), self.leaf(33, dtype=dtype)
        if rms:
            want = x * (x.square().mean(-1, True) + 1e-5).rsqrt() * w
        else:
            want = F.layer_norm(x, (33,), w, b, 1e-5)
        d_out = torch.randn_like(want)
        want.backward(d_out)
        out = empty(7, 33, dtype=dtype)
        mean, rstd = empty(7, dtype=dtype), empty(7, dtype=dtype)
        given = dict(rms=rms, rows=7, columns=33, mean=mean, rstd=rstd)
        given["in"] = x.detach()
        given["weight"] = w.detach()
        bias = {} if rms else {"bias": b.detach()}
        self.run_body("norm_forward", dtype, epsilon=1e-5, out=out, **given,
                      **bias)
        self.near(out, want, "out")
        d_in = empty(7, 33, dtype=dtype)
        dw, db = torch.zeros(33, dtype=dtype), torch.zeros(33, dtype=dtype)
        self.run_body("norm_backward", dtype, d_out=d_out, d_in=d_in,
                      d_weight=dw, d_bias=db, **given)
        self.near(d_in, x.grad, "d_in")
        self.near(dw, w.grad, "d_weight")
        if not rms:
            self.near(db, b.grad, "d_bias")

    def test_norm(self):
        for dtype in DTYPES:
            self.norm(dtype, True)
            self.norm(dtype, False)

    def test_activation(self):
        functions = [F.silu, F.gelu,
                     lambda x: F.gelu(x, approximate="tanh"), F.relu]
        for dtype in DTYPES:
            for number, function in enumerate(functions):
                for gated in (True, False):
                    x = self.leaf(7, 66 if gated else 33, dtype=dtype)
                    want = function(x[:, :33])
                    if gated:
                        want = want * x[:, 33:]
                    d_out = torch.randn_like(want)
                    want.backward(d_out)
                    out, d_in = empty(7, 33, dtype=dtype), empty(
                        *x.shape, dtype=dtype)
                    given = dict(function=number, gated=gated, rows=7,
                                 columns=33)
                    given["in"] = x.detach()
                    self.run_body("activation_forward", dtype, out=out,
                                  **given)
                    self.run_body("activation_backward", dtype, d_out=d_out,
                                  d_in=d_in, **given)
                    self.near(out, want, f"{number} {gated}")
                    self.near(d_in, x.grad, f"{number} {gated} gradient")

    def test_rotary(self):
        for dtype in DTYPES:
            x = self.leaf(5, 3, 8, dtype=dtype)
            positions = torch.tensor([0, 3, 1000, 2, 65535])
            want = rotate(x, positions)
            d_out = torch.randn_like(want)
            want.backward(d_out)
            data, back = x.detach().clone(), d_out.clone()
            given = dict(tokens=5, heads=3, head_dim=8,
                         positions=positions.int())
            self.run_body("rotary", dtype, data=data, **given)
            self.run_body("rotary", dtype, data=back, inverse=True, **given)
            self.near(data, want, "out")
            self.near(back, x.grad, "gradient")

    def test_rotary_of_long_contexts(self):
        """Frequencies as Llama 3.1 scales them, pair by pair."""
        dim, base, factor, low, high, original = 64, 5e5, 8.0, 1.0, 4.0, 8192
        slowed = []
        for i in range(dim // 2):
            frequency = base ** (-2 * i / dim)
            length = 2 * math.pi / frequency
            if length > original / low:
                frequency /= factor
            elif length >= original / high:
                smooth = (original / length - low) / (high - low)
                frequency *= (1 - smooth) / factor + smooth
            slowed.append(frequency)
        # All three ranges occur.
        self.assertGreater(len({round(s * base ** (2 * i / dim), 6)
                                for i, s in enumerate(slowed)}), 2)
        positions = torch.tensor([0, 3, 8191, 131071])
        angle = positions.double().outer(
            torch.tensor(slowed, dtype=torch.float64))
        for dtype in DTYPES:
            x = torch.randn(4, 2, dim, dtype=dtype)
            c, s = angle.cos().to(dtype)[:, None], angle.sin().to(dtype)[:, None]
            a, b = x.chunk(2, -1)
            want = torch.cat((a * c - b * s, b * c + a * s), -1)
            data = x.clone()
            given = dict(tokens=4, heads=2, head_dim=dim, base=base,
                         factor=factor, low=low, high=high, original=original,
                         positions=positions.int())
            self.run_body("rotary", dtype, data=data, **given)
            self.near(data, want, "scaled")
            self.run_body("rotary", dtype, data=data, inverse=True, **given)
            self.near(data, x, "and back")

    def test_embedding(self):
        for dtype in DTYPES:
            table = self.leaf(20, 7, dtype=dtype)
            tokens = torch.randint(0, 20, (33,))
            want = F.embedding(tokens, table)
            d_out = torch.randn_like(want)
            want.backward(d_out)
            out, d_table = torch.zeros_like(want), torch.zeros_like(table)
            for first in (0, 8):  # two shards, the second adds
                size = 8 if first == 0 else 12
                part = d_table[first:first + size].detach().clone()
                given = dict(rows=33, columns=7, vocabulary=size, first=first,
                             tokens=tokens.int())
                self.run_body("embedding_forward", dtype, add=first > 0,
                              table=table.detach()[first:first + size],
                              out=out.detach(), **given)
                self.run_body("embedding_backward", dtype, d_out=d_out,
                              d_table=part, **given)
                self.near(part, table.grad[first:first + size], "d_table")
            self.near(out.detach(), want, "out")

    def test_cross_entropy(self):
        for dtype in DTYPES:
            logits = self.leaf(9, 50, dtype=dtype)
            labels = torch.randint(0, 50, (9,))
            labels[4] = -100
            want = F.cross_entropy(logits, labels, reduction="none")
            (want.sum() / 8).backward()
            maximum, total, target = (empty(2, 9, dtype=dtype)
                                      for _ in range(3))
            lse, loss = empty(9, dtype=dtype), empty(9, dtype=dtype)
            cuts = ((0, 17), (17, 33))
            labels = labels.int()
            for i, (first, n) in enumerate(cuts):
                self.run_body(
                    "cross_entropy_forward", dtype, rows=9, columns=n,
                    first=first, labels=labels, maximum=maximum[i],
                    logits=logits.detach()[:, first:first + n].contiguous(),
                    sum=total[i], target=target[i])
            self.run_body("cross_entropy_merge", dtype, rows=9, shards=2,
                          labels=labels, maximum=maximum, sum=total,
                          target=target, lse=lse, loss=loss)
            self.near(loss, want, "loss")
            for first, n in cuts:
                part = logits.detach()[:, first:first + n].contiguous()
                d = empty(9, n, dtype=dtype)
                self.run_body("cross_entropy_backward", dtype, rows=9,
                              columns=n, first=first, scale=1 / 8,
                              logits=part, labels=labels, lse=lse, d_logits=d)
                self.near(d, logits.grad[:, first:first + n], "gradient")

    def test_adamw(self):
        for dtype in DTYPES:
            w = self.leaf(33, dtype=dtype)
            master = w.detach().clone()
            m, v, copy = (torch.zeros(33, dtype=dtype) for _ in range(3))
            optimizer = torch.optim.AdamW([w], lr=0.01, betas=(0.8, 0.9),
                                          eps=1e-6, weight_decay=0.2)
            for step in range(1, 6):
                gradient = torch.randn(33, dtype=dtype) * 5
                w.grad = gradient.clone()
                torch.nn.utils.clip_grad_norm_([w], 2.0)
                optimizer.step()
                square = torch.zeros(1, dtype=torch.float64)
                clip = empty(1, dtype=dtype)
                self.run_body("square_sum", dtype, elements=33, data=gradient,
                              sum=square)
                self.run_body("clip_factor", dtype, limit=2.0, sum=square,
                              clip=clip)
                self.run_body("adamw", dtype, elements=33, rate=0.01,
                              beta1=0.8, beta2=0.9, epsilon=1e-6, decay=0.2,
                              step=step, clip=clip, gradient=gradient,
                              master=master, m=m, v=v, copy=copy)
                # PyTorch adds 1e-6 to the norm before it clips: a relative
                # 1e-6 / 28 of the gradient, which AdamW divides out but for
                # epsilon and the change of the norm from step to step.
                error = (master - w.detach()).abs().max().item()
                self.assertLessEqual(error, 1e-8 if dtype == torch.float64
                                     else 4e-6)
            self.assertTrue(torch.equal(copy, master))

    def test_sums_casts_and_copies(self):
        for dtype in DTYPES:
            a, b = (torch.randn(5, 7, dtype=dtype) for _ in range(2))
            bias, out = torch.randn(7, dtype=dtype), empty(5, 7, dtype=dtype)
            self.run_body("add", dtype, elements=35, a=a, b=b, out=out)
            self.near(out, a + b, "add")
            self.run_body("bias_add", dtype, rows=5, columns=7, bias=bias,
                          data=out)
            self.near(out, a + b + bias, "bias_add")
            total = torch.zeros(7, dtype=dtype)
            self.run_body("bias_gradient", dtype, rows=5, columns=7, d_out=a,
                          d_bias=total)
            self.near(total, a.sum(0), "bias_gradient")
            turned = empty(7, 5, dtype=dtype)
            self.run_body("copy_block", dtype, size=[1, 1, 5, 7],
                          from_stride=[0, 0, 7, 1], to_stride=[0, 0, 1, 5],
                          out=turned, **{"in": a})
            self.assertTrue(torch.equal(turned, a.T))

    def test_bf16_rounds_as_pytorch_does(self):
        x = torch.randn(4096) * torch.randn(4096).exp()
        half = torch.zeros(4096, dtype=torch.bfloat16)
        raw = half.view(torch.int16)
        self.bodies.run("cast", **{"from": "fp32"}, to="bf16", elements=4096,
                        out=raw, **{"in": x})
        self.assertTrue(torch.equal(raw, x.bfloat16().view(torch.int16)))

    def test_layer(self):
        for dtype in DTYPES:
            layer = Layer(self, dtype)
            layer.forward()
            layer.backward()


def rotate(x, positions, base=10000.0):
    half = x.shape[-1] // 2
    rate = base ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = positions.double()[:, None, None] * rate
    c, s = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    low, high = x[..., :half], x[..., half:]
    return torch.cat([low * c - high * s, high * c + low * s], -1)


class Layer:
    """A layer of Llama: 2 sequences, grouped heads, SwiGLU; q, k and v lie
    in one matrix, as its product leaves them."""
    T, H, HEADS, KV, D, FFN = 21, 24, 6, 2, 4, 33

    def __init__(self, test, dtype):
        self.test, self.dtype = test, dtype
        self.wide = (self.HEADS + 2 * self.KV) * self.D
        shapes = {"norm1": (self.H,), "qkv": (self.wide, self.H),
                  "o": (self.H, self.HEADS * self.D), "norm2": (self.H,),
                  "up": (2 * self.FFN, self.H), "down": (self.H, self.FFN)}
        self.w = {k: test.leaf(*s, dtype=dtype) for k, s in shapes.items()}
        self.x = test.leaf(self.T, self.H, dtype=dtype)
        self.positions = torch.cat([torch.arange(9), torch.arange(12)])
        self.starts = torch.tensor([0, 9, 21]).int()

    def torch_forward(self):
        w, x = self.w, self.x

        def norm(x, weight):
            return x * (x.square().mean(-1, True) + 1e-5).rsqrt() * weight
        qkv = (norm(x, w["norm1"]) @ w["qkv"].T).view(self.T, -1, self.D)
        q, k, v = qkv.split([self.HEADS, self.KV, self.KV], 1)
        q, k = rotate(q, self.positions), rotate(k, self.positions)
        k, v = (y.repeat_interleave(self.HEADS // self.KV, 1)
                for y in (k, v))
        mask = torch.block_diag(torch.ones(9, 9), torch.ones(12, 12)).tril()
        score = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(self.D)
        score = score.masked_fill(mask == 0, -math.inf).softmax(-1)
        a = torch.einsum("hqk,khd->qhd", score, v).reshape(self.T, -1)
        x = x + a @ w["o"].T
        up = norm(x, w["norm2"]) @ w["up"].T
        return x + (F.silu(up[:, :self.FFN]) * up[:, self.FFN:]) @ w["down"].T

    def body(self, operator, **values):
        self.test.run_body(operator, self.dtype, **values)

    def new(self, *shape):
        return empty(*shape, dtype=self.dtype)

    def product(self, a, b, m, n, k, **more):
        c = self.new(m, n)
        self.body("gemm", out=NAMES[self.dtype], m=m, n=n, k=k, a=a, b=b, c=c,
                  **more)
        return c

    def linear(self, x, name):
        w = self.w[name].detach()
        return self.product(x, w, self.T, w.shape[0], w.shape[1],
                            transpose_b=True)

    def linear_backward(self, x, name, d):
        w = self.w[name].detach()
        out, width = w.shape
        d_w = self.product(d, x, out, width, self.T, transpose_a=True)
        self.test.near(d_w, self.w[name].grad, name)
        return self.product(d, w, self.T, width, out)

    def norm(self, x, name):
        kept = dict(rms=True, rows=self.T, columns=self.H,
                    rstd=self.new(self.T), weight=self.w[name].detach())
        kept["in"] = x
        out = self.new(self.T, self.H)
        self.body("norm_forward", out=out, **kept)
        return out, kept

    def norm_backward(self, kept, name, d):
        d_in = self.new(self.T, self.H)
        d_w = torch.zeros(self.H, dtype=self.dtype)
        self.body("norm_backward", d_out=d, d_in=d_in, d_weight=d_w, **kept)
        self.test.near(d_w, self.w[name].grad, name)
        return d_in

    def add(self, a, b):
        out = self.new(self.T, self.H)
        self.body("add", elements=out.numel(), a=a, b=b, out=out)
        return out

    def turn(self, q, k, inverse):
        for data, heads in ((q, self.HEADS), (k, self.KV)):
            self.body("rotary", tokens=self.T, heads=heads, head_dim=self.D,
                      positions=self.positions.int(), inverse=inverse,
                      data=data)

    def forward(self):
        want = self.torch_forward()
        self.d_out = torch.randn_like(want)
        want.backward(self.d_out)
        x = self.x.detach()
        self.n1, self.kept1 = self.norm(x, "norm1")
        qkv = self.linear(self.n1, "qkv").view(self.T, -1, self.D)
        q, k, v = (y.contiguous() for y in qkv.split(
            [self.HEADS, self.KV, self.KV], 1))
        self.turn(q, k, False)
        self.sizes = dict(
            sequences=2, q_tokens=self.T, kv_tokens=self.T, max_q=12,
            max_kv=12, heads=self.HEADS, kv_heads=self.KV, head_dim=self.D,
            q_starts=self.starts, kv_starts=self.starts, q=q, k=k, v=v)
        self.a = self.new(self.T, self.HEADS * self.D)
        self.lse = self.new(self.T, self.HEADS)
        self.body("attention_forward", out=self.a, lse=self.lse, **self.sizes)
        x = self.add(x, self.linear(self.a, "o"))
        self.n2, self.kept2 = self.norm(x, "norm2")
        self.up = self.linear(self.n2, "up")
        self.act = self.new(self.T, self.FFN)
        self.body("activation_forward", rows=self.T, columns=self.FFN,
                  out=self.act, **{"in": self.up})
        out = self.add(x, self.linear(self.act, "down"))
        self.test.near(out, want, "out")

    def backward(self):
        d = self.d_out
        d_act = self.linear_backward(self.act, "down", d)
        d_up = self.new(self.T, 2 * self.FFN)
        self.body("activation_backward", rows=self.T, columns=self.FFN,
                  d_out=d_act, d_in=d_up, **{"in": self.up})
        d_n2 = self.linear_backward(self.n2, "up", d_up)
        d = self.add(d, self.norm_backward(self.kept2, "norm2", d_n2))
        d_a = self.linear_backward(self.a, "o", d)
        dq, dk, dv = (self.new(*self.sizes[k].shape) for k in "qkv")
        self.body("attention_backward", out=self.a, lse=self.lse, d_out=d_a,
                  dq=dq, dk=dk, dv=dv, **self.sizes)
        self.turn(dq, dk, True)
        d_qkv = torch.cat([dq, dk, dv], 1).reshape(self.T, -1)
        d_n1 = self.linear_backward(self.n1, "qkv", d_qkv)
        d = self.add(d, self.norm_backward(self.kept1, "norm1", d_n1))
        self.test.near(d, self.x.grad, "x")


if __name__ == "__main__":
    unittest.main()
