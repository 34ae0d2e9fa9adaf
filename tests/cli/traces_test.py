"""Traces of cluster events performed with real numbers."""
import json
import random
import unittest

from support import CliTest

CLUSTER = "4 x h100-sxm per node, 400 Gbit/s per GPU, 2 nodes"
LAYERS = 4
MODEL = {"format": "troupe.model/1", "name": "small", "layers": LAYERS,
         "hidden": 64, "heads": 4, "kv_heads": 2, "ffn": 128, "vocab": 500,
         "seq_len": 256}
SAVES = {"checkpoint": {"every_steps": 2, "write_gbytes_per_s": 10}}


def strategy(name, pipelines, zero=1):
    """`pipelines`: lists of (devices, layers)."""
    return {"name": name, "strategy": {
        "zero": zero, "seq_len": 256, "pipelines": [
            {"micro_batches": 1 + i % 2, "stages": [
                {"devices": list(devices), "layers": layers}
                for devices, layers in stages]}
            for i, stages in enumerate(pipelines)]}}


def trace(strategies, events, options=None, **more):
    return {"format": "troupe.trace/1", "model": MODEL, "cluster": CLUSTER,
            "until_s": 1000, "start": strategies[0]["name"],
            "options": options or {}, "strategies": strategies,
            "events": [{"at_s": 10.0 * (i + 1), **event}
                       for i, event in enumerate(events)], **more}


TWO = strategy("two", [[([0, 1], 3), ([2], 1)], [([4, 5], 4)]])
ONE = strategy("one", [[([0, 1], 4)]])
LAST = strategy("last", [[([3], 4)]])
LOSSES = [{"kind": "slowed", "devices": "0", "factor": 2, "strategy": "two"},
          {"kind": "lost", "devices": "5", "strategy": "one"},
          {"kind": "lost", "devices": "1", "strategy": "last"}]


def random_pipelines(pick, devices):
    """Unequal pipelines on the devices, of one or two per stage."""
    free = list(devices)
    pick.shuffle(free)
    pipelines = []
    while free and len(pipelines) < 3:
        layers, stages = LAYERS, []
        while layers > 0 and free:
            group = [free.pop() for _ in range(min(pick.choice((1, 1, 2)),
                                                   len(free)))]
            here = layers if not free else pick.randint(1, layers)
            stages.append((group, here))
            layers -= here
        if layers > 0:
            stages[-1] = (stages[-1][0], stages[-1][1] + layers)
        pipelines.append(stages)
    return pipelines


def halves(pipelines):
    """Who has which half of each layer's matrices."""
    owners = {}
    for stages in pipelines:
        first = 0
        for group, layers in stages:
            for layer in range(first, first + layers):
                for half in (0, 1):
                    owners.setdefault((layer, half), set()).add(
                        group[half * len(group) // 2])
            first += layers
    return owners


class Traces(CliTest):
    def emulate(self, content, *arguments, code=0):
        done = self.run_troupe("emulate", self.write("t.json", content),
                               "--shrink", "--verify", "--json", *arguments,
                               code=code)
        answer = json.loads(done.stdout)
        self.assertTrue(answer["verify"]["ok"])
        worst = answer["verify"]["max_relative_error"]
        self.assertTrue(all(0 < w < 1e-10 for w in worst.values()), worst)
        self.assertEqual(len(answer["loss"]), len(answer["steps"]))
        self.assertEqual(answer["stopped"] == "", code == 0)
        return answer, done.stderr

    def check_shipped(self, name, ranks):
        answer = self.json_of("emulate", name, "--shrink", "--verify",
                              "--steps", "1", timeout=300)
        self.assertTrue(answer["verify"]["ok"])
        self.assertEqual([s["ranks"] for s in answer["stretches"]], ranks)
        for event in answer["events"]:
            self.assertEqual(event["state_from"], "survivors")
            self.assertGreater(event["optimizer_state"]["from_peer"], 0.01)

    def test_a_shipped_trace_of_equal_devices(self):
        self.check_shipped("hspmd-c1-c3", [32, 31, 24])

    def test_a_shipped_trace_of_unequal_devices(self):
        self.check_shipped("hspmd-c4-c7", [48, 40, 39, 32])

    def test_goes_back_to_the_checkpoint(self):
        lost = {"kind": "lost", "devices": "5", "strategy": "one"}
        answer, _ = self.emulate(trace([TWO, ONE], [lost], SAVES), "--steps",
                                 "3")
        self.assertEqual(answer["steps"], [1, 2, 3, 3, 4, 5])
        event = answer["events"][0]
        self.assertEqual(event["state_from"], "checkpoint")
        self.assertEqual(event["voided_steps"], 1)
        self.assertEqual(event["lost_devices"], [5])
        self.assertGreater(event["optimizer_state"]["lost"], 0)
        # When the checkpoint is of the very step only what is lost is read.
        answer, _ = self.emulate(trace([TWO, ONE], [lost], SAVES), "--steps",
                                 "2")
        self.assertEqual(answer["steps"], [1, 2, 3, 4])
        self.assertEqual(answer["events"][0]["state_from"],
                         "survivors and checkpoint")

    def test_several_losses(self):
        content = trace([TWO, ONE, LAST], LOSSES, SAVES)
        # The checkpoint of step 2 is read twice.
        self.assertEqual(self.emulate(content, "--steps", "1")[0]["steps"],
                         [1, 2, 3, 3])
        self.assertEqual(self.emulate(content, "--steps", "3")[0]["steps"],
                         [1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 10, 11])
        content["options"]["checkpoint"]["every_steps"] = 100
        answer, _ = self.emulate(content, "--steps", "2")
        self.assertEqual(answer["steps"], [1, 2, 3, 4, 1, 2, 1, 2])
        self.assertEqual([e["voided_steps"] for e in answer["events"]],
                         [0, 4, 2])

    def test_stops_without_a_checkpoint(self):
        lost = {"kind": "lost", "devices": "5", "strategy": "one"}
        answer, said = self.emulate(trace([TWO, ONE], [lost]), code=2)
        self.assertEqual(answer["steps"], [1, 2])
        self.assertIn("device 5 lost", said)
        self.assertIn("held only by device 5", said)
        self.assertIn("there is no checkpoint", answer["stopped"])

    def test_copies_on_peers(self):
        events = [{"kind": "lost", "nodes": [1], "strategy": "one"},
                  {"kind": "back", "nodes": [1], "strategy": "two"},
                  {"kind": "lost", "nodes": [0], "strategy": "rest"}]
        rest = strategy("rest", [[([4, 6], 2), ([7], 2)]])
        answer, _ = self.emulate(
            trace([TWO, ONE, rest], events, {"peers": 1}))
        self.assertEqual(answer["steps"], list(range(1, 9)))
        first, back, last = answer["events"]
        self.assertGreater(first["optimizer_state"]["from_peer"], 0.2)
        self.assertEqual(back["optimizer_state"]["on_gone_devices"], 0)
        self.assertGreater(last["optimizer_state"]["from_peer"], 0.2)

    def test_nothing_fits_until_devices_are_back(self):
        answer, _ = self.emulate(trace(
            [TWO, ONE], [{"kind": "lost", "devices": "0"},
                         {"kind": "slowed", "devices": "2", "factor": 3},
                         {"kind": "back", "devices": "0"}], SAVES))
        self.assertEqual([s["after"] for s in answer["stretches"]],
                         ["start", "device 0 back"])
        answer, said = self.emulate(trace(
            [TWO, ONE], [{"kind": "lost", "devices": "0"}], SAVES), code=2)
        self.assertIn("no strategy fits the 7 devices", said)

    def test_slow_devices_do_not_change_numbers(self):
        slow = {"kind": "slowed", "devices": "0", "factor": 4}
        healed = {"kind": "slowed", "devices": "0", "factor": 1}
        answer, _ = self.emulate(trace([TWO], [slow, healed]), "--steps", "1")
        self.assertEqual([e["state_from"] for e in answer["events"]],
                         ["unchanged"] * 2)
        plain = self.json_of(
            "emulate", self.write("p.json", trace([TWO], [])), "--shrink",
            "--steps", "3")
        self.assertEqual(answer["loss"], plain["loss"])

    def test_single_precision_and_a_checkpoint_file(self):
        lost = {"kind": "lost", "devices": "5", "strategy": "one"}
        content = trace([TWO, ONE], [lost], SAVES)
        path = self.write("t.json", content)
        answer = self.json_of("emulate", path, "--shrink", "--verify",
                              "--precision", "fp32")
        self.assertTrue(answer["verify"]["ok"])
        saved = self.home / "c.safetensors"
        self.json_of("emulate", path, "--shrink", "--steps", "3", "--save",
                     saved)
        answer, _ = self.emulate(content, "--load", saved)
        self.assertEqual(len(answer["loss"]), 4)

    def test_refusals(self):
        path = self.write("t.json", trace([TWO, ONE], []))
        for arguments in (["--then", path], ["--clock", "virtual"],
                          ["--phase", "x"], ["--from", "hspmd"]):
            self.refused("emulate", path, "--shrink", *arguments,
                         names=[arguments[0], "is a trace"])
        bad = self.write("b.json", trace([TWO, ONE], [
            {"kind": "back", "devices": "0"}]))
        self.refused("emulate", bad, "--shrink", names="b.json")

    def test_random_losses(self):
        """Without ZeRO a half of a layer is lost with all who have it; with
        ZeRO 1 every device in use owns something alone."""
        stops = 0
        for seed in range(12):
            pick = random.Random(seed)
            count = pick.randint(4, 8)
            used = random_pipelines(pick, range(count))
            lost = pick.sample(range(count), pick.randint(1, count - 1))
            after = random_pipelines(
                pick, [d for d in range(count) if d not in lost])
            zero = seed % 3 % 2
            saves = seed % 2 == 1
            gone = any(not owners - set(lost)
                       for owners in halves(used).values())
            if zero == 1:
                gone = any(d in lost for stages in used
                           for group, _ in stages for d in group)
            stops += gone
            with self.subTest(seed=seed):
                answer, said = self.emulate(trace(
                    [strategy("a", used, zero), strategy("b", after, zero)],
                    [{"kind": "lost", "devices": sorted(lost),
                      "strategy": "b"}], SAVES if saves else None),
                    "--steps", "3", code=2 if gone and not saves else 0)
                again = [3] if gone else [4]
                expected = [1, 2, 3] + [again[0] + i for i in range(3)]
                if gone and not saves:
                    self.assertRegex(said, r"held only by devices? \d")
                    expected = [1, 2, 3]
                self.assertEqual(answer["steps"], expected)
        self.assertTrue(3 <= stops <= 10, stops)


if __name__ == "__main__":
    unittest.main()
