"""One table out of a folder that run_all.sh filled: targets, what was
measured, and whether each is met. A file that is missing or cut off costs
only its own lines.

    python3 summary.py FOLDER"""
import csv
import json
import math
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


def lines(folder, name):
    """Objects of a file of one a line; a last one cut short is left out."""
    try:
        text = pathlib.Path(folder, name).read_text()
    except OSError:
        return None
    found = []
    for line in text.splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def median(values):
    return statistics.median(values) if values else math.nan


def row(what, target, measured, met):
    print(f"{what:<56}{target:>8}{measured:>12}  {'met' if met else 'MISSED'}")


def unknown(what, target, why):
    print(f"{what:<56}{target:>8}{'-':>12}  NOT MEASURED: {why}")


def kind(op):
    return op["operator"].split()[0]


def check_lines(found, name):
    cases = [c for c in found if "case" in c]
    bad = [c for c in cases if not c.get("ok")]
    begun = [c["begin"] for c in found if "begin" in c]
    ended = any("count" in c for c in found)
    row(name, "all", f"{len(cases) - len(bad)}/{len(cases)}",
        bool(cases) and not bad and ended)
    for case in bad[:20]:
        print(f"  wrong: {case['case']} {case['dtype']}: {case['note']}")
    if not ended:
        print(f"  stopped in: {begun[-1] if begun else 'its beginning'}")


def checks(folder):
    name = "operators equal to their CPU bodies"
    whole, families = [], {}
    for line in lines(folder, "kernel_check.jsonl") or []:
        if "family" in line:
            families[line["family"]] = []
        elif families:
            families[list(families)[-1]].append(line)
        else:
            whole.append(line)
    if whole:
        check_lines(whole, name)
    else:
        unknown(name, "all", "kernel_check gave nothing")
    for family, found in families.items():
        check_lines(found, f"  {family} alone")


def streams(result):
    for stream in STREAMS:
        shares = [op["share_of_bandwidth"] for op in result["operators"]
                  if kind(op) == stream and op["time_s"] > LEAST_BYTES_TIME
                  and op.get("share_of_bandwidth") is not None]
        if shares:
            row(f"{stream}, of copy bandwidth (median of {len(shares)})",
                "85 %", f"{100 * median(shares):.0f} %", median(shares) >= 0.85)


def profile(folder):
    result = load(folder, "profile.json")
    if not result:
        unknown("memory-bound operators, of copy bandwidth", "85 %",
                "no profile")
        unknown("layer against sum of operators", "3 %", "no profile")
        return
    top = result["ceilings"]
    if top:
        print(f"{result['name']}: {top['matrix_flops_per_s'] / 1e12:.0f} "
              f"TFLOP/s, {top['copy_bytes_per_s'] / 1e9:.0f} GB/s; "
              f"{result['measured']} operators, expected error "
              f"{100 * result['expected_error']:.1f} %")
    streams(result)
    ratios = [abs(l["sum_over_whole"] - 1) for l in result["layers"]]
    if ratios:
        row(f"layer against sum of operators ({len(ratios)} layers)", "3 %",
            f"{100 * median(ratios):.1f} %", median(ratios) <= 0.03)
        for l in result["layers"]:
            print(f"  {l['model']} {'backward' if l['backward'] else 'forward'}"
                  f" {l['micro_batch']}x{l['seq_len']}: whole "
                  f"{1e3 * l['whole']['median_s']:.3f} ms, sum over whole "
                  f"{l['sum_over_whole']:.3f}"
                  + (f", {l['operators_guessed']} guessed"
                     if l["operators_guessed"] else ""))
    else:
        unknown("layer against sum of operators", "3 %", "no layer was run")


def gemms(folder):
    name = "gemm, of cuBLASLt's best"
    found = [g for g in lines(folder, "bodies.jsonl") or [] if "ratio" in g]
    if not found:
        unknown(name, "95 %", "kernel_check --gemm-best gave nothing")
        return
    for form in sorted({g["form"] for g in found}):
        ratios = [g["ratio"] for g in found if g["form"] == form]
        row(f"{name}, {form} (median of {len(ratios)})", "95 %",
            f"{100 * median(ratios):.1f} %", median(ratios) >= 0.95)
    worst = min(found, key=lambda g: g["ratio"])
    print(f"  worst: {worst['m']}x{worst['n']}x{worst['k']} {worst['form']}: "
          f"{100 * worst['ratio']:.1f} %")


def attentions(folder):
    found = [a for a in lines(folder, "bodies.jsonl") or []
             if "attention" in a and a.get("own_s")]
    for backward, free in ((False, False), (True, False), (True, True)):
        name = "attention " + ("backward" if backward else "forward")
        what = f"{name}, speed of cuDNN" + (" in any order" if free else "")
        some = [a for a in found if a["backward"] == backward and
                a["deterministic"] != free]
        ratios = [a["cudnn_s"] / a["own_s"] for a in some if a["cudnn_s"]]
        if ratios:
            row(f"{what} (median of {len(ratios)})", "70 %",
                f"{100 * median(ratios):.0f} %", median(ratios) >= 0.7)
        else:
            unknown(what, "70 %", "kernel_check --attention-bodies gave none")
        for a in some:
            cudnn = (f"{1e3 * a['cudnn_s']:.3f} ms" if a["cudnn_s"] else "-")
            print(f"  {a['attention']}: own {1e3 * a['own_s']:.3f} ms, cuDNN "
                  f"{cudnn}, by {'cuDNN' if a['by_cudnn'] else 'own'}"
                  + (f"; {a['refusal']}" if a["refusal"] else ""))


def training(folder):
    found = lines(folder, "bodies.jsonl") or []
    runs = [t for t in found if "training" in t]
    for t in runs:
        name = f"training: {t['training']} {t['options']}"
        answer = t["answer"]
        if not answer:
            row(name, "runs", "-", False)
            continue
        verify = answer.get("verify")
        if verify:
            worst = max(verify["max_relative_error"].values())
            row(f"{name}, {answer['ranks']} ranks", f"{verify['bound']:.0e}",
                f"{worst:.1e}", verify["ok"])
            continue
        # The first steps choose algorithms.
        measured = median(answer["wall_steps_s"][2:])
        print(f"{name}: {1e3 * measured:.1f} ms a step, "
              f"{answer['tokens_per_step'] / measured:.0f} tokens/s, "
              f"{answer['model_flops_per_step'] / measured / 1e12:.0f} model "
              "TFLOP/s")
        for s in found:
            if s.get("simulated") == t["training"] and s["answer"]:
                step = s["answer"]["step_time_s"]
                row(f"simulated step of {t['training']}, off the measured",
                    "10 %", f"{100 * (step / measured - 1):+.1f} %",
                    abs(step / measured - 1) <= 0.1)
    if not runs:
        unknown("training steps on the GPU", "runs", "none ran")


def torch(folder):
    wanted = (("gemm", 0.95), ("attention_forward", 0.7),
              ("attention_backward", 0.7))
    result = load(folder, "torch.json")
    for name, target in wanted:
        ops = [op for op in (result or {}).get("operators", [])
               if kind(op) == name]
        what = f"{name}, speed of PyTorch"
        if not ops:
            unknown(what, f"{100 * target:.0f} %", "no comparison")
            continue
        ratios = [op["ratio"] for op in ops]
        row(f"{what} {result['torch']} (median of {len(ratios)})",
            f"{100 * target:.0f} %", f"{100 * median(ratios):.0f} %",
            median(ratios) >= target)
        for back_end in sorted({b for op in ops for b in op["torch_s"]}):
            some = [op["torch_s"][back_end] / op["troupe_s"] for op in ops
                    if back_end in op["torch_s"]]
            print(f"  of {back_end} (median of {len(some)}): "
                  f"{100 * median(some):.0f} %")
    if not result:
        return
    others = [op for op in result["operators"]
              if kind(op) not in [name for name, _ in wanted]]
    for name in sorted({kind(op) for op in others}):
        ratios = [op["ratio"] for op in others if kind(op) == name]
        print(f"{name:<56}{'':>8}{100 * median(ratios):>10.0f} %  of PyTorch")
    for skipped in result["skipped"][:10]:
        print(f"  skipped: {skipped}")


def links(folder):
    result = load(folder, "links.json")
    if not result:
        return
    curves = {}
    for copy in result["copies"]:
        curves.setdefault("copy " + copy["route"], []).append(copy)
    for one in result["collectives"]:
        curves.setdefault(f"{one['collective']} of {one['ranks']}",
                          []).append(one)
    for name, points in curves.items():
        least = min(points, key=lambda p: p["bytes"])
        most = max(points, key=lambda p: p["bytes"])
        print(f"{name:<32}{least['timing']['median_s'] * 1e6:>10.1f} us for "
              f"{least['bytes']} bytes, "
              f"{most['bytes'] / most['timing']['median_s'] / 1e9:.1f} GB/s "
              f"at {most['bytes']}")
    for note in result["notes"]:
        print(f"  note: {note}")


def rows(folder):
    try:
        with open(pathlib.Path(folder, "measured.csv"), newline="") as file:
            count = sum(1 for line in csv.reader(file)
                        if line and not line[0].startswith("#"))
        print(f"measured.csv: {count} lines of rows and headings")
    except OSError:
        print("measured.csv: not there: no row can be taken home")


def main():
    folder = sys.argv[1]
    for part in (checks, profile, gemms, attentions, training, torch, links,
                 rows):
        try:
            part(folder)
        except (KeyError, TypeError, ValueError, IndexError,
                AttributeError) as error:
            print(f"{part.__name__}: cannot be read ({error!r})")


if __name__ == "__main__":
    main()
