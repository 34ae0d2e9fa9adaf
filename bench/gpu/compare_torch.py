"""Runs the operators of a `troupe profile --json` answer in PyTorch on the
same GPU and writes both times side by side. Where the profiler left no
answer, the rows that it stored serve as well (`measured.csv`). The output is
written anew every few seconds; exit code 77 says that there is no PyTorch.

    python3 compare_torch.py profile.json torch.json [--seconds 100]

Products go through the functions that autograd of torch.nn.functional.linear
ends in (cuBLAS); the gradient of a weight is added into fp32, by one call where
PyTorch has it, else by two. Attention goes through
scaled_dot_product_attention with the flash and cuDNN back ends, the others
through the functions a PyTorch user would call."""
import argparse
import csv
import json
import os
import re
import sys
import time

try:
    import torch
    import torch.nn.functional as F
except ImportError as error:
    print(error, file=sys.stderr)
    sys.exit(77)
if not torch.cuda.is_available():
    print("PyTorch sees no GPU", file=sys.stderr)
    sys.exit(77)

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
FLUSH = None


def parse(text):
    """"gemm 1x4096x4096x4096 bf16" and words such as causal and gated."""
    words = text.split()
    dims = [int(n) for n in words[1].split("x")]
    return words[0], dims, DTYPES.get(words[2]), set(words[3:])


def seconds(run, limit=0.15):
    """Median of single runs with the caches flushed in between."""
    global FLUSH
    if FLUSH is None:
        FLUSH = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
    for _ in range(3):
        run()
    samples = []
    until = time.monotonic() + limit
    while len(samples) < 5 or (time.monotonic() < until and len(samples) < 50):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        FLUSH.zero_()
        begin.record()
        run()
        end.record()
        end.synchronize()
        samples.append(begin.elapsed_time(end) * 1e-3)
    return sorted(samples)[len(samples) // 2]


def normal(*shape, dtype, grad=False):
    return torch.randn(*shape, device="cuda", dtype=dtype, requires_grad=grad)


def gemm(dims, dtype, words):
    batch, m, n, k = dims
    if batch > 1:
        a, b = normal(batch, m, k, dtype=dtype), normal(batch, k, n, dtype=dtype)
        return {"cublas": lambda: torch.bmm(a, b)}
    if "weight_gradient" in words:
        a, b = normal(k, m, dtype=dtype).t(), normal(k, n, dtype=dtype)
        c = normal(m, n, dtype=torch.float32)
        return {"fp32 addmm": lambda: torch.addmm(c, a, b,
                                                  out_dtype=torch.float32),
                "mm, add": lambda: c.add_(torch.mm(a, b))}
    if "input_gradient" in words:
        a, w = normal(m, k, dtype=dtype), normal(k, n, dtype=dtype)
        return {"cublas": lambda: torch.mm(a, w)}
    a, w = normal(m, k, dtype=dtype), normal(n, k, dtype=dtype)
    return {"cublas": lambda: F.linear(a, w)}


def attention_inputs(dims, dtype, grad):
    sequences, q_len, kv_len, heads, kv_heads, head_dim = dims
    q = normal(sequences, heads, q_len, head_dim, dtype=dtype, grad=grad)
    k, v = (normal(sequences, kv_heads, kv_len, head_dim, dtype=dtype,
                   grad=grad) for _ in range(2))
    return q, k, v


def attend(q, k, v, words):
    """What the profiler runs has queries at the end of their keys; PyTorch's
    causal flag means that only where both are as many."""
    causal = "causal" in words
    if causal and q.shape[2] != k.shape[2] or "window" in words:
        raise ValueError("PyTorch's flag cannot say this mask")
    return F.scaled_dot_product_attention(
        q, k, v, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1])


def backends():
    from torch.nn.attention import SDPBackend, sdpa_kernel
    return {"flash": SDPBackend.FLASH_ATTENTION,
            "cudnn": SDPBackend.CUDNN_ATTENTION}, sdpa_kernel


def attention(dims, dtype, words):
    known, sdpa_kernel = backends()
    q, k, v = attention_inputs(dims, dtype, False)

    def runner(backend):
        def run():
            with sdpa_kernel(backend):
                return attend(q, k, v, words)
        return run
    return {name: runner(backend) for name, backend in known.items()}


def attention_backward(dims, dtype, words):
    known, sdpa_kernel = backends()
    q, k, v = attention_inputs(dims, dtype, True)
    runs = {}
    for name, backend in known.items():
        try:
            with sdpa_kernel(backend):
                out = attend(q, k, v, words)
        except RuntimeError:
            continue
        grad = torch.randn_like(out)

        def run(out=out, grad=grad):
            torch.autograd.grad(out, (q, k, v), grad, retain_graph=True)
        runs[name] = run
    return runs


def norm_forward(dims, dtype, _):
    x, w = normal(*dims[:2], dtype=dtype), normal(dims[1], dtype=dtype)
    return {"rms_norm": lambda: F.rms_norm(x, (dims[1],), w),
            "layer_norm": lambda: F.layer_norm(x, (dims[1],), w)}


def add(dims, dtype, _):
    a, b = normal(*dims[:2], dtype=dtype), normal(*dims[:2], dtype=dtype)
    return {"add": lambda: torch.add(a, b)}


def activation_forward(dims, dtype, words):
    rows, columns = dims[:2]
    if "gated" in words:
        x = normal(rows, 2 * columns, dtype=dtype)
        return {"silu_mul": lambda: F.silu(x[:, :columns]) * x[:, columns:]}
    x = normal(rows, columns, dtype=dtype)
    return {"gelu": lambda: F.gelu(x)}


def embedding_forward(dims, dtype, _):
    rows, columns, vocabulary = dims[:3]
    table = normal(vocabulary, columns, dtype=dtype)
    ids = torch.randint(vocabulary, (rows,), device="cuda")
    return {"embedding": lambda: F.embedding(ids, table)}


def cross_entropy_forward(dims, dtype, _):
    rows, columns = dims[:2]
    logits = normal(rows, columns, dtype=dtype)
    labels = torch.randint(columns, (rows,), device="cuda")
    return {"cross_entropy": lambda: F.cross_entropy(logits, labels)}


def optimizer(dims, dtype, _):
    weights = torch.nn.Parameter(normal(dims[0], dtype=torch.float32))
    weights.grad = torch.randn_like(weights)
    adam = torch.optim.AdamW([weights], fused=True)
    return {"fused_adamw": adam.step}


def copy(dims, dtype, _):
    a, b = normal(*dims[:2], dtype=dtype), normal(*dims[:2], dtype=dtype)
    return {"copy": lambda: b.copy_(a)}


RUNS = {f.__name__: f for f in
        (gemm, norm_forward, add, activation_forward, embedding_forward,
         cross_entropy_forward, optimizer, copy, attention_backward)}
RUNS["attention_forward"] = attention


def choose(operators):
    """All kinds, the operators of each spread over their sizes."""
    kinds = {}
    for op in operators:
        kinds.setdefault(op["operator"].split()[0], []).append(op)
    chosen = []
    for kind, group in kinds.items():
        if kind not in RUNS:
            continue
        group.sort(key=lambda op: op["time_s"])
        step = max(1, len(group) // 24)
        chosen.append(group[::step])
    # Kinds take turns, so that a short run has something of each.
    return [op for turn in range(max(map(len, chosen), default=0))
            for group in chosen for op in group[turn:turn + 1]]


def operators_of(path):
    """From the profiler's answer, or from exported rows."""
    with open(path, newline="") as file:
        if not path.endswith(".csv"):
            return json.load(file)["operators"]
        found, columns = [], None
        for cells in csv.reader(file):
            if not cells or cells[0].startswith("#"):
                columns = None
            elif columns is None:
                columns = cells
            elif "op" in columns and "dims" in columns:
                row = dict(zip(columns, cells))
                words = [row["op"], row["dims"], row["dtype"]]
                words += [w for w in ("causal", "gated") if row.get(w) == "1"]
                if row.get("window", "0") not in ("", "0"):
                    words += ["window", row["window"]]
                found.append({"operator": " ".join(words),
                              "time_s": float(row["time_s"])})
        return found


def write(path, results, skipped):
    """All or nothing: a run that is stopped leaves the last whole file."""
    with open(path + ".part", "w") as file:
        json.dump({"torch": torch.__version__,
                   "gpu": torch.cuda.get_device_name(),
                   "operators": results, "skipped": skipped}, file, indent=1)
    os.replace(path + ".part", path)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("profile")
    arguments.add_argument("output")
    arguments.add_argument("--seconds", type=float, default=100)
    options = arguments.parse_args()
    operators = operators_of(options.profile)
    written = time.monotonic()
    until = time.monotonic() + options.seconds
    results, skipped = [], []
    for op in choose(operators):
        if time.monotonic() > until:
            break
        kind, dims, dtype, words = parse(op["operator"])
        # How a product's operands are stored.
        words.add(op.get("product") or "forward")
        try:
            runs = RUNS[kind](dims, dtype, words)
            times = {}
            for name, run in runs.items():
                try:
                    times[name] = seconds(run)
                except (RuntimeError, TypeError, ValueError) as error:
                    skipped.append(f"{op['operator']} {name}: "
                                   f"{re.split(chr(10), str(error))[0]}")
        except torch.cuda.OutOfMemoryError:
            skipped.append(f"{op['operator']}: out of memory")
            torch.cuda.empty_cache()
            continue
        except Exception as error:  # of a shape that PyTorch does not take
            skipped.append(f"{op['operator']}: "
                           f"{re.split(chr(10), str(error))[0]}")
            continue
        if times:
            best = min(times, key=times.get)
            results.append({"operator": op["operator"], "troupe_s": op["time_s"],
                            "torch_s": times, "best": best,
                            "ratio": times[best] / op["time_s"]})
        if time.monotonic() - written > 5:
            write(options.output, results, skipped)
            written = time.monotonic()
    write(options.output, results, skipped)


if __name__ == "__main__":
    main()
