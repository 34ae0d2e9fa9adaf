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

    def test_refusals(self):
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
