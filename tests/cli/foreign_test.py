"""--from: the five other spellings, on whole published files."""
import json
import unittest

from support import SHORT, CliTest


class Foreign(CliTest):
    def cases(self, path, key):
        return json.loads(path.read_text())[key]

    def sane(self, run, gpus=None):
        for phase in run.get("phases", [run]):
            self.assertGreater(phase["step_time_s"], 0)
            self.assertLess(0, phase["mfu"])
            self.assertLess(phase["mfu"], 1)
            if gpus is not None:
                self.assertEqual(phase["gpus"], gpus)

    def test_every_hspmd_case(self):
        path = self.seeds("hspmd/hetero_cluster_cases.json")
        for index, case in enumerate(self.cases(path, "cases")):
            with self.subTest(case=index):
                run = self.simulate(path, "--from", "hspmd", "--case", index)
                self.sane(run, case.get("derived_used_devices"))
                if "derived_pipelines" not in case:
                    continue
                used = sorted(d for s in run["stages"] for d in s["devices"])
                told = [s["devices"] if isinstance(s, dict) else s[1]
                        for p in case["derived_pipelines"] for s in p]
                self.assertEqual(used, sorted(d for t in told for d in t))

    def test_every_hotspa_configuration(self):
        path = self.seeds("hotspa/paper_configs.json")
        for index, case in enumerate(self.cases(path, "configs")):
            with self.subTest(config=index):
                run = self.simulate(path, "--from", "hotspa", "--case", index)
                self.sane(run, case["num_gpus"])
                self.assertEqual(len(run.get("phases", [run])),
                                 len(case["strategies"]))

    def test_hydraulis_case_study(self):
        path = self.seeds("hydraulis/case_study.json")
        run = self.simulate(path, "--from", "hydraulis")
        wanted = self.cases(path, "strategies")
        self.assertEqual(len(run["phases"]), len(wanted))
        for phase, strategy in zip(run["phases"], wanted):
            self.sane(phase, strategy["num_gpus"])
            self.assertEqual(len({s["pipeline"] for s in phase["stages"]}),
                             strategy["num_pipelines"])

    def test_every_hexiscale_example(self):
        path = self.seeds("hexiscale/strategy_examples.json")
        for index, case in enumerate(self.cases(path, "examples")):
            with self.subTest(example=index):
                arguments = ["--from", "hexiscale", "--case", index]
                layers = {sum(p) for p in case["layer_partitions"]}
                if not layers & {32, 40, 60}:
                    # No Llama has so few layers: a model must be named.
                    self.refused("simulate", path, *arguments,
                                 names="--model")
                    model = self.write("small.json", {
                        "format": "troupe.model/1", "layers": min(layers),
                        "hidden": 4096, "heads": 32, "ffn": 11008,
                        "vocab": 32000, "seq_len": 4096})
                    arguments += ["--model", model]
                run = self.simulate(path, *arguments)
                gpus = sum(t for p in case["hetero_configs"] for t in p)
                self.sane(run, gpus)

    def test_megatron_arguments_there_and_back(self):
        for name in ("gpt3-175b-1024", "llama2-70b-1024"):
            # Megatron-LM's pipelines wait for what they hand over.
            waits = ["--set", "overlap_hand_over=false"]
            text = self.run_troupe("convert", name, "--to", "megatron",
                                   *waits).stdout
            path = self.write("arguments.txt", text)
            here = self.simulate(name, *waits)
            there = self.simulate(path, "--from", "megatron", "--cluster",
                                  here["cluster"], "--model", here["model"])
            self.assertEqual(there["gpus"], here["gpus"])
            self.assertEqual(there["step_time_s"], here["step_time_s"])

    def test_hand_over_goes_to_megatron_and_back(self):
        """Interleaved stages either overlap their hand-overs or wait."""
        path = self.write("inter.json", {
            **SHORT, "pp": 4, "interleave": 2, "schedule": "interleaved"})
        times = []
        for overlap in ("true", "false"):
            set_it = ["--set", f"overlap_hand_over={overlap}"]
            done = self.run_troupe("convert", path, "--to", "megatron",
                                   *set_it)
            self.assertNotIn("overlap_hand_over", done.stderr)
            self.assertEqual("--no-overlap-p2p-communication" in done.stdout,
                             overlap == "false")
            here = self.simulate(path, *set_it)
            there = self.simulate(
                self.write("arguments.txt", done.stdout), "--from",
                "megatron", "--cluster", SHORT["cluster"], "--model",
                SHORT["model"])
            self.assertEqual(there["step_time_s"], here["step_time_s"])
            times.append(here["step_time_s"])
        self.assertLess(times[0], times[1])

    def test_what_megatron_cannot_say_is_noted(self):
        """Its schedule without interleaving always waits."""
        done = self.run_troupe("convert", "gpt3-175b-1024", "--to",
                               "megatron")
        self.assertIn("note: overlap_hand_over", done.stderr)
        self.assertNotIn("p2p", done.stdout)
        there = self.simulate(
            self.write("arguments.txt", done.stdout), "--from", "megatron",
            "--cluster", "h100-1024", "--model", "gpt3-175b")
        waits = self.simulate("gpt3-175b-1024", "--set",
                              "overlap_hand_over=false")
        self.assertEqual(there["step_time_s"], waits["step_time_s"])
        # One stage hands nothing over: there is nothing to say.
        path = self.write("one.json", {**SHORT, "dp": 8, "pp": 1})
        done = self.run_troupe("convert", path, "--to", "megatron")
        self.assertNotIn("overlap_hand_over", done.stderr)

    def test_two_interleaved_stages_that_wait_are_refused(self):
        path = self.write("two.json", {
            **SHORT, "pp": 2, "interleave": 2, "schedule": "interleaved",
            "overlap_hand_over": False})
        self.refused("convert", path, "--to", "megatron",
                     names="two interleaved stages")

    def test_other_seed_files_answer_or_say_why(self):
        for spelling, name, key in (
                ("hspmd", "hspmd/older_revision_strategies.json",
                 "strategies"),
                ("hspmd", "hspmd/elastic_traces_inferred.json", "configs"),
                ("hspmd", "hspmd/invalid_strategies.json", "cases"),
                ("hydraulis", "hspmd/mixed_length_strategies.json",
                 "strategies"),
                ("hotspa", "hotspa/a100_40g_configs.json", "configs"),
                ("hotspa", "hotspa/static_strategies.json", "strategies")):
            path = self.seeds(name)
            for index in range(len(self.cases(path, key))):
                with self.subTest(name, case=index):
                    done = self.run_troupe(
                        "check", path, "--from", spelling, "--case", index,
                        code=(0, 1))
                    if done.returncode == 1:
                        self.assertTrue(done.stderr or "error" in done.stdout)

    def test_case_must_be_there(self):
        path = self.seeds("hspmd/hetero_cluster_cases.json")
        self.refused("simulate", path, "--from", "hspmd", names="--case")
        self.refused("simulate", path, "--from", "hspmd", "--case", 99,
                     names=["99", "--case"])

    def test_unknown_spelling_is_refused_with_the_known_ones(self):
        self.refused("simulate", "mixed-1024gpu", "--from", "deepspeed",
                     names=["deepspeed", "hspmd", "hotspa", "hydraulis",
                            "hexiscale", "megatron"])

    def test_forgotten_from_is_told(self):
        for spelling, name in (
                ("hotspa", "hotspa/paper_configs.json"),
                ("hydraulis", "hydraulis/case_study.json"),
                ("hexiscale", "hexiscale/strategy_examples.json")):
            self.refused("simulate", self.seeds(name),
                         names=f"--from {spelling}")

    def test_forgotten_from_is_told_beside_another_format(self):
        path = self.seeds("hspmd/hetero_cluster_cases.json")
        self.refused("simulate", path, names="--from hspmd")
        hspmd = {"format": "lab/7", "layers_num_list": [[12, 12]]}
        for name, content, spelling in (
                ("one.json", hspmd, "hspmd"),
                ("nested.json", {"format": "x", "configs": [
                    {"strategy": hspmd}]}, "hspmd"),
                ("examples.json", {"format": 3, "examples": [
                    {"hetero_configs": [[1]]}]}, "hexiscale"),
                ("buckets.json", {"format": "x", "bucket_bounds": [1]},
                 "hotspa"),
                ("tuple.json", {"format": "x", "pipeline_tuple": 1},
                 "hydraulis"),
                ("grid.json", {"format": "x",
                               "tensor_model_parallel_size": 8}, "megatron"),
                ("arguments.txt", "--tensor-model-parallel-size 8\n",
                 "megatron")):
            with self.subTest(name):
                self.refused("simulate", self.write(name, content),
                             names=[name, f"--from {spelling}"])
        self.refused("simulate", self.home / "one.json", names="lab/7")

    def test_a_file_of_nobody_gets_no_hint(self):
        done = self.refused("simulate", self.write(
            "odd.json", {"format": "odd/1", "dp": 2}), names="odd/1")
        self.assertNotIn("--from", done)


class InvalidHspmd(CliTest):
    """The published wrong edits of case 5, applied to it."""

    def test_each_edit_is_refused_or_warned_of(self):
        base = json.loads(self.seeds(
            "hspmd/hetero_cluster_cases.json").read_text())["cases"][5]
        edits = json.loads(self.seeds(
            "hspmd/invalid_strategies.json").read_text())["cases"]
        path = self.write("case.json", {"cases": [self.edited(base, {})]})
        sound = self.run_troupe("check", path, "--from", "hspmd")
        for index, edit in enumerate(edits):
            if "ZeRO" in edit["name"]:
                continue  # uneven parts are accepted on purpose
            with self.subTest(index, edit=edit["name"]):
                case = self.edited(base, edit.get("change", {}))
                path = self.write("case.json", {"cases": [case]})
                done = self.run_troupe("check", path, "--from", "hspmd",
                                       code=(0, 1))
                self.assertTrue(
                    done.returncode == 1 or
                    self.warnings(done) - self.warnings(sound),
                    f"accepted in silence: {edit}\n{done.stdout}")

    def warnings(self, done):
        return {line for line in (done.stdout + done.stderr).splitlines()
                if "warning" in line}

    def edited(self, base, change):
        case = json.loads(json.dumps(base))
        for derived in [k for k in case if k.startswith("derived")]:
            del case[derived]
        for field, value in change.items():
            if isinstance(value, dict) and ("set" in value or
                                            "remove" in value):
                for key in value.get("remove", []):
                    case[field].pop(str(key), None)
                case[field].update(value.get("set", {}))
            else:
                case[field] = value
        return case


if __name__ == "__main__":
    unittest.main()
