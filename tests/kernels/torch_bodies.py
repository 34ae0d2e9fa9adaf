"""Runs operators of Troupe on tensors of PyTorch through kernels_probe."""
import json
import subprocess

import torch

# The order of `Call` in kernels/call.h.
OPERATORS = [
    "gemm", "attention_forward", "attention_backward", "attention_merge",
    "norm_forward", "norm_backward", "rotary", "activation_forward",
    "activation_backward", "add", "bias_add", "bias_gradient",
    "embedding_forward", "embedding_backward", "cross_entropy_forward",
    "cross_entropy_merge", "cross_entropy_backward", "adamw", "square_sum",
    "clip_factor", "cast", "copy_block"]
NAMES = {torch.float64: "fp64", torch.float32: "fp32", torch.bfloat16: "bf16"}


class Bodies:
    """One probe process; every operator is a call of `run`."""

    def __init__(self, probe):
        self.process = subprocess.Popen([probe], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE)

    def run(self, operator, **values):
        """Performs `operator`; tensors among `values` are operands, and are
        changed in place as the call changes them."""
        tensors = {k: v for k, v in values.items()
                   if isinstance(v, torch.Tensor)}
        fields = {k: k if k in tensors else v for k, v in values.items()}
        raw = {k: v.contiguous().view(torch.uint8).numpy()
               if v.numel() else None for k, v in tensors.items()}
        request = {"call": OPERATORS.index(operator), "fields": fields,
                   "arrays": [{"name": k,
                               "bytes": 0 if v is None else v.nbytes}
                              for k, v in raw.items()]}
        pipe = self.process.stdin
        pipe.write(json.dumps(request).encode() + b"\n")
        for v in raw.values():
            if v is not None:
                pipe.write(v.tobytes())
        pipe.flush()
        error = self.process.stdout.readline().decode().rstrip("\n")
        for k, v in raw.items():
            if v is None:
                continue
            data = bytearray(self.process.stdout.read(v.nbytes))
            flat = torch.frombuffer(data, dtype=tensors[k].dtype)
            tensors[k].copy_(flat.view(tensors[k].shape))
        if error:
            raise ValueError(error)

    def close(self):
        self.process.stdin.close()
        return self.process.wait()
