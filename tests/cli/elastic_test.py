"""troupe elastic: shipped traces, other spellings, losses, bad traces."""
import json
import re
import unittest

from support import ROOT, CliTest

CLUSTER = "4 x h100-sxm per node, 400 Gbit/s per GPU, 2 nodes"
ACCOUNTS = ("useful", "undone", "cut", "redundancy", "saving", "detecting",
            "restarting", "loading", "moving", "stopped")
SHIPPED = sorted(p.stem for p in (ROOT / "examples/elastic").glob("*.json"))


def trace(events, **more):
    """gpt2-345m on two pipelines of a node each; on the first alone."""
    return {"format": "troupe.trace/1", "model": "gpt2-345m",
            "cluster": CLUSTER, "until_s": 100, "events": events,
            "strategies": [
                {"name": "two", "strategy": {
                    "dp": 2, "tp": 4, "zero": 1, "global_batch": 16}},
                {"name": "one", "strategy": {
                    "dp": 1, "tp": 4, "zero": 1, "global_batch": 16}}],
            "start": "two", **more}


LOSS = {"at_s": 40, "kind": "lost", "devices": "7"}
CHECKPOINT = {"checkpoint": {"every_steps": 20, "write_gbytes_per_s": 10}}


class Elastic(CliTest):
    def elastic(self, content, *arguments):
        return self.json_of("elastic", self.write("trace.json", content),
                            *arguments)

    def check_outcome(self, out, until):
        wall = out["wall"]
        self.assertEqual(wall["total_ps"], round(until * 1e12))
        self.assertAlmostEqual(sum(wall[a + "_s"] for a in ACCOUNTS), until,
                               places=6)
        self.assertEqual(
            out["steps"],
            sum(s["steps"] - s["voided_steps"] for s in out["segments"]))
        self.assertEqual(
            out["tokens"],
            sum((s["steps"] - s["voided_steps"]) * s["tokens_per_step"]
                for s in out["segments"]))
        self.assertAlmostEqual(out["tokens_per_s"], out["tokens"] / until)
        for change in out["changes"]:
            for state in change["states"]:
                self.assertEqual(
                    state["held_by_gone_bytes"],
                    sum(state[k] for k in ("from_replica_bytes",
                                           "from_peer_bytes",
                                           "from_master_bytes",
                                           "lost_bytes")))
            if change["to"]:
                self.assertGreater(change["verified_tensors"], 0)

    def test_shipped_traces_run_and_add_up(self):
        self.assertGreaterEqual(len(SHIPPED), 2)
        for name in SHIPPED:
            out = self.json_of("elastic", name)
            self.check_outcome(out, out["until_s"])
            for baseline in out["baselines"]:
                self.check_outcome(baseline, out["until_s"])
            self.assertEqual([b["policy"] for b in out["baselines"]],
                             ["restart", "stop", "drop"])
            self.assertEqual(out, self.json_of("elastic", name))
            # Ours is tried beside the six published rules, never worse.
            for rule, took in out["senders_s"].items():
                self.assertLessEqual(out["senders_s"]["balanced"], took, rule)
            self.assertEqual(len(out["senders_s"]), 7)

    def test_segments_are_the_simulated_steps(self):
        out = self.json_of("elastic", "hspmd-c1-c3")
        single = self.simulate("hspmd-case13")
        self.assertEqual(out["segments"][1]["strategy"], "C2")
        self.assertEqual(out["segments"][1]["step_time_s"],
                         single["step_time_s"])
        self.assertEqual(out["segments"][1]["mfu"], single["mfu"])

    def test_shipped_traces_are_the_published_strategies(self):
        """The packed lists as published, numbered by the trace, give the
        same runs as the native ones that ship."""
        configs = self.seeds("hspmd/elastic_traces_inferred.json")
        h20 = "hspmd-h20x"
        numbered = {
            "hspmd-c1-c3": [(0, h20 + "32", None), (1, h20 + "31", "0-30"),
                            (2, h20 + "24", "0-23")],
            "hspmd-c4-c7": [(3, h20 + "32-h800x16", None),
                            (4, h20 + "24-h800x16", "0-23,32-47"),
                            (5, h20 + "24-h800x15", "0-23,32-46"),
                            (6, h20 + "24-h800x8", "0-23,32-39")]}
        for name, cases in numbered.items():
            text = json.loads(
                (ROOT / f"examples/elastic/{name}.json").read_text())
            for i, (case, cluster, devices) in enumerate(cases):
                entry = {"name": text["strategies"][i]["name"],
                         "strategy": str(configs), "from": "hspmd",
                         "case": case, "cluster": cluster}
                if devices:
                    entry["devices"] = devices
                text["strategies"][i] = entry
            ours = self.json_of("elastic", name)
            theirs = self.elastic(text)
            for out in (ours, theirs):
                del out["name"]
                for o in [out] + out["baselines"]:
                    # Names of generated strategies do not matter.
                    for s in o["segments"]:
                        del s["strategy"]
            self.assertEqual(ours["segments"], theirs["segments"])
            self.assertEqual(ours["tokens"], theirs["tokens"])
            self.assertEqual(ours["wall"], theirs["wall"])
            self.assertEqual(ours["senders_s"], theirs["senders_s"])

    def test_without_a_checkpoint_the_loss_is_named(self):
        out = self.elastic(trace([LOSS]))
        self.check_outcome(out, 100)
        self.assertIn("held only by device 7", out["stopped"])
        self.assertIn("no checkpoint", out["stopped"])
        lost = out["changes"][0]["lost"]
        self.assertEqual(lost[0]["owners"], [7])
        self.assertIn(lost[0]["parameter"].split(".")[0],
                      ("embedding", "layers", "head"))
        self.assertEqual({x["state"] for x in lost} - {
            "master copy", "first moment", "second moment"}, set())
        done = self.run_troupe("elastic", self.home / "trace.json")
        self.assertIn("the run stopped: ", done.stderr)

    def test_a_checkpoint_costs_the_steps_since(self):
        out = self.elastic(trace([LOSS], options=CHECKPOINT))
        change = out["changes"][0]
        self.assertTrue(change["from_checkpoint"])
        self.assertEqual((out["steps"] + out["voided_steps"]),
                         sum(s["steps"] for s in out["segments"]))
        # A save that the loss breaks off leaves the one before it.
        kept = out["segments"][0]["steps"] - change["voided_steps"]
        self.assertEqual(kept % 20, 0)
        self.assertLessEqual(change["voided_steps"], 20)
        # Master copies and two moments, 12 bytes a parameter.
        states = {s["state"]: s["bytes"] for s in change["states"]}
        self.assertEqual(change["read_bytes"], 3 * states["master copy"])

    def test_peers_cost_memory_and_time_and_save_the_steps(self):
        out = self.elastic(trace([LOSS], options={"peers": 1}))
        self.assertEqual(out["stopped"], "")
        self.assertEqual(out["voided_steps"], 0)
        self.assertGreater(out["peer_copies_bytes"], 0)
        self.assertGreater(out["wall"]["redundancy_s"], 0)
        master = out["changes"][0]["states"][1]
        self.assertGreater(master["from_peer_bytes"], 0)
        self.assertEqual(master["lost_bytes"], 0)

    def test_without_zero_replicas_are_enough(self):
        out = self.elastic(trace([LOSS]), "--set",
                           "strategies.0.strategy.zero=0", "--set",
                           "strategies.1.strategy.zero=0")
        self.assertEqual(out["stopped"], "")
        self.assertEqual(out["changes"][0]["lost_boxes"], 0)
        self.assertGreater(out["changes"][0]["gradient_bytes_lost"], 0)

    def test_slow_devices_slow_the_steps(self):
        out = self.elastic(trace([{"at_s": 50, "kind": "slowed",
                                   "devices": "0", "factor": 3,
                                   "strategy": "two"}]))
        first, second = out["segments"]
        ratio = second["step_time_s"] / first["step_time_s"]
        self.assertGreater(ratio, 2)
        self.assertLess(ratio, 3.01)
        # The rule would rather do without the other node than wait? Both
        # strategies have the slow device, so the larger one stays.
        out = self.elastic(trace([{"at_s": 50, "kind": "slowed",
                                   "devices": "0", "factor": 3}]))
        self.assertEqual(out["changes"], [])

    def test_slow_links_slow_the_steps(self):
        out = self.elastic(trace([{"at_s": 50, "kind": "slowed",
                                   "links": ["node0/nic0", "node0/nic1"],
                                   "factor": 20, "strategy": "two"}]))
        first, second = out["segments"]
        self.assertGreater(second["step_time_s"], first["step_time_s"])

    def test_the_documented_example_runs(self):
        text = (ROOT / "runs/FORMAT.md").read_text()
        example = json.loads(re.search(r"```json\n(.*?)```", text,
                                       re.DOTALL).group(1))
        out = self.elastic(example)
        self.check_outcome(out, example["until_s"])
        self.assertEqual([s["strategy"] for s in out["segments"]],
                         ["both", "one", "both"])

    def test_every_key_of_the_answer_is_documented(self):
        text = (ROOT / "runs/FORMAT.md").read_text()
        answer = text[text.index("# The answer"):]
        known = set(re.findall(r"`([a-z_]+)`", answer))
        known |= {a + "_s" for a in ACCOUNTS if f"`{a}`" in answer}
        out = self.json_of("elastic", "hspmd-c1-c3")
        # Their keys are options of the trace, or names of rules and links.
        free = {"options", "senders_s", "rules", "bytes"}

        def visit(value, inside):
            if isinstance(value, list):
                for one in value:
                    visit(one, inside)
            elif isinstance(value, dict):
                for key, one in value.items():
                    if inside not in free:
                        self.assertIn(key, known | {"format"}, inside)
                    if key != "options":
                        visit(one, key)
        visit(out, "")

    def test_baselines_may_be_left_out(self):
        path = self.write("trace.json", trace([LOSS], options=CHECKPOINT))
        with_them = self.json_of("elastic", path)
        alone = self.json_of("elastic", path, "--no-baselines")
        self.assertEqual(alone["baselines"], [])
        self.assertEqual({**with_them, "baselines": []}, alone)

    def test_output_files(self):
        path = self.write("trace.json", trace([LOSS]))
        said = self.run_troupe("elastic", path, "-o", "out.json", "--trace",
                               "t.json", "--json").stdout
        self.assertEqual(json.loads(said),
                         json.loads((self.home / "out.json").read_text()))
        events = json.loads((self.home / "t.json").read_text())["traceEvents"]
        names = {e["name"] for e in events if e["ph"] == "X"}
        self.assertIn("two", names)
        self.assertIn("detecting", names)
        self.refused("elastic", path, "-o", "nowhere/out.json",
                     names="nowhere")


class BadTraces(CliTest):
    def refused_trace(self, content, *names, arguments=()):
        return self.refused("elastic", self.write("bad.json", content),
                            *arguments, names=names)

    def test_names_the_place(self):
        for events, names in (
                ([{**LOSS, "devices": "8"}], ("/events/0", "device 8")),
                ([LOSS, {**LOSS, "at_s": 50}], ("/events/1", "device 7")),
                ([LOSS, {**LOSS, "devices": "6"}], ("/events/1/at_s", "later")),
                ([{**LOSS, "strategy": "two"}], ("'two'", "device 7")),
                ([{**LOSS, "strategy": "too"}], ("did you mean 'two'",)),
                ([{**LOSS, "at_s": 1e6}], ("until_s",)),
                ([{**LOSS, "kind": "exploded"}], ("kind",)),
                ([{**LOSS, "color": "red"}], ("color",)),
                ([7], ("/events/0",))):
            self.refused_trace(trace(events), "bad.json", *names)

    def test_reports_several_problems_together(self):
        said = self.refused_trace(
            trace([{**LOSS, "at_s": -1}, {**LOSS, "devices": "99"}],
                  options={"peers": -1}), "at_s", "device 99", "peers")
        self.assertGreaterEqual(len(said.strip().splitlines()), 3)

    def test_numbers_that_are_none(self):
        for key in ("detection_s", "regroup_s", "restart_s", "peers",
                    "bucket_bytes"):
            for value in ("NaN", "-1", "1e400", "1e300", '"8"', "null"):
                text = json.dumps(trace([LOSS], options={key: 0}))
                self.refused_trace(text.replace(f'"{key}": 0',
                                                f'"{key}": {value}'), "bad.json")
        for key in ("until_s",):
            for value in ("NaN", "0", "-1", "1e12", '"8"', "null"):
                text = json.dumps(trace([LOSS])).replace(
                    '"until_s": 100', f'"until_s": {value}')
                self.refused_trace(text, "bad.json")

    def test_no_trace_is_refused(self):
        self.refused("elastic", "hspmd-c1-c4", names="did you mean")
        self.refused("elastic", names="trace")
        self.refused("elastic", "gpt3-175b-1024", names="gpt3-175b-1024")
        self.refused_trace(json.dumps(trace([LOSS]))[:-9], "bad.json")
        for content in ("", "null", "[]", "7", "{}"):
            self.refused_trace(content, "bad.json")
        path = ROOT / "examples/gpt3-175b-1024.json"
        self.refused("elastic", path, names="troupe.trace/1")

    def test_files_that_hold_other_strategies(self):
        self.refused_trace(trace([], strategies=[{"strategy": "mixed-1024gpu"}]),
                           "model")
        self.refused_trace(trace([], strategies=[]), "at least one")
        self.refused_trace(trace([], strategies=[{"strategy": "no.json"}]),
                           "no.json")

    def test_nothing_fits_at_the_start(self):
        path = self.write("big.json", {
            **trace([]), "model": "gpt3-175b", "start": ""})
        self.run_troupe("elastic", path, code=2)


if __name__ == "__main__":
    unittest.main()
