"""Steps of several phases: one clock, bridges, limits, HotSPa's experiments."""
import csv
import io
import json
import unittest

from support import CliTest

PHASES = {
    "format": "troupe.strategy/1", "model": "hotspa-7b", "cluster": "a800-8",
    "zero": 1, "gradient_dtype": "bf16",
    "phases": [
        {"name": "long", "rule": {"seq_len": [4096, 8192]}, "seq_len": 8192,
         "dp": 1, "tp": 4, "pp": 2, "micro_batches": 6},
        {"name": "short", "rule": {"seq_len": [0, 4096]}, "seq_len": 4096,
         "dp": 4, "tp": 2, "pp": 1, "micro_batches": 3}]}


class FullStep(CliTest):
    def check(self, step):
        parts = step["phases"] + step["switches"]
        self.assertAlmostEqual(step["apart_s"],
                               sum(p["by_itself_s"] for p in parts), places=9)
        self.assertLessEqual(step["step_time_s"], step["apart_s"])
        for part in parts:
            self.assertLessEqual(part["start_s"], part["end_s"])
            self.assertLessEqual(part["end_s"], step["step_time_s"])
        self.assertGreater(step["mfu"], 0)
        self.assertLess(step["mfu"], 1)

    def test_phases_by_length_are_one_step(self):
        path = self.write("s.json", json.dumps(PHASES))
        run = self.simulate(path)
        step = run["full_step"]
        self.check(step)
        self.assertEqual([p["phase"] for p in step["phases"]],
                         ["short", "long"])
        self.assertEqual([(s["from"], s["to"]) for s in run["switches"]],
                         [("long", "short"), ("short", "long")])
        # The tokens of both phases, 6 x 8192 and 4 x 3 x 4096.
        self.assertEqual(step["tokens"], 6 * 8192 + 12 * 4096)
        again = self.simulate(path)
        self.assertEqual(again["switches"][0]["parameters"]["plan"], "cached")
        self.assertEqual(again["full_step"]["step_time_s"],
                         step["step_time_s"])
        self.assertIn("the whole step on one clock",
                      self.run_troupe("simulate", path, "--no-store").stdout)

    def test_the_whole_step_is_traced(self):
        path = self.write("s.json", json.dumps(PHASES))
        trace = self.home / "t.json"
        step = self.simulate(path, "--trace", trace)["full_step"]
        events = json.loads((self.home / "t.whole-step.json").read_text())
        slices = [e for e in events["traceEvents"] if e["ph"] == "X"]
        self.assertEqual({e["pid"] for e in slices}, set(range(8)))
        self.assertEqual({e["tid"] for e in slices}, {0, 1})
        ends = max(e["ts"] + e["dur"] for e in slices)
        # Parameters are gathered after the last computation.
        self.assertLessEqual(ends, 1e6 * step["step_time_s"] + 1e-3)
        self.assertGreater(ends, 0.9e6 * step["step_time_s"])
        by_track = {}
        for e in slices:
            by_track.setdefault((e["pid"], e["tid"]), []).append(
                (e["ts"], e["ts"] + e["dur"]))
        for times in by_track.values():
            times.sort()
            for before, after in zip(times, times[1:]):
                self.assertLessEqual(before[1], after[0] + 1e-6)

    def test_memory_of_switches_is_limited(self):
        path = self.write("s.json", json.dumps(PHASES))
        free = self.simulate(path)["full_step"]["switch_buffers_bytes"]
        limit = free // 5
        for arguments in (("--switch-memory", str(limit)),
                          ("--set", f"switch_memory={limit}")):
            step = self.simulate(path, *arguments)["full_step"]
            self.check(step)
            self.assertLessEqual(step["switch_buffers_bytes"], limit)
            self.assertEqual(step["switch_memory_bytes"], limit)
        done = self.run_troupe("simulate", path, "--switch-memory", "1KiB",
                               code=2)
        self.assertIn("the smallest possible is", done.stderr)

    def test_phases_by_steps_move_their_states(self):
        changed = json.loads(json.dumps(PHASES))
        for i, phase in enumerate(changed["phases"]):
            phase["rule"] = {"steps": [10 * i, 10 * i + 10]}
        run = self.simulate(self.write("s.json", json.dumps(changed)))
        self.assertNotIn("full_step", run)
        (one,) = run["switches"]
        self.assertEqual((one["from"], one["to"]), ("long", "short"))
        self.assertIn("states", one)
        self.assertNotIn("parameters", one)

    def test_alternatives_have_bridges(self):
        run = self.simulate("hydraulis-case-study")
        self.assertEqual(len(run["bridges"]), 7)
        self.assertEqual(run["states_in"], run["bridges"][0]["phase"])
        for one in run["bridges"]:
            self.check(one)
            there, back = one["switches"]
            self.assertGreater(there["parameters"]["bytes"], 0)
            home = one is run["bridges"][0]
            self.assertEqual(back["gradients"]["bytes"] == 0, home)
            self.assertEqual([p["does"] for p in one["phases"]],
                             ["gradients", "update"])


class Hotspa(CliTest):
    def test_experiments_of_one_model(self):
        out = self.home / "out.csv"
        answer = self.json_of("hotspa", "--model", "7b", "--corpus", "common",
                              "-o", out)
        rows = answer["experiments"]
        self.assertEqual(len(rows), 16)
        for row in rows:
            self.assertTrue(row["fits"])
            fitting = [s["step_time_s"] for s in row["statics"] if s["fits"]]
            self.assertEqual(row["best_static"]["step_time_s"], min(fitting))
            self.assertEqual(sum(b["documents"] for b in row["buckets"]), 512)
        lines = list(csv.DictReader(io.StringIO(out.read_text())))
        self.assertEqual(len(lines), 16)
        for row, line in zip(rows, lines):
            self.assertAlmostEqual(float(line["step_s"]), row["step_time_s"],
                                   places=5)

    def test_senders(self):
        shapes = self.json_of("hotspa", "--senders")["shapes"]
        self.assertEqual(len(shapes), 3)
        for shape in shapes:
            for rule in shape["rules"]:
                self.assertGreaterEqual(rule["mean_ratio"], 1)

    def test_mistakes(self):
        self.refused("hotspa", "--model", "90b", names="no experiment")
        self.refused("hotspa", self.write("x.json", "{}"),
                     names="troupe.hotspa/1")
        self.refused("hotspa", "nowhere.json", names="nowhere.json")


if __name__ == "__main__":
    unittest.main()
