#!/usr/bin/env python3
"""Writes bench/validation/cases/*.json from collected published measurements.

Reads cases-published.json, cases-amp-fasop-hexiscale.json and
vtrain-single-node.csv of $TROUPE_SHARED/validation (default: beside the
repository). What it assumes where a source is silent, and what it leaves
out, is said in bench/validation/README.md.
"""
import csv
import json
import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[3]
SHARED = pathlib.Path(os.environ.get("TROUPE_SHARED", ROOT.parent / "shared"))
CASES = ROOT / "bench" / "validation" / "cases"

# Peak in dense bf16 TFLOPS for sources that publish MFU: H100 SXM.
H100_PEAK = 989.4e12

KINDS = {
    "A100": "a100-sxm-80",
    "A100-80GB": "a100-sxm-80",
    "A100-40GB": "a100-sxm-40",
    "H100-80GB-SXM": "h100-sxm",
    "GH200-96GB": "gh200-96",
    "B200-SXM": "b200",
}
NETWORKS = {
    "8 x 200 Gb/s HDR InfiniBand per node, fat tree": "200 Gbit/s per GPU",
    "800 Gb/s per node (4 x 200 Gb/s HDR)": "4 x 200 Gbit/s per node",
    "1600 Gb/s RoCE per node": "200 Gbit/s per GPU",
    "8 x 400 Gb/s NDR InfiniBand per node": "400 Gbit/s per GPU",
    "not stated": "400 Gbit/s per GPU",
    "Slingshot-11, 200 Gb/s per GPU": "200 Gbit/s per GPU",
}


# Software of a file's source; its constants are in ../libraries.json.
LIBRARIES = {
    "vtrain-multi-node": "megatron-deepspeed",
    "vtrain-single-node": "megatron-deepspeed",
    "llm-foundry-a100-sxm-40": "llm-foundry",
    "llm-foundry-a100-sxm-80": "llm-foundry",
    "llm-foundry-h100-sxm": "llm-foundry",
    "narayanan-2021": "megatron-lm-2021",
    "narayanan-2021-ptdp": "megatron-lm-2021",
    "korthikanti-2022": "megatron-lm-2022",
    "nemo-launcher-2023": "nemo-2023",
    "megatron-core": "megatron-core",
    "simumax-b200": "megatron-core",
}


class File:
    """One file of cases: one source."""

    def __init__(self, name, source, citation, attention, notes):
        self.name = name
        self.head = {
            "format": "troupe.validation/1",
            "source": source,
            "citation": citation,
            **({"library": LIBRARIES[name]} if name in LIBRARIES else {}),
            "attention": attention,
            "notes": notes,
        }
        self.models, self.clusters, self.cases = {}, {}, []

    def add(self, case):
        # Every third case of a source is kept out of fits.
        case["held_out"] = len(self.cases) % 3 == 2
        self.cases.append({k: v for k, v in case.items() if v is not None})

    def write(self):
        lines = ["{"]
        for key, value in self.head.items():
            if value:
                lines.append(f" {dump(key)}: {dump(value)},")
        for key, table in (("models", self.models), ("clusters", self.clusters)):
            if table:
                rows = [f"  {dump(k)}: {dump(v)}" for k, v in table.items()]
                lines.append(f" {dump(key)}: {{\n" + ",\n".join(rows) + "\n },")
        rows = ["  " + dump(case) for case in self.cases]
        lines.append(' "cases": [\n' + ",\n".join(rows) + "\n ]\n}\n")
        (CASES / f"{self.name}.json").write_text("\n".join(lines))


def dump(value):
    return json.dumps(value, ensure_ascii=True)


def clean(values):
    """Strategy keys that differ from the format's defaults."""
    defaults = {"dp": 1, "tp": 1, "pp": 1, "cp": 1, "interleave": 1,
                "recompute": "none", "zero": 0, "overlap_gradient_sync": False,
                "sequence_parallel": True}
    return {k: v for k, v in values.items()
            if v is not None and (k not in defaults or v != defaults[k])}


def padded(vocab, tp):
    """Megatron pads the vocabulary to a multiple of 128 x tp."""
    unit = 128 * tp
    return -(-vocab // unit) * unit


def gpt(file, m, vocab, gated=False, bias=True):
    """Puts a model into the file's table and gives its name."""
    layers, hidden, heads, ffn = m["layers"], m["hidden"], m["heads"], m["ffn"]
    kv, seq = m.get("kv_heads", heads), m["seq"]
    name = f"{'llama' if gated else 'gpt'}-{layers}x{hidden}-v{vocab}-s{seq}"
    model = {"format": "troupe.model/1", "name": name, "layers": layers,
             "hidden": hidden, "heads": heads, "ffn": ffn, "vocab": vocab,
             "seq_len": seq}
    if kv != heads:
        model["kv_heads"] = kv
    if not gated:
        model.update(norm="layer", activation="gelu", positions="learned",
                     max_positions=seq, tied_embeddings=True)
        if bias:
            model.update(qkv_bias=True, attention_out_bias=True, mlp_bias=True)
    file.models[name] = model
    return name


def short_cluster(c):
    text = f"{c['gpus_per_node']} x {KINDS[c['gpu']]} per node"
    if c["nodes"] > 1:
        text += f", {c['nodes']} nodes, {NETWORKS[c['inter']]}"
    return text


def gpus(s):
    return s["dp"] * s["tp"] * s["pp"] * s["cp"]


def megatron_flops(m, batch, factor, head):
    """F = factor B s l h^2 (1 + s/(6h) + V/(head l h))."""
    b, s, l, h, v = batch, m["seq"], m["layers"], m["hidden"], m["vocab"]
    return factor * b * s * l * h * h * (1 + s / (6 * h) + v / (head * l * h))


def step_time(x):
    """The metric as seconds per step, by the source's own definition."""
    m, s, value = x["model"], x["strategy"], x["value"]
    if x["metric"] == "step_time_s":
        return value
    if x["metric"] == "tokens_per_s_per_gpu":
        out = s["gbs"] * m["seq"] / (value * gpus(s))
    elif x["metric"] == "tokens_per_s":
        out = s["gbs"] * m["seq"] / value
    elif x["metric"] == "tflops_per_gpu":
        hardware = x["source"].startswith("Narayanan")
        flops = megatron_flops(m, s["gbs"], *((96, 16) if hardware else (72, 12)))
        out = flops / (gpus(s) * value * 1e12)
    elif x["metric"] == "mfu_pct":
        flops = megatron_flops(m, s["gbs"], 72, 12)
        out = flops / (gpus(s) * value / 100 * H100_PEAK)
    else:
        raise SystemExit(f"{x['id']}: metric {x['metric']}")
    known = x.get("derived_step_time_s")
    if known and abs(out / known - 1) > 0.01:
        raise SystemExit(f"{x['id']}: {out} is not {known}")
    return round(out, 5)


def interleave_of(s, layers):
    """Published, else the fewest rounds above one that divide the layers."""
    if s["interleave"] or not s["schedule"].endswith("interleaved"):
        return s["interleave"] or 1, None
    per_stage = layers // s["pp"]
    for rounds in range(2, per_stage + 1):
        if per_stage % rounds == 0:
            return rounds, f"interleave {rounds} assumed"
    return 1, "interleave 1 assumed"


def published(file, x, *, dtype, gradient, overlap, vocab=None, recompute=None,
              gated=False, bias=True, mbs=None, note=None, layers=None,
              pointwise=None):
    m, s = x["model"], x["strategy"]
    rounds, assumed = interleave_of(s, m["layers"])
    notes = [note, assumed]
    batch = s["mbs"] or mbs
    if not s["mbs"]:
        notes.append(f"micro-batch {mbs} assumed")
    if s["recompute"] is None:
        notes.append(f"recompute {recompute} assumed")
    if x["cluster"]["inter"] == "not stated" and x["cluster"]["nodes"] > 1:
        notes.append("400 Gbit/s per GPU assumed")
    strategy = clean({
        "dp": s["dp"], "tp": s["tp"], "pp": s["pp"], "cp": s["cp"],
        "interleave": rounds, "layers_per_stage": layers,
        "global_batch": s["gbs"], "micro_batch_size": batch, "dtype": dtype,
        "gradient_dtype": gradient, "zero": s["zero"],
        "sequence_parallel": bool(s["sp"]),
        "recompute": s["recompute"] or recompute,
        "overlap_gradient_sync": overlap, "pointwise": pointwise})
    memory = x.get("peak_alloc_gib")
    if not memory and x.get("max_mem_bytes"):
        memory = round(x["max_mem_bytes"] / 2**30, 3)
    file.add({
        "id": x["id"], "quality": x["quality"],
        "model": gpt(file, m, vocab or m["vocab"], gated, bias),
        "cluster": x["case_cluster"] if "case_cluster" in x
                   else short_cluster(x["cluster"]),
        "strategy": strategy, "metric": "step_time_s", "measured": step_time(x),
        "memory_gib": memory,
        "note": "; ".join(n for n in notes if n) or None})


def left_out(x):
    if "FP8" in x["precision"].upper():
        return "FP8"
    if (x["strategy"]["ep"] or 1) > 1 or x["model"]["hidden"] is None:
        return "MoE"
    return None


MEGATRON = "Megatron-LM of the time: no flash attention"


def megatron_files(cases):
    korthikanti = File(
        "korthikanti-2022", "Korthikanti 2022",
        "Korthikanti et al., Reducing Activation Recomputation in Large "
        "Transformer Models, arXiv 2205.05198, table 5", "unfused",
        [MEGATRON, "fp16 is written for \"fp16/bf16 mixed\""])
    narayanan = File(
        "narayanan-2021", "Narayanan 2021",
        "Narayanan et al., Efficient Large-Scale Language Model Training on "
        "GPU Clusters Using Megatron-LM, SC 2021, arXiv 2104.04473, table 1",
        "unfused", [MEGATRON, "step from hardware TFLOPS: F = 96 B s l h^2 "
                    "(1 + s/6h + V/16lh)"])
    ptdp = File(
        "narayanan-2021-ptdp", "Narayanan 2021 PTD-P",
        "the same, table 2, recalled", "unfused", [MEGATRON])
    zero3 = File(
        "narayanan-2021-zero3", "Narayanan 2021 ZeRO-3",
        "the same, table 2, DeepSpeed ZeRO-3 without model parallelism, "
        "recalled", "unfused", [])
    core = File(
        "megatron-core", "Megatron-Core H100",
        "Megatron-LM README, model table of Megatron-Core r0.8", "flash",
        ["overlapped gradient reduction; TP overlap on, not modelled",
         "step from model TFLOPS: F = 72 B s l h^2 (1 + s/6h + V/12lh)"])
    nemo = File(
        "nemo-launcher-2023", "NeMo launcher 2023",
        "NeMo Framework Launcher README before October 2023, strategies of "
        "the yaml files at that commit", "unfused",
        ["distributed optimizer with overlapped bf16 gradient reduction",
         "selective recomputation assumed"])
    for x in cases:
        source = x["source"]
        if source.startswith("Korthikanti"):
            published(korthikanti, x, dtype="fp16", gradient="fp16",
                      overlap=False)
        elif source.startswith("Narayanan 2021, table 1"):
            small = x["model"]["hidden"] <= 4096
            published(narayanan, x, dtype="fp16", gradient="fp16",
                      overlap=False, mbs=16 if small else 1)
        elif "(PTD-P)" in source:
            published(ptdp, x, dtype="fp16", gradient="fp16", overlap=False)
        elif "(ZeRO-3)" in source:
            published(zero3, x, dtype="fp16", gradient="fp16", overlap=True)
        elif source.startswith("Megatron-Core"):
            published(core, x, dtype="bf16", gradient="fp32", overlap=True,
                      recompute="none", mbs=1)
        elif source.startswith("NeMo Framework Launcher"):
            published(nemo, x, dtype="bf16", gradient="bf16", overlap=True,
                      recompute="selective")
    return [korthikanti, narayanan, ptdp, zero3, core, nemo]


def foundry_files(cases):
    files = {}
    for x in cases:
        if not x["source"].startswith("llm-foundry"):
            continue
        kind = KINDS[x["cluster"]["gpu"]]
        if kind not in files:
            files[kind] = File(
                f"llm-foundry-{kind}", f"llm-foundry {kind}",
                "MosaicML llm-foundry, scripts/train/benchmarking/README.md",
                "flash1", ["PyTorch FSDP FULL_SHARD is zero 3 with bf16 "
                          "parameters and gradients on the wire, overlapped"])
        published(files[kind], x, dtype="bf16", gradient="bf16", overlap=True,
                  bias=False, note=x["source"].split(", ")[-1],
                  pointwise="autocast" if x["precision"].startswith("amp")
                  else "eager")
    return list(files.values())


def other_files(cases):
    simumax = File(
        "simumax-b200", "SimuMax B200",
        "SimuMax docs/b200/b200_release_v1.2_summary.json: Megatron, "
        "truncated models on one node", "flash",
        ["fused cross-entropy in the source"])
    gh200 = File(
        "sailor-gh200", "Sailor GH200",
        "Sailor (SOSP 2025) validation/clariden, Megatron-DeepSpeed in fp32",
        "unfused", ["stage layers of the source count embedding and head",
                    "named fp32 by the source; its GPT-Neo steps are over the fp32 "
                    "peak, so TF32 must have been on"])
    mit = File(
        "sailor-mit", "Sailor MIT (mixed)",
        "Sailor (SOSP 2025) validation/mit, mixed RTX cards in fp32",
        "unfused", ["NICs from its network file: RTX 3090 nodes 0.115 GB/s, "
                    "the others 2.86 GB/s",
                    "PCIe of 8 RTX 3090: 5.3 GB/s by the same files"])
    for x in cases:
        source = x["source"]
        if source.startswith("SimuMax"):
            published(simumax, x, dtype="bf16", gradient="fp32", overlap=False,
                      gated=True, note=source.split(": ")[1])
        elif source.startswith("Sailor"):
            counts = list(x["strategy"]["stage_layers"])
            counts[0] -= 1
            counts[-1] -= 1
            mixed = " mit " in source
            if mixed:
                x["case_cluster"] = mixed_cluster(mit, x)
            published(mit if mixed else gh200, x, dtype="fp32",
                      gradient="fp32", overlap=False, layers=counts,
                      note=source.split(" plan_config_")[1]
                      + ("; the source holds this value twice, suspect"
                         if x["quality"] == "C" else ""))
    return [simumax, gh200, mit]


def mixed_cluster(file, x):
    nodes = []
    for stage in x["strategy"]["stage_gpus"]:
        for group in stage:
            kind, count = group.rsplit("x", 1)
            kind = kind.lower()
            slow = kind == "rtx-3090"
            intra = {"type": "pcie"}
            if slow:
                intra["gbytes_per_s"] = 5.3
            nodes.append({"kind": kind, "count": int(count), "intra": intra,
                          "nic": {"gbytes_per_s": 0.115 if slow else 2.86,
                                  "per": "node"}})
    name = "mit-" + x["source"].split("plan_config_")[1]
    file.clusters[name] = {
        "format": "troupe.cluster/1", "name": name,
        "source": "Sailor, multizone_bandwidths_het.json; 20 us assumed",
        "nodes": nodes, "network": {"latency_us": 20}}
    return name


def vtrain_files(cases):
    citation = ("Bang et al., vTrain, MICRO 2024; github.com/VIA-Research/"
                "vTrain data/ground_truth")
    notes = ["Megatron-DeepSpeed in fp16, full recomputation, 1F1B",
             "vocabulary padded to a multiple of 128 x tp as Megatron does",
             "gradients reduced in fp16, not overlapped"]
    multi = File("vtrain-multi-node", "vTrain multi-node", citation, "unfused",
                 notes)
    single = File("vtrain-single-node", "vTrain single-node", citation,
                  "unfused", notes + ["every sixth of the 600 published rows"])
    for x in cases:
        if x["source"] == "vTrain ground truth (multi-node)":
            published(multi, x, dtype="fp16", gradient="fp16", overlap=False,
                      vocab=padded(50257, x["strategy"]["tp"]))
    path = SHARED / "validation" / "vtrain-single-node.csv"
    with path.open() as stream:
        rows = list(csv.reader(stream))[1:]
    for number in range(0, len(rows), 6):
        n, gbs, mbs, h, heads, layers, seq, tp, dp, pp = map(
            int, rows[number][:10])
        m = {"layers": layers, "hidden": h, "heads": heads, "ffn": 4 * h,
             "seq": seq}
        single.add({
            "id": f"vtrain-{number + 2}", "quality": "A",
            "model": gpt(single, m, padded(50257, tp)),
            "cluster": "8 x a100-sxm-80 per node",
            "strategy": clean({
                "dp": dp, "tp": tp, "pp": pp, "global_batch": gbs,
                "micro_batch_size": mbs, "dtype": "fp16",
                "gradient_dtype": "fp16", "sequence_parallel": False,
                "recompute": "full"}),
            "metric": "step_time_s",
            "measured": round(float(rows[number][10]) / 1e3, 6)})
        assert n == dp * tp * pp
    known = {case["measured"] for case in single.cases}
    for x in cases:
        if (x["source"].startswith("vTrain ground truth (single")
                and x["value"] not in {round(v, 6) for v in known}):
            published(single, x, dtype="fp16", gradient="fp16", overlap=False,
                      vocab=padded(50257, x["strategy"]["tp"]))
    return [multi, single]


def transformer_layers(cuts):
    """Of 30 pseudo-layers, 2 to 25 are transformer layers."""
    return [max(0, min(b, 26) - max(a, 2)) for a, b in zip(cuts, cuts[1:])]


def amp_files(cases):
    notes = ["DeepSpeed pipeline and Megatron 1.1.5 in fp16, gradients "
             "reduced in fp32", "its 30 layers are embed, noop, 24 "
             "transformer, 2 noop, logits, noop; here transformer layers"]
    citation = ("Li et al., AMP, NeurIPS 2022: cached trials of "
                "github.com/DachengLi1/AMP")
    files = {
        "homogeneous": File("amp-homogeneous", "AMP T4", citation, "unfused",
                            notes),
        "het-cluster": File("amp-het-cluster", "AMP V100 + T4", citation,
                            "unfused", notes),
        "het-model": File("amp-het-model", "AMP V100", citation, "unfused",
                          notes)}
    for x in cases:
        if not x["id"].startswith("amp-"):
            continue
        part = x["id"][4:].rsplit("-", 1)[0]
        s = x["strategy"]
        layers = transformer_layers(s["cuts"])
        assert sum(layers) == 24, x["id"]
        case = {
            "id": x["id"], "quality": "A", "model": "gpt2-345m-amp",
            "cluster": f"amp-{part}",
            "strategy": clean({
                "dp": s["dp"], "tp": s["tp"], "pp": s["pp"],
                "layers_per_stage": layers if s["pp"] > 1 else None,
                "global_batch": 32, "micro_batch_size": s["micro_batch"],
                "dtype": "fp16", "gradient_dtype": "fp32",
                "sequence_parallel": False}),
            "metric": "step_time_s", "measured": x["value"]}
        if x["value"] is None:
            case["outcome"] = "failed"
            case["note"] = "run failed: out of memory or did not start"
        if x["id"] == "amp-het-cluster-081":
            continue  # micro-batch 2 of the same plan ran: not for memory
        files[part].add(case)
    fasop = File("fasop-2023", "FASOP 2023",
                 "FASOP repository, bar chart of run time in the README, "
                 "April 2023", "unfused",
                 ["the chart prints no plan; this is the top line of the "
                  "search log of the same week"])
    for x in cases:
        if x["id"] == "fasop-chart-4-fasop":
            counts = list(x["strategy"]["layers_per_stage_incl_embedding"])
            counts[0] -= 1
            counts[-1] -= 1
            fasop.add({
                "id": x["id"], "quality": "C", "model": "gpt2-345m",
                "cluster": "fasop-hist-4",
                "strategy": clean({
                    "dp": 4, "pp": 4, "layers_per_stage": counts,
                    "global_batch": 32, "micro_batch_size": 1,
                    "dtype": "fp16", "sequence_parallel": False}),
                "metric": "step_time_s", "measured": x["value"]})
    return [*files.values(), fasop]


def main():
    published_cases = json.loads(
        (SHARED / "validation" / "cases-published.json").read_text())
    amp = json.loads(
        (SHARED / "validation" / "cases-amp-fasop-hexiscale.json").read_text())
    usable, reasons = [], {}
    for x in published_cases:
        reason = left_out(x)
        if reason:
            reasons[reason] = reasons.get(reason, 0) + 1
        else:
            usable.append(x)
    files = (megatron_files(usable) + foundry_files(usable)
             + other_files(usable) + vtrain_files(usable) + amp_files(amp))
    CASES.mkdir(parents=True, exist_ok=True)
    for file in files:
        if file.cases:
            file.write()
            print(f"{file.name}: {len(file.cases)}")
    print("left out:", reasons)


if __name__ == "__main__":
    main()
