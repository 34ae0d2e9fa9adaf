"""troupe schedule, check and convert."""
import json
import subprocess
import unittest

from support import SHORT, CliTest


class Schedule(CliTest):
    def lowered(self, name="hotspa-7b-8gpu", *arguments):
        path = self.home / "s.json"
        self.run_troupe("schedule", name, "-o", path, *arguments)
        return path

    def test_file_has_the_hash_that_simulate_tells(self):
        path = self.lowered("hspmd-case5")
        told = self.json_of("check", path)
        self.assertTrue(told["ok"])
        run = self.simulate("hspmd-case5")
        self.assertEqual(told["schedule"], run["schedule"])
        self.assertEqual(told["gpus"], run["gpus"])
        self.assertEqual(json.loads(path.read_text())["format"],
                         "troupe.schedule/2")

    def test_standard_output_is_the_same_file(self):
        path = self.lowered()
        printed = self.run_troupe("schedule", "hotspa-7b-8gpu").stdout
        self.assertEqual(json.loads(printed), json.loads(path.read_text()))

    def test_phase_is_chosen(self):
        hashes = set()
        for phase in ("long", "middle", "short"):
            path = self.lowered("hotspa-7b-8gpu", "--phase", phase)
            told = self.json_of("check", path)
            self.assertEqual(told["phase"], phase)
            hashes.add(told["schedule"])
        self.assertEqual(len(hashes), 3)

    def test_unknown_phase_is_refused(self):
        self.refused("schedule", "hotspa-7b-8gpu", "--phase", "none such",
                     "-o", self.home / "x.json", names="none such")

    def test_tampering_is_seen(self):
        """Each edit alone; sound JSON, so only its meaning is wrong."""
        path = self.lowered()
        text = path.read_text()
        schedule = json.loads(text)
        edits = {
            "a task gone": lambda s: s["tasks"].pop(),
            "a rank gone": lambda s: s["ranks"].pop(),
            "a block gone": lambda s: s["blocks"].pop(),
            "other format": lambda s: s.update(format="troupe.schedule/9"),
            "other flops": lambda s: s["blocks"][1].update(flops=1.0),
            "a list as text": lambda s: s.update(tasks="none"),
        }
        for name, edit in edits.items():
            with self.subTest(name):
                changed = json.loads(json.dumps(schedule))
                edit(changed)
                bad = self.write("bad.json", changed)
                done = self.run_troupe("check", bad, code=1)
                self.assertTrue(done.stderr or "error" in done.stdout)
        for cut in (1, len(text) // 3, len(text) - 3):
            self.refused("check", self.write("cut.json", text[:cut]))

    def test_unknown_keys_are_named(self):
        """The hash covers what is read; more than that is refused."""
        schedule = json.loads(self.lowered().read_text())
        edits = {
            "/phse": ("'phase'", lambda s: s.update(phse="x")),
            "/stages/0/ordr": ("'order'",
                               lambda s: s["stages"][0].update(ordr=[])),
            "/blocks/1/operators/0/strem": (
                "'stream'", lambda s: s["blocks"][1]["operators"][0].update(
                    strem=1)),
            "/blocks/0/key/tpp": (
                "'tp'", lambda s: s["blocks"][0]["key"].update(tpp=1)),
            "/tasks/3": ("shorter row", lambda s: s["tasks"][3].append(7)),
        }
        for where, (hint, edit) in edits.items():
            with self.subTest(where):
                changed = json.loads(json.dumps(schedule))
                edit(changed)
                self.refused("check", self.write("bad.json", changed),
                             names=["bad.json", where, hint])

    def test_schedule_is_no_strategy(self):
        path = self.lowered()
        for command in ("simulate", "convert", "schedule"):
            self.refused(command, path, names=["/format", "troupe.schedule"])


class Check(CliTest):
    def test_every_shipped_strategy_is_sound(self):
        for strategy in self.json_of("strategies")["strategies"]:
            with self.subTest(strategy["name"]):
                told = self.json_of("check", strategy["name"])
                self.assertTrue(told["ok"])
                for phase in told.get("phases", [told]):
                    self.assertGreater(phase["tasks"], 0)
                    self.assertFalse([f for f in phase["findings"]
                                      if f["severity"] == "error"])

    def test_a_warning_is_said_once(self):
        phases = [{"name": f"p{i}", "pipelines": [{
            "micro_batches": 8, "stages": [{"devices": "0-7"}]}],
            "rule": {"steps": [10 * i, 10 * i + 10]}} for i in range(3)]
        full = {k: v for k, v in SHORT.items()
                if k not in ("dp", "tp", "pp", "micro_batches")}
        path = self.write("phases.json", {**full, "phases": phases})
        lines = [line for line in
                 self.run_troupe("check", path).stdout.splitlines()
                 if "warning" in line]
        self.assertTrue(lines, "24 of the 32 devices are idle")
        self.assertEqual(len(lines), len(set(lines)))
        told = self.json_of("check", path)
        self.assertEqual(len(told["phases"]), 3)
        findings = told["findings"] + [f for p in told["phases"]
                                       for f in p["findings"]]
        texts = [json.dumps(f) for f in findings]
        self.assertEqual(len(texts), len(set(texts)))

    def test_a_file_is_read_once_so_it_may_be_a_pipe(self):
        path = self.home / "s.json"
        self.run_troupe("schedule", "hspmd-case5", "-o", path)
        for source in (path, self.write("short.json", SHORT)):
            with subprocess.Popen(["cat", source],
                                  stdout=subprocess.PIPE) as cat:
                told = self.json_of("check",
                                    f"/dev/fd/{cat.stdout.fileno()}",
                                    pass_fds=[cat.stdout.fileno()])
            self.assertEqual(told["schedule"],
                             self.json_of("check", source)["schedule"])

    def test_one_is_singular(self):
        path = self.write("one.json", {**SHORT, "dp": 1, "pp": 1,
                                       "micro_batches": 1,
                                       "cluster": "1 x h20 per node, 1 node"})
        for command in ("check", "simulate", "clusters"):
            argument = (path if command != "clusters"
                        else "1 x h20 per node, 1 node")
            done = self.run_troupe(command, argument)
            self.assertNotRegex(done.stdout + done.stderr,
                                r"(?<![\d.,])1 (?!x\b|[mun]s\b)"
                                r"[A-Za-z-]*[A-Za-z]s\b(?! per)")
        path = self.write("idle.json", {**SHORT, "pp": 2, "dp": 1,
                                        "micro_batches": 1})
        self.assertIn("1 micro-batch for 2 stages",
                      self.run_troupe("check", path).stdout)

    def test_text_ends_with_ok(self):
        text = self.run_troupe("check", "hspmd-case13").stdout
        self.assertTrue(text.strip().endswith("ok"))

    def test_wrong_strategies_are_refused_with_path_value_and_way_out(self):
        for change, names in (
                ({"tp": 3, "dp": 1}, ["/tp", "3", "16 heads"]),
                ({"dp": 64}, ["/dp", "64", "32 devices"]),
                ({"pp": 8, "dp": 1, "layers_per_stage": [1] * 8},
                 ["/layers_per_stage", "24"]),
                ({"devices": [0, 0]}, ["/devices"]),
                ({"model": "gpt2-345"}, ["gpt2-345", "gpt2-345m"]),
                ({"cluster": "a800-33"}, ["a800-33", "a800-32"])):
            with self.subTest(change):
                path = self.write("wrong.json", {**SHORT, **change})
                self.refused("check", path, names=[*names])

    def test_all_problems_are_told_together(self):
        path = self.write("many.json", {**SHORT, "dp": 0, "tp": "8",
                                        "seq_len": -1, "colour": 1})
        self.refused("check", path, names=["/dp", "/tp", "/seq_len",
                                           "/colour"])


class Convert(CliTest):
    def test_native_there_and_back_simulates_the_same(self):
        for strategy in self.json_of("strategies")["strategies"]:
            name = strategy["name"]
            with self.subTest(name):
                self.run_troupe("convert", name, "-o", "native.json")
                here, there = self.simulate(name), self.simulate(
                    "native.json")
                for a, b in zip(here.get("phases", [here]),
                                there.get("phases", [there]), strict=True):
                    self.assertEqual(a["step_time_s"], b["step_time_s"])
                    self.assertEqual(a["breakdown_s"], b["breakdown_s"])
                again = self.run_troupe("convert", "native.json").stdout
                first = json.loads((self.home / "native.json").read_text())
                self.assertEqual({**json.loads(again), "name": name,
                                  "source": ""},
                                 {**first, "name": name, "source": ""})

    def test_foreign_becomes_native(self):
        path = self.seeds("hspmd/hetero_cluster_cases.json")
        for case in (0, 5, 8, 14):
            self.run_troupe("convert", path, "--from", "hspmd", "--case",
                            case, "-o", "native.json")
            here = self.simulate(path, "--from", "hspmd", "--case", case)
            there = self.simulate("native.json")
            self.assertEqual(here["step_time_s"], there["step_time_s"])

    def test_megatron_arguments(self):
        words = self.run_troupe("convert", "gpt3-175b-1024", "--to",
                                "megatron").stdout.split()
        said = {w: words[i + 1] for i, w in enumerate(words[:-1])
                if w.startswith("--") and not words[i + 1].startswith("--")}
        # 16 pipelines x 32 micro-batches of 1 = 512 sequences a step.
        for key, value in (("--tensor-model-parallel-size", "8"),
                           ("--pipeline-model-parallel-size", "8"),
                           ("--micro-batch-size", "1"),
                           ("--global-batch-size", "512"),
                           ("--num-layers", "96")):
            self.assertEqual(said[key], value)

    def test_what_megatron_cannot_say_is_refused_with_reasons(self):
        self.refused("convert", "hspmd-case5", "--to", "megatron",
                     names=["Megatron", "pipeline"])


if __name__ == "__main__":
    unittest.main()
