"""One table out of a folder that run_all.sh filled: targets, what was
measured, and whether each is met.

    python3 summary.py FOLDER"""
import json
import pathlib
import statistics
import sys

STREAMS = ("norm_forward", "norm_backward", "rotary", "activation_forward",
           "activation_backward", "add", "cross_entropy_forward",
           "cross_entropy_backward", "optimizer", "copy", "cast",
           "gradient_accumulate")
# Smaller operators are launches, not streams.
LEAST_BYTES_TIME = 20e-6


def load(folder, name):
    path = pathlib.Path(folder, name)
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        print(f"{name}: not there ({error})")
        return None


def median(values):
    return statistics.median(values) if values else float("nan")


def row(what, target, measured, met):
    print(f"{what:<52}{target:>10}{measured:>12}  {'met' if met else 'MISSED'}")


def kind(op):
    return op["operator"].split()[0]


def checks(folder):
    result = load(folder, "kernel_check.json")
    if result:
        cases = result.get("cases", [])
        bad = [c for c in cases if not c.get("ok")]
        row("operators equal to their CPU bodies", "all",
            f"{len(cases) - len(bad)}/{len(cases)}", not bad and bool(cases))
        for case in bad[:20]:
            print(f"  wrong: {case}")


def profile(folder):
    result = load(folder, "profile.json")
    if not result:
        return
    top = result["ceilings"]
    print(f"{result['name']}: {top['matrix_flops_per_s'] / 1e12:.0f} TFLOP/s, "
          f"{top['copy_bytes_per_s'] / 1e9:.0f} GB/s; {result['measured']} "
          f"operators, expected error {100 * result['expected_error']:.1f} %")
    for stream in STREAMS:
        shares = [op["share_of_bandwidth"] for op in result["operators"]
                  if kind(op) == stream and op["time_s"] > LEAST_BYTES_TIME]
        if shares:
            row(f"{stream}, of copy bandwidth (median of {len(shares)})",
                "85 %", f"{100 * median(shares):.0f} %", median(shares) >= 0.85)
    ratios = [abs(l["sum_over_whole"] - 1) for l in result["layers"]]
    if ratios:
        row(f"layer against sum of operators ({len(ratios)} layers)", "3 %",
            f"{100 * median(ratios):.1f} %", median(ratios) <= 0.03)


def torch(folder):
    result = load(folder, "torch.json")
    if not result:
        return
    for name, target in (("gemm", 0.95), ("attention_forward", 0.7),
                         ("attention_backward", 0.7)):
        ratios = [op["ratio"] for op in result["operators"] if kind(op) == name]
        if ratios:
            row(f"{name}, speed of PyTorch {result['torch']} "
                f"(median of {len(ratios)})", f"{100 * target:.0f} %",
                f"{100 * median(ratios):.0f} %", median(ratios) >= target)
    others = [op for op in result["operators"]
              if kind(op) not in ("gemm", "attention_forward",
                                  "attention_backward")]
    for name in sorted({kind(op) for op in others}):
        ratios = [op["ratio"] for op in others if kind(op) == name]
        print(f"{name:<52}{'':>10}{100 * median(ratios):>10.0f} %  of PyTorch")


def main():
    folder = sys.argv[1]
    for part in (checks, profile, torch):
        part(folder)


if __name__ == "__main__":
    main()
