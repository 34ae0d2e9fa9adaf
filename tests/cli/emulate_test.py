"""Training with real numbers: proof, clock, switching, refusals."""
import json
import unittest

from support import CliTest, SEEDS

PHASES = {
    "format": "troupe.strategy/1", "model": "hotspa-7b", "cluster": "a800-8",
    "phases": [
        {"name": "long", "rule": {"seq_len": [4096, 8192]}, "seq_len": 8192,
         "dp": 1, "tp": 4, "pp": 2, "micro_batches": 2},
        {"name": "short", "rule": {"seq_len": [0, 4096]}, "seq_len": 4096,
         "dp": 4, "tp": 2, "pp": 1, "micro_batches": 1}]}


class Emulate(CliTest):
    def emulate(self, *arguments):
        return self.json_of("emulate", *arguments, "--shrink")

    def check_proof(self, answer):
        self.assertTrue(answer["verify"]["ok"])
        worst = answer["verify"]["max_relative_error"]
        for part in ("gradients", "parameters", "loss"):
            self.assertLess(worst[part], 1e-10)
        self.assertTrue(all(l > 0 for l in answer["loss"]))

    def test_unequal_pipelines_and_the_clock(self):
        answer = self.emulate("hspmd-case13", "--verify", "--clock",
                              "virtual", "--steps", "2")
        self.check_proof(answer)
        self.assertEqual(answer["ranks"], 31)
        self.assertEqual(len(answer["loss"]), 2)
        self.assertTrue(answer["clock_agrees"])
        self.assertEqual(answer["virtual_step_time_s"],
                         answer["uncontended_step_time_s"])

    def test_weights_in_shards(self):
        held = []
        for zero in ("0", "3"):
            answer = self.emulate("fasop-a100-a10", "--set", "zero=" + zero,
                                  "--verify", "--clock", "virtual",
                                  "--steps", "2")
            self.check_proof(answer)
            self.assertTrue(answer["clock_agrees"])
            held.append(answer["memory_between_steps_bytes"])
        self.assertLess(held[1], held[0] / 2)

    def test_small_models_share_key_heads_as_large_ones_do(self):
        # Key heads of its own for each rank, and several ranks to one; a
        # window beside.
        for model, tp in (("llama3-8b", 4), ("llama3-8b", 16),
                          ("mistral-7b", 4)):
            strategy = self.write("s.json", {
                "format": "troupe.strategy/1", "model": model,
                "cluster": "a800-16", "seq_len": 8192, "dp": 1, "tp": tp,
                "pp": 1, "micro_batches": 2})
            answer = self.emulate(strategy, "--verify", "--clock", "virtual",
                                  "--steps", "1")
            self.check_proof(answer)
            self.assertTrue(answer["clock_agrees"])

    def test_an_emulated_step_is_a_run(self):
        answer = self.emulate("fasop-a100-a10", "--clock", "virtual",
                              "--steps", "1")
        listed = self.run_troupe("results", "list").stdout
        self.assertIn(answer["run"], listed)
        self.assertIn("emulated", listed)
        trace = self.home / "t.json"
        self.emulate("fasop-a100-a10", "--clock", "virtual", "--steps", "1",
                     "--trace", trace)
        events = json.loads(trace.read_text())["traceEvents"]
        names = {e["name"] for e in events if e["ph"] == "X"}
        self.assertIn("qkv.weight_gradient", names)

    def test_phases_of_a_step_and_strategies_that_follow(self):
        path = self.write("s.json", json.dumps(PHASES))
        one = dict(PHASES, zero=1, phases=PHASES["phases"][1:])
        other = self.write("t.json", json.dumps(one))
        self.check_proof(self.emulate(path, "--verify", "--steps", "1"))
        answer = self.emulate(path, "--then", other, "--verify", "--steps",
                              "2")
        self.check_proof(answer)
        self.assertEqual(len(answer["loss"]), 4)

    def compared(self, simulate, emulate):
        """Events of two kept runs of the same step."""
        self.run_troupe("simulate", *simulate, "--detail", "operators",
                        "--uncontended")
        runs = self.json_of("results", "list")["runs"]
        answer = self.emulate(*emulate, "--clock", "virtual", "--steps", "1")
        self.assertTrue(answer["clock_agrees"])
        out = self.json_of("compare", runs[0]["id"], answer["run"])
        self.assertEqual(out["step_time_s"]["difference"], 0)
        return out["timelines"], runs[0]["id"], answer["run"]

    def test_whole_steps_are_compared_operator_by_operator(self):
        path = self.write("s.json", json.dumps(PHASES))
        deviant = (path, "--noise", "5%", "--noise-seed", "7", "--slow",
                   "3:1.4")
        kept = []
        for options in ((path,), deviant):
            timelines, *ids = self.compared(options, options)
            kept.append(ids)
            events = timelines["events"]
            self.assertGreater(events["both"], 6000)
            self.assertEqual(events, {"both": events["both"],
                                      "equal": events["both"],
                                      "only_a": 0, "only_b": 0})
            self.assertIsNone(timelines["first"])
        # With noise on one side the deviations are shown.
        two = (kept[0][0], kept[1][1])
        timelines = self.json_of("compare", *two)["timelines"]
        self.assertLess(timelines["events"]["equal"],
                        timelines["events"]["both"])
        row = next(r for r in timelines["operators"]
                   if r["name"] == "activation")
        self.assertLess(abs(row["ratio"] - 1), 0.5)
        self.assertGreater(row["unequal"], 0)
        said = self.run_troupe("compare", *two).stdout
        self.assertIn("first difference: ", said)
        trace = self.home / "t.json"
        self.emulate(*deviant, "--clock", "virtual", "--steps", "1", "--trace",
                     trace)
        slices = [e for e in json.loads(trace.read_text())["traceEvents"]
                  if e["ph"] == "X"]
        names = {e["name"] for e in slices}
        self.assertTrue({"backward long", "forward short", "qkv",
                         "switch before part 0"} <= names)

    def test_a_change_of_strategy_takes_time(self):
        path = self.write("s.json", json.dumps(PHASES))
        other = self.write("t.json", json.dumps(
            dict(PHASES, zero=1, phases=PHASES["phases"][1:])))
        answer = self.emulate(path, "--then", other, path, "--clock",
                              "virtual", "--steps", "1")
        self.assertTrue(answer["clock_agrees"])
        self.assertEqual(len(answer["virtual_steps_s"]), 3)
        self.assertEqual(answer["virtual_steps_s"][0],
                         answer["virtual_steps_s"][2])
        self.assertEqual(len(answer["transitions"]), 2)
        for one in answer["transitions"]:
            self.assertEqual(one["virtual_s"], one["uncontended_s"])
            self.assertGreater(one["virtual_s"], 0)
            self.assertGreater(one["bytes"], 0)

    def test_alternatives_are_bridged(self):
        phases = [dict(p) for p in PHASES["phases"]]
        for phase in phases:
            del phase["rule"]
        path = self.write("a.json", json.dumps(
            dict(PHASES, zero=1, phases=phases)))
        answer = self.emulate(path, "--verify", "--clock", "virtual",
                              "--steps", "2")
        self.check_proof(answer)
        self.assertTrue(answer["clock_agrees"])
        simulated = self.json_of("simulate", path)["bridges"]
        for one, time in zip(simulated, answer["virtual_steps_s"]):
            self.assertEqual(one["uncontended_s"], time)

    def test_ranks_really_sleep(self):
        path = self.write("s.json", json.dumps(PHASES))
        answer = self.emulate(path, "--clock", "virtual", "--steps", "1",
                              "--sleep", "3")
        expected = answer["slept_expected_s"]
        self.assertAlmostEqual(expected, 3 * answer["virtual_step_time_s"])
        # Never shorter; the arithmetic comes on top where it is longer.
        self.assertGreaterEqual(answer["slept_s"], expected)
        self.assertLess(answer["slept_s"], expected + 30)
        self.assertTrue(answer["clock_agrees"])

    def test_bad_deviations(self):
        path = self.write("s.json", json.dumps(PHASES))
        for noise in ("100%", "-1%", "nan", "x", "5%%", "1.0"):
            self.refused("simulate", path, "--noise=" + noise, names="--noise")
        for slow in ("3", ":2", "3:0", "3:nan", "8:1.5", "0-3,2:2", "3:1e9"):
            self.refused("simulate", path, "--slow", slow, names="--slow")
        self.refused("simulate", path, "--slow", "3:2", "--slow", "2-4:3",
                     names="named twice")
        self.refused("emulate", path, "--shrink", "--noise", "5%",
                     names="--clock virtual")

    def test_lost_devices(self):
        def strategy(name, zero, pipelines):
            return self.write(name, json.dumps({
                "format": "troupe.strategy/1", "model": "hotspa-7b",
                "cluster": "a800-8", "zero": zero, "seq_len": 2048,
                "micro_batches": 2, "pipelines": pipelines}))
        two = [{"stages": [{"devices": "0-1"}, {"devices": "2-3"}]},
               {"stages": [{"devices": "4-7"}]}]
        whole = strategy("whole.json", 0, two)
        sharded = strategy("sharded.json", 1, two)
        rest = strategy("rest.json", 1, [
            {"stages": [{"devices": "0-1"}, {"devices": "2-3"}]},
            {"stages": [{"devices": "4-5"}]}])
        self.check_proof(self.emulate(whole, "--then", rest, "--lose", "6-7",
                                      "--verify", "--steps", "1"))
        said = self.run_troupe("emulate", sharded, "--then", rest, "--lose",
                               "6-7", "--shrink", code=2).stderr
        self.assertIn("held only by device 6", said)
        self.assertIn("--load", said)
        self.refused("emulate", whole, "--then", rest, "--lose", "6-8",
                     "--shrink", names=["--lose 6-8", "devices 0 to 7"])
        self.refused("emulate", whole, "--then", rest, "--lose", "5",
                     "--shrink", names="uses device 5")

    def test_a_checkpoint_goes_on_under_another_strategy(self):
        path = self.write("s.json", json.dumps(PHASES))
        other = self.write("t.json", json.dumps(
            dict(PHASES, zero=3, phases=PHASES["phases"][:1])))
        saved = self.home / "c.safetensors"
        whole = self.emulate(path, "--phase", "short", "--steps", "3")
        first = self.emulate(path, "--phase", "short", "--steps", "1",
                             "--save", saved)
        rest = self.emulate(path, "--phase", "short", "--steps", "2",
                            "--load", saved, "--verify")
        self.check_proof(rest)
        for a, b in zip(whole["loss"], first["loss"] + rest["loss"]):
            self.assertAlmostEqual(a, b, delta=1e-12 * a)
        self.check_proof(self.emulate(other, "--steps", "1", "--load", saved,
                                      "--verify"))
        saved.write_bytes(saved.read_bytes()[:-8])
        self.refused("emulate", path, "--shrink", "--load", saved,
                     names=["c.safetensors", "data_offsets"])
        self.refused("emulate", "hspmd-case13", "--shrink", "--load", path,
                     names="safetensors")

    def test_the_same_seed_gives_the_same_numbers(self):
        first = self.emulate("fasop-a100-a10", "--steps", "1")
        again = self.emulate("fasop-a100-a10", "--steps", "1", "--threads",
                             "1")
        other = self.emulate("fasop-a100-a10", "--steps", "1", "--seed", "9")
        self.assertEqual(first["loss"], again["loss"])
        self.assertNotEqual(first["loss"], other["loss"])

    def test_own_text(self):
        text = self.write("text.txt", "one document\n\nanother, longer one\n")
        first = self.emulate("fasop-a100-a10", "--steps", "1", "--data", text)
        self.assertNotEqual(first["loss"],
                            self.emulate("fasop-a100-a10", "--steps",
                                         "1")["loss"])

    def test_bf16_is_near_one_device_in_bf16(self):
        answer = self.emulate("hspmd-case13", "--precision", "bf16",
                              "--verify", "--steps", "2")
        self.assertTrue(answer["verify"]["ok"])
        self.assertGreater(answer["verify"]["max_relative_error"]["gradients"],
                           1e-6)
        self.assertEqual(len(answer["wall_steps_s"]), 2)
        self.assertGreater(answer["tokens_per_step"], 0)
        self.assertGreater(answer["model_flops_per_step"], 0)

    def test_refusals(self):
        for device in ("cuda", "cuda:x", "cuda:0,", "gpu", "cuda:-1", ""):
            self.refused("emulate", "fasop-a100-a10", "--shrink", "--device",
                         device, names=["--device"])
        self.refused("emulate", "fasop-a100-a10", "--shrink", "--device",
                     "cuda:0", "--precision", "fp64", names=["fp64"])
        for arguments, words in (
                (["fasop-a100-a10"], "--shrink"),
                (["fasop-a100-a10", "--shrink", "--data", "nothing.txt"],
                 "nothing.txt"),
                (["fasop-a100-a10", "--shrink", "--then", "hspmd-case13"],
                 "hspmd"),
                (["fasop-a100-a10", "--shrink", "--trace", "t.json"],
                 "--clock virtual")):
            done = self.run_troupe("emulate", *arguments, code=(1, 2))
            self.assertIn(words, done.stderr)
        empty = self.write("empty.txt", "\n\n")
        self.refused("emulate", "fasop-a100-a10", "--shrink", "--data", empty,
                     names="no text")

    def test_shared_cases(self):
        if not SEEDS.is_dir():
            self.skipTest("no shared cases here")
        cases = SEEDS / "hspmd" / "hetero_cluster_cases.json"
        for case in ("0", "5"):
            self.check_proof(self.emulate(cases, "--from", "hspmd", "--case",
                                          case, "--verify", "--steps", "1"))


if __name__ == "__main__":
    unittest.main()
