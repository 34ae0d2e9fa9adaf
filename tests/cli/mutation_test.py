"""Valid files with small seeded damage: an answer or a message, in time."""
import json
import os
import random
import unittest

from support import CSV, SHORT, CliTest

ROUNDS = int(os.environ.get("TROUPE_MUTATIONS", "60"))
SEED = int(os.environ.get("TROUPE_SEED", "20260503"))
LIMIT_S = 10
VALUES = [None, True, 0, 1, -1, 2, 3, 7, 1 << 31, (1 << 31) - 1, 1 << 53,
          (1 << 63) - 1, 1e308, 1e-308, 0.5, "", "x", "0-7", "1e9", [], {},
          [[]], [0, 0]]


def places(value, path=()):
    """Every place of a JSON value, as the way to it."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else (
        enumerate(value) if isinstance(value, list) else ())
    for key, inner in items:
        yield from places(inner, (*path, key))


def change_json(document, random_):
    """Replaces, removes, doubles or renames at one to three places."""
    out = json.loads(json.dumps(document))
    for _ in range(random_.randint(1, 3)):
        path = random_.choice(list(places(out)))
        holder = out
        for key in path[:-1]:
            holder = holder[key]
        key, kind = path[-1], random_.random()
        if kind < 0.55:
            holder[key] = json.loads(json.dumps(random_.choice(VALUES)))
        elif kind < 0.7:
            del holder[key]
        elif isinstance(holder, list):
            holder.insert(key, json.loads(json.dumps(
                holder[random_.randrange(len(holder))])))
        else:
            name = str(key) + random_.choice("sx_")
            holder[name] = json.loads(json.dumps(holder[key]))
        if not list(places(out)):
            return out
    return out


def change_bytes(data, random_):
    """Flips, cuts, removes or doubles some bytes."""
    out = bytearray(data)
    for _ in range(random_.randint(1, 4)):
        at = random_.randrange(len(out) + 1)
        kind = random_.randrange(5)
        if kind == 0 and at < len(out):
            out[at] = random_.randrange(256)
        elif kind == 1:
            out[at:at] = bytes([random_.choice(b'{}[]",:-0e9.\n\0\xff')])
        elif kind == 2:
            del out[at:at + random_.randint(1, 20)]
        elif kind == 3:
            out[at:at] = out[at:at + 40]
        elif random_.random() < 0.2:
            del out[at:]
    return bytes(out)


class Mutation(CliTest):
    def mutate(self, name, document, commands, whole_json=True):
        random_ = random.Random(f"{SEED} {name}")
        text = (json.dumps(document) if whole_json else document).encode()
        path = self.write(name, text)
        for arguments in commands:
            self.run_troupe(*[path if a == "FILE" else a for a in arguments])
        for round_ in range(ROUNDS):
            if whole_json and round_ % 3:
                data = json.dumps(change_json(document, random_)).encode()
            else:
                data = change_bytes(text, random_)
            path = self.write(name, data)
            arguments = commands[round_ % len(commands)]
            with self.subTest(round=round_, data=data[:3000]):
                done = self.run_troupe(
                    *[path if a == "FILE" else a for a in arguments],
                    code=(0, 1, 2), timeout=LIMIT_S)
                if done.returncode:
                    self.assertTrue(done.stderr or "error" in done.stdout)
                self.assertNotRegex(done.stdout, r"\b-?(nan|inf)\b")

    def test_short_strategies(self):
        self.mutate("short.json", SHORT, [
            ["simulate", "FILE", "--no-store"], ["check", "FILE"]])

    def test_full_strategies(self):
        text = self.run_troupe("convert", "hspmd-case5").stdout
        self.mutate("full.json", json.loads(text), [
            ["simulate", "FILE", "--no-store"], ["check", "FILE"]])

    def test_clusters(self):
        self.mutate("cluster.json", {
            "format": "troupe.cluster/1", "name": "c",
            "nodes": [{"kind": "h20", "count": 8, "nodes": 2,
                       "nic": {"gbit_per_s": 400, "per": "gpu"}},
                      {"kind": "h800-sxm", "count": 8, "nodes": 2,
                       "nic": {"gbit_per_s": 400, "per": "gpu"}}]},
            [["clusters", "FILE"],
             ["simulate", "gpt3-175b-1024", "--no-store", "--cluster",
              "FILE", "--set", "dp=1", "--set", "pp=4"]])

    def test_models(self):
        self.mutate("model.json", {
            "format": "troupe.model/1", "name": "m", "layers": 16,
            "hidden": 1024, "heads": 16, "kv_heads": 4, "ffn": 4096,
            "vocab": 32000, "seq_len": 2048, "activation": "swiglu"},
            [["models", "FILE"],
             ["simulate", "gpt3-175b-1024", "--no-store", "--model",
              "FILE", "--set", "dp=1", "--set", "tp=4"]])

    def test_schedules(self):
        path = self.write("strategy.json", {
            **SHORT, "dp": 2, "tp": 2, "pp": 2, "micro_batches": 2})
        self.run_troupe("schedule", path, "-o", "schedule.json")
        document = json.loads((self.home / "schedule.json").read_text())
        self.mutate("schedule.json", document, [["check", "FILE"]])

    def test_traces(self):
        self.mutate("trace.json", {
            "format": "troupe.trace/1", "model": "gpt2-345m",
            "cluster": "4 x h100-sxm per node, 400 Gbit/s per GPU, 2 nodes",
            "until_s": 60, "start": "two", "absent": "6",
            "options": {"peers": 1, "detection_s": 2, "regroup_s": 3,
                        "bucket_bytes": 1 << 28, "choose": "first",
                        "checkpoint": {"every_steps": 20, "latency_s": 0.5,
                                       "write_gbytes_per_s": 10}},
            "strategies": [
                {"name": "two", "strategy": {
                    "dp": 2, "tp": 2, "zero": 1, "global_batch": 16}},
                {"name": "one", "devices": "4-5", "strategy": {
                    "tp": 2, "zero": 1, "micro_batches": 16}}],
            "events": [
                {"at_s": 10, "kind": "slowed", "devices": [0, 1],
                 "links": "node1/nic0", "factor": 2},
                {"at_s": 20, "kind": "lost", "nodes": ["node0"],
                 "name": "fire", "strategy": "one"},
                {"at_s": 40, "kind": "back", "devices": "0-3,6"}]},
            [["elastic", "FILE"]])

    def test_measurements(self):
        self.mutate("lab.csv", CSV, [
            ["ingest", "FILE", "--profiles", "lab.db"]], whole_json=False)

    def test_foreign_spellings(self):
        for spelling, document in (
                ("hspmd", {"layers_num_list": [[16, 16], [32]], "tp": 2,
                           "dp": 2, "cp_list": [1, 1], "num_gpus": 6,
                           "micro_batch_num_list": [4, 4], "model": "7b",
                           "unused_rank": [],
                           "cluster": [{"type": "H20", "count": 6}]}),
                ("hexiscale", {"hetero_configs": [[4, 2], [2]],
                               "layer_partitions": [[20, 12], [32]],
                               "batch": [4, 4], "micro_batches": [4, 4]})):
            self.mutate(f"{spelling}.json", document, [
                ["check", "FILE", "--from", spelling]])

    def test_hexiscale_without_micro_batches(self):
        path = self.write("zero.json", {
            "hetero_configs": [[4, 2], [2]], "micro_batches": [0, 4],
            "layer_partitions": [[20, 12], [32]], "batch": [4, 4]})
        self.refused("check", path, "--from", "hexiscale",
                     names="micro_batches")


if __name__ == "__main__":
    unittest.main()
