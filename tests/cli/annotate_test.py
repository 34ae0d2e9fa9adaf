"""annotate: layouts of parameters, in our words and in HSPMD's."""
import json
import unittest

from support import SHORT, CliTest


class Annotate(CliTest):
    def annotated(self, *arguments):
        return self.json_of("annotate", *arguments)

    def test_every_parameter_has_three_layouts(self):
        path = self.write("s.json", json.dumps(SHORT))
        answer = self.annotated(path)
        parameters = answer["phases"][0]["parameters"]
        names = [p["name"] for p in parameters]
        self.assertEqual(len(names), len(set(names)))
        self.assertIn("layers.23.mlp.down", names)
        for parameter in parameters:
            for use in ("compute", "gradient", "optimizer"):
                groups = parameter[use]["groups"]
                # Four pipelines; a tied table lies on first and last stages.
                self.assertIn(len(groups), (4, 8))

    def test_hspmd_file_is_read_back(self):
        path = self.write("s.json", json.dumps({**SHORT, "tp": 2, "pp": 2}))
        config = self.home / "ds.json"
        self.run_troupe("annotate", path, "-o", config)
        blocks = json.loads(config.read_text())["llama"]["blocks"]
        self.assertEqual(len(blocks), 24)
        entries = self.json_of("annotate", "--read", config)["entries"]
        qkv = entries["llama.blocks.blocks0.attn.qkv"]
        self.assertEqual(qkv["hdim"], -1)
        self.assertEqual([g["split"] for g in qkv["groups"]], [{"1": 2}] * 4)

    def test_mistakes(self):
        self.refused("annotate", names="nothing to annotate")
        bad = self.write("bad.json", json.dumps(
            {"a": {"split": {"0": [2]}, "dup": [1], "type": "variable",
                   "device_group_union": [[0, 1, 2]]}}))
        self.refused("annotate", "--read", bad, names="for 2 devices")


class Profile(CliTest):
    def test_measures_and_goes_on(self):
        arguments = ["profile", "--device", "cpu", "--model", "gpt2-345m",
                     "--tp", "16", "--seq-len", "32", "--budget", "8s",
                     "--accuracy", "0.3"]
        first = self.json_of(*arguments)
        self.assertGreater(first["measured"], 0)
        self.assertGreater(first["ceilings"]["matrix_flops_per_s"], 1e8)
        for op in first["operators"]:
            self.assertGreater(op["time_s"], 0)
        second = self.json_of(*arguments)
        self.assertGreaterEqual(second["remembered"], first["measured"])

    def test_links_of_a_processor_are_its_copies(self):
        arguments = ["profile", "--device", "cpu", "--only", "links",
                     "--budget", "4s", "--profiles", "links.db"]
        first = self.json_of(*arguments)
        self.assertIsNone(first["ceilings"])
        self.assertGreater(len(first["copies"]), 3)
        self.assertEqual({c["route"] for c in first["copies"]}, {"device"})
        self.assertEqual(first["collectives"], [])
        self.assertTrue(any("skipped" in note for note in first["notes"]))
        second = self.json_of(*arguments)
        self.assertEqual(second["links_remembered"], len(first["copies"]))
        rows = self.json_of("profiles", "show", "--profiles", "links.db",
                            "--table", "copies")
        self.assertGreaterEqual(len(rows["sources"][0]["copies"]),
                                len(first["copies"]))

    def test_mistakes(self):
        self.refused("profile", "--device", "cpu", "--only", "wires",
                     names="wires")
        self.refused("profile", "--device", "tpu", names="expected cpu, cuda")
        self.refused("profile", "--device", "cpu", "--budget", "soon",
                     names="--budget soon")
        self.refused("profile", "--device", "cpu", "--tp", "0", names="--tp 0")
        self.refused("profile", "--device", "cpu", "--dtype", "fp8",
                     names="--dtype fp8")
        self.refused("profile", "--device", "cpu", "--model", "gpt9",
                     names="gpt9")


class Switches(CliTest):
    def test_phases_of_a_step_are_switched(self):
        run = self.simulate("hotspa-7b-8gpu")
        names = [phase["phase"] for phase in run["phases"]]
        switches = run["switches"]
        # The phases after the first in their order, then home.
        self.assertEqual([s["from"] for s in switches], names)
        self.assertEqual([s["to"] for s in switches],
                         names[1:] + names[:1])
        self.assertNotIn("gradients", switches[0])
        self.assertAlmostEqual(run["switches_s"],
                               sum(s["predicted_s"] for s in switches))
        self.assertGreater(switches[0]["parameters"]["bytes"], 0)

    def test_one_phase_has_none(self):
        path = self.write("s.json", json.dumps(SHORT))
        self.assertNotIn("switches", self.simulate(path))


if __name__ == "__main__":
    unittest.main()
