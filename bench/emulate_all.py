#!/usr/bin/env python3
"""Emulates every strategy there is, small, against one device, and prints the
worst deviations; ends with 1 when one is not equal or fails.

Usage: bench/emulate_all.py [--troupe PATH] [--shared FOLDER] [--only WORD]
                            [--precision fp32] [--list]
Files of other systems are read from FOLDER/seeds-data (default: shared beside
the repository); groups whose files are not there are left out."""
import argparse
import csv
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Two layers on a stage, as HexiScale's first examples have.
SMALL = {"format": "troupe.model/1", "name": "few-layers", "layers": 4,
         "hidden": 4096, "heads": 32, "ffn": 11008, "vocab": 32000,
         "seq_len": 4096}


def load(path):
    return json.loads(path.read_text()) if path.exists() else None


class Cases:
    """Rows (group, label, arguments)."""

    def __init__(self, shared, folder):
        self.seeds, self.folder, self.list = shared, folder, []
        self.written = 0

    def write(self, content, name=None):
        self.written += 1
        path = self.folder / (name or f"case{self.written}.json")
        path.write_text(content if isinstance(content, str)
                        else json.dumps(content))
        return str(path)

    def add(self, group, label, *arguments):
        self.list.append((group, label, [str(a) for a in arguments]))

    def own(self, group, label, content, *arguments):
        self.add(group, label,
                 self.write({"format": "troupe.strategy/1", **content}),
                 *arguments)

    def foreign(self, group, system, file, key, more=lambda i, case: []):
        path = self.seeds / file
        for i, case in enumerate((load(path) or {}).get(key, [])):
            self.add(group, f"{path.stem} {i}", path, "--from", system,
                     "--case", i, *more(i, case))


def add_shipped(cases):
    for path in sorted((ROOT / "examples").glob("*.json")):
        if "1024" in path.stem or path.stem == "hydraulis-case-study":
            continue  # bench/emulate_scale.sh; phase by phase below
        cases.add("shipped", path.stem, path)
    for path in sorted((ROOT / "examples/elastic").glob("*.json")):
        cases.add("trace", path.stem, path)


def add_hexiscale(cases):
    def model(_, case):
        layers = sum(case["layer_partitions"][0])
        if layers in (32, 40, 60):
            return []
        name = cases.write({**SMALL, "layers": layers}, f"few{layers}.json")
        return ["--model", name]
    cases.foreign("hexiscale", "hexiscale",
                  "hexiscale/strategy_examples.json", "examples", model)


def add_hotspa(cases):
    # A sixteenth of the sequences: what counts is that all phases run.
    few = ["--set", "global_batch_size=32"]
    for file in ("paper_configs", "a100_40g_configs"):
        cases.foreign("hotspa", "hotspa", f"hotspa/{file}.json", "configs",
                      lambda i, case: few)
    path = cases.seeds / "hotspa/paper_configs.json"
    configs = (load(path) or {}).get("configs", [])
    by_job = {}
    for i, c in enumerate(configs):
        key = (c["model"], c["num_gpus"], c["max_seq_len"])
        by_job.setdefault(key, []).append(i)
    for key, (one, other) in sorted(by_job.items()):
        if key[2] != 32768:
            continue
        # A strategy of several phases after another, both ways.
        files = [cases.write({"configs": [configs[i]]})
                 for i in (one, other)]
        for a, b in (files, files[::-1]):
            cases.add("hotspa then", f"{key[0]} on {key[1]}", a, "--from",
                      "hotspa", "--case", 0, *few, "--then", b)


def add_hspmd(cases):
    cases.foreign("hspmd", "hspmd", "hspmd/hetero_cluster_cases.json", "cases")
    cases.foreign("hspmd", "hspmd", "hspmd/older_revision_strategies.json",
                  "strategies")
    cases.foreign("hspmd", "hspmd", "hspmd/elastic_traces_inferred.json",
                  "configs")
    path = cases.seeds / "hspmd/mixed_length_strategies.json"
    if path.exists():
        cases.add("hydraulis", path.stem, path, "--from", "hydraulis")


def add_hydraulis(cases):
    path = cases.seeds / "hydraulis/case_study.json"
    if path.exists():
        for i in range(len(load(path)["strategies"])):
            cases.add("hydraulis", f"case_study phase {i}", path, "--from",
                      "hydraulis", "--phase", f"strategy {i}")
    path = cases.seeds / "hydraulis/paper_exp_configs.json"
    found = load(path)
    count = sum(len(found[k]["cases"])
                for k in ("CommonCrawl", "GitHub")) if found else 0
    for i in range(count):
        cases.add("hydraulis", f"paper_exp_configs {i}", path, "--from",
                  "hydraulis", "--case", i)


def add_fasop(cases):
    """Six of each job from fast to slow; a partition counts embedding and
    head."""
    path = cases.seeds / "fasop/fasop_predictions.csv"
    if not path.exists():
        return
    rows = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            if row["oom"] == "0" and row["log"] == "rerun":
                rows.setdefault(row["case"], []).append(row)
    for case, list_of in sorted(rows.items()):
        list_of.sort(key=lambda r: float(r["step_s"]))
        some = list_of[::max(1, len(list_of) // 6)][:6]
        for rank, row in enumerate(some):
            parts = [int(p) for p in row["partition"].split("-")]
            dp, tp, pp = (int(row[k]) for k in ("dp", "tp", "pp"))
            if len(parts) != pp:
                continue
            parts[0] -= 1
            parts[-1] -= 1
            nodes = row["placement"]
            per_node = dp * tp * pp // len(nodes)
            if per_node * len(nodes) != dp * tp * pp or min(parts) < 0:
                continue
            kinds = {"A": "a100-sxm-40", "B": "a10"}
            shape = " + ".join(f"{per_node} x {kinds[n]} per node, "
                               "100 Gbit/s per node, 1 nodes" for n in nodes)
            mbs = int(row["mbs"])
            cases.own("fasop", f"{case} {rank} {tp}x{dp}x{pp}", {
                "model": {**SMALL, "layers": sum(parts)}, "cluster": shape,
                "dp": dp, "tp": tp, "pp": pp, "layers_per_stage": parts,
                "micro_batches": min(8, max(pp, 2)), "micro_batch_size": mbs,
                "dtype": "fp16", "seq_len": 1024})


def zero_bubble(stage, stages, count):
    """ZB-H1: weight gradients wait until the warm-up's depth is used up."""
    warm = min(stages - stage, count)
    order = [f"F{m}" for m in range(warm)]
    forward, weight = warm, 0
    for m in range(count):
        order.append(f"I{m}")
        if m - weight >= stage:
            order.append(f"W{weight}")
            weight += 1
        if forward < count:
            order.append(f"F{forward}")
            forward += 1
    return order + [f"W{w}" for w in range(weight, count)]


def random_order(pick, stage, stages, count):
    """Forwards and input gradients as in 1F1B, weight gradients anywhere
    after, some backwards whole."""
    order, waits = [], []
    warm = min(stages - stage, count)
    forward = warm
    order += [f"F{m}" for m in range(warm)]
    for m in range(count):
        if pick.random() < 0.3:
            order.append(f"B{m}")
        else:
            order.append(f"I{m}")
            waits.append(m)
        while waits and pick.random() < 0.4:
            order.append(f"W{waits.pop(pick.randrange(len(waits)))}")
        if forward < count:
            order.append(f"F{forward}")
            forward += 1
    pick.shuffle(waits)
    return order + [f"W{m}" for m in waits]


def add_orders(cases):
    base = {"model": "llama-7b", "seq_len": 1024,
            "cluster": "8 x h100-sxm per node, 400 Gbit/s per GPU, 2 nodes"}
    for tp, dp, pp, count in ((1, 1, 4, 8), (2, 2, 4, 6), (2, 1, 2, 2),
                              (1, 2, 8, 8), (1, 4, 2, 5)):
        order = cases.write({"stages": [zero_bubble(s, pp, count)
                                        for s in range(pp)]})
        for zero in (0, 1):
            cases.own("order", f"zero bubble {tp}x{dp}x{pp} zero {zero}", {
                **base, "tp": tp, "dp": dp, "pp": pp, "micro_batches": count,
                "zero": zero, "schedule": "custom", "order_file": order})
    for seed in range(6):
        pick = random.Random(seed)
        pp, dp, tp = pick.choice(((2, 2, 1), (3, 1, 2), (4, 2, 1), (4, 1, 4)))
        count = pick.randint(1, 7)
        order = cases.write({"stages": [random_order(pick, s, pp, count)
                                        for s in range(pp)]})
        cases.own("order", f"random {seed} {tp}x{dp}x{pp}", {
            **base, "tp": tp, "dp": dp, "pp": pp, "micro_batches": count,
            "zero": seed % 4, "schedule": "custom", "order_file": order,
            "recompute": ("none", "selective", "full")[seed % 3]})
    # Unequal pipelines, each with an order of its own.
    pipelines = [{"micro_batches": 4, "stages": [
        {"devices": "0-3", "layers": 12}, {"devices": "4-5", "layers": 12},
        {"devices": "6", "layers": 8}]},
        {"micro_batches": 3, "stages": [
            {"devices": "8-9", "layers": 20}, {"devices": "10", "layers": 12}]}]
    order = cases.write({"pipelines": [
        {"stages": [zero_bubble(s, len(p["stages"]), p["micro_batches"])
                    for s in range(len(p["stages"]))]} for p in pipelines]})
    cases.own("order", "unequal pipelines", {
        **base, "pipelines": pipelines, "zero": 1, "schedule": "custom",
        "order_file": order})


def add_interleaved(cases):
    base = {"model": "llama-7b", "seq_len": 1024,
            "cluster": "8 x h100-sxm per node, 400 Gbit/s per GPU, 2 nodes"}
    for pp, v, dp, tp, count in ((2, 2, 2, 1, 4), (4, 2, 1, 2, 8),
                                 (4, 4, 1, 1, 4), (2, 4, 1, 4, 6)):
        cases.own("interleaved", f"{tp}x{dp}x{pp} by {v}", {
            **base, "tp": tp, "dp": dp, "pp": pp, "interleave": v,
            "micro_batches": count, "zero": 1})
    cases.own("interleaved", "unequal chunks", {**base, "pipelines": [
        {"micro_batches": 4, "stages": [
            {"devices": "0-1", "chunks": [[0, 3], [10, 20]]},
            {"devices": "2", "chunks": [[3, 10], [20, 32]]}]},
        {"micro_batches": 6, "stages": [
            {"devices": "4-7", "chunks": [[0, 9], [18, 19]]},
            {"devices": "8-9", "chunks": [[9, 12], [19, 29]]},
            {"devices": "10", "chunks": [[12, 18], [29, 32]]}]}]})
    cases.own("interleaved", "chunks and context parallelism", {
        **base, "zero": 2, "pipelines": [
            {"micro_batches": 2, "stages": [
                {"devices": "0-3", "cp": 2, "chunks": [[0, 5], [16, 20]]},
                {"devices": "4-7", "cp": 2, "chunks": [[5, 16], [20, 32]]}]},
            {"micro_batches": 4, "stages": [
                {"devices": "8", "chunks": [[0, 8], [9, 16]]},
                {"devices": "9-10", "chunks": [[8, 9], [16, 32]]}]}]})


MEGATRON = (
    "--num-layers 24 --hidden-size 1024 --num-attention-heads 16 "
    "--seq-length 1024 --max-position-embeddings 1024 --vocab-size 50257 "
    "--bf16 --use-distributed-optimizer ")


def add_megatron(cases):
    for label, more in (
            ("tp 2 pp 2", "--tensor-model-parallel-size 2 "
             "--pipeline-model-parallel-size 2 --micro-batch-size 1 "
             "--global-batch-size 16 --world-size 8"),
            ("sequence parallel, interleaved",
             "--tensor-model-parallel-size 2 --sequence-parallel "
             "--pipeline-model-parallel-size 4 --micro-batch-size 2 "
             "--num-layers-per-virtual-pipeline-stage 3 "
             "--global-batch-size 32 --world-size 16"),
            ("context parallel", "--context-parallel-size 2 "
             "--tensor-model-parallel-size 2 --micro-batch-size 1 "
             "--global-batch-size 8 --world-size 8"),
            ("recompute", "--tensor-model-parallel-size 4 "
             "--recompute-granularity full --recompute-method uniform "
             "--recompute-num-layers 1 --micro-batch-size 4 "
             "--global-batch-size 16 --world-size 8")):
        cases.add("megatron", label,
                  cases.write(MEGATRON + more, f"{label.split()[0]}.txt"),
                  "--from", "megatron")


def emulate(troupe, arguments, precision):
    """Row of the table, and whether it is as it should be."""
    command = [troupe, "emulate", *arguments, "--shrink", "--verify",
               "--steps", "2", "--precision", precision, "--json",
               "--no-store"]
    clock = ["--clock", "virtual"]
    start = time.monotonic()
    for more in (clock, []):
        done = subprocess.run([*command, *more], capture_output=True,
                              text=True)
        if done.returncode == 0 or "clock" not in done.stderr:
            break
    took = time.monotonic() - start
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        lines = [l for l in done.stderr.splitlines() if "warning" not in l]
        return (f"exit {done.returncode}: "
                + (lines[-1] if lines else "no message"), False)
    verify = answer["verify"]
    worst = verify["max_relative_error"]
    agrees = answer.get("clock_agrees")
    text = "{:>5} {:>6} {:>9.2e} {:>9.2e} {:>9.2e} {:>6} {:>6.1f}".format(
        answer["ranks"], len(answer["loss"]), worst["gradients"],
        worst["parameters"], worst["loss"],
        {None: "-", True: "equal", False: "OFF"}[agrees], took)
    good = done.returncode == 0 and verify["ok"] and agrees is not False
    return text + ("" if good else "  NOT EQUAL"), good


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--troupe", default="build/release/bin/troupe")
    parser.add_argument("--shared", type=pathlib.Path,
                        default=ROOT.parent / "shared")
    parser.add_argument("--only", default="")
    parser.add_argument("--precision", default="fp64",
                        choices=("fp64", "fp32"))
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = Cases(options.shared / "seeds-data", pathlib.Path(folder))
        for add in (add_shipped, add_hspmd, add_hexiscale, add_hotspa,
                    add_hydraulis, add_fasop, add_megatron, add_orders,
                    add_interleaved):
            add(cases)
        print(f"{'group':<12} {'case':<32} {'ranks':>5} {'steps':>6} "
              f"{'gradient':>9} {'parameter':>9} {'loss':>9} {'clock':>6} "
              f"{'s':>6}", flush=True)
        wrong = 0
        for group, label, arguments in cases.list:
            if options.only not in f"{group} {label}":
                continue
            if options.list:
                print(f"{group:<12} {label:<32}", *arguments)
                continue
            text, good = emulate(options.troupe, arguments,
                                 options.precision)
            wrong += not good
            print(f"{group:<12} {label:<32} {text}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
