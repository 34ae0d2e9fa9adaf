"""troupe simulate: the answer as text, JSON, report and trace."""
import gzip
import json
import re
import unittest

from support import SHORT, CliTest

PARTS = {"compute", "tp", "cp", "pp", "bubble", "dp", "optimizer", "switch",
         "other"}
ORIGINS = {"measured", "interpolated", "derived", "roofline"}


class Answer(CliTest):
    def check_run(self, run):
        for key in ("step_time_s", "tokens_per_s", "mfu", "wall_time_s"):
            self.assertIsInstance(run[key], float, key)
            self.assertGreater(run[key], 0, key)
        for key in ("gpus", "events", "tokens"):
            self.assertIs(type(run[key]), int, key)
            self.assertGreater(run[key], 0, key)
        self.assertLess(run["mfu"], 1)
        self.assertAlmostEqual(run["tokens"] / run["step_time_s"],
                               run["tokens_per_s"],
                               delta=1e-9 * run["tokens_per_s"])
        self.assertRegex(run["schedule"], "^[0-9a-f]{32}$")
        self.assertEqual(set(run["breakdown_s"]), PARTS)
        self.assertTrue(all(v >= 0 for v in run["breakdown_s"].values()))
        # Times are whole picoseconds, so the sum differs by rounding only.
        self.assertAlmostEqual(sum(run["breakdown_s"].values()),
                               run["step_time_s"],
                               delta=1e-9 * run["step_time_s"])
        self.assertEqual(set(run["provenance"]), ORIGINS)
        self.assertAlmostEqual(sum(run["provenance"].values()), 1, delta=1e-9)
        self.check_memory(run)

    def check_memory(self, run):
        self.assertIs(type(run["out_of_memory"]), bool)
        over = False
        for stage in run["peak_memory_bytes"]:
            self.assertIs(type(stage["bytes"]), int)
            self.assertGreater(stage["limit_bytes"], 0)
            parts = sum(stage[k] for k in (
                "activations", "gradients", "optimizer", "parameters",
                "reserve", "workspace"))
            self.assertEqual(stage["bytes"], parts)
            over = over or stage["bytes"] > stage["limit_bytes"]
        self.assertEqual(run["out_of_memory"], over)
        self.assertEqual(len(run["peak_memory_bytes"]), len(run["stages"]))

    def test_every_shipped_strategy_answers_with_the_fixed_keys(self):
        shipped = self.json_of("strategies")["strategies"]
        self.assertGreater(len(shipped), 5)
        for strategy in shipped:
            with self.subTest(strategy["name"]):
                run = self.simulate(strategy["name"])
                for phase in run.get("phases", [run]):
                    self.check_run(phase)
                    self.assertEqual(phase["model"], strategy["model"])
                    self.assertEqual(phase["cluster"], strategy["cluster"])

    def test_stages_add_up_like_the_whole(self):
        run = self.simulate("hspmd-case5")
        for stage in run["stages"]:
            self.assertAlmostEqual(sum(stage["breakdown_s"].values()),
                                   run["step_time_s"],
                                   delta=1e-9 * run["step_time_s"])
        used = [d for stage in run["stages"] for d in stage["devices"]]
        self.assertEqual(len(used), len(set(used)))
        self.assertEqual(len(used), run["gpus"])

    def test_text_has_the_same_numbers(self):
        run = self.simulate("gpt3-175b-1024")
        text = self.run_troupe("simulate", "gpt3-175b-1024",
                               "--no-store").stdout
        step = float(re.search(r"\n +step +([\d.]+) s\n", text)[1])
        self.assertAlmostEqual(step, run["step_time_s"],
                               delta=0.005 * run["step_time_s"])
        mfu = float(re.search(r"\n +MFU +([\d.]+) %", text)[1])
        self.assertAlmostEqual(mfu, 100 * run["mfu"], delta=0.051)
        for word in ("bubble", "gradient sync", "Costs of the critical path",
                     "memory"):
            self.assertIn(word, text)

    def test_the_same_input_gives_the_same_answer(self):
        def timeless(run):
            return {k: v for k, v in run.items()
                    if k not in ("wall_time_s", "created")}
        first = self.simulate("mixed-1024gpu")
        again = self.simulate("mixed-1024gpu")
        self.assertEqual(timeless(first), timeless(again))

    def test_every_operator_unfolded_takes_the_same_time(self):
        for name in ("mixed-1024gpu", "hspmd-case5"):
            run = self.simulate(name)
            full = self.simulate(name, "--detail", "operators", "--no-fold")
            self.assertEqual(run["step_time_s"], full["step_time_s"])
            self.assertEqual(run["breakdown_s"], full["breakdown_s"])
            self.assertGreater(full["events"], run["events"])

    def test_too_little_memory_is_a_result(self):
        run = self.simulate("gpt3-175b-1024", "--reserve-gib", "79")
        self.assertTrue(run["out_of_memory"])
        self.check_run(run)
        text = self.run_troupe("simulate", "gpt3-175b-1024", "--no-store",
                               "--reserve-gib", "79").stdout
        self.assertIn("OUT OF MEMORY", text)


class Options(CliTest):
    def test_set_is_the_field_in_the_file(self):
        path = self.write("short.json", {**SHORT, "dp": 2, "tp": 2})
        other = self.write("other.json", SHORT)
        here = self.simulate(path)
        there = self.simulate(other, "--set", "dp=2", "--set", "tp=2")
        self.assertEqual(here["schedule"], there["schedule"])
        self.assertEqual(here["step_time_s"], there["step_time_s"])
        self.assertNotEqual(here["schedule"],
                            self.simulate(other)["schedule"])

    def test_set_reaches_into_a_cluster(self):
        path = self.write("inline.json", {
            **SHORT, "cluster": "8 x h100-sxm per node, 400 Gbit/s per GPU, "
                                "2 nodes"})
        run = self.simulate(path, "--cluster", "a800-16")
        self.assertEqual(run["cluster"], "a800-16")
        run = self.simulate(path, "--model", "gpt2-xl")
        self.assertEqual(run["model"], "gpt2-xl")

    def test_phase_chooses_one_of_several(self):
        run = self.simulate("hotspa-7b-8gpu")
        names = [phase["phase"] for phase in run["phases"]]
        self.assertEqual(len(names), len(set(names)))
        self.assertGreater(len(names), 1)
        for phase in run["phases"]:
            alone = self.simulate("hotspa-7b-8gpu", "--phase", phase["phase"])
            self.assertNotIn("phases", alone)
            self.assertEqual(alone["step_time_s"], phase["step_time_s"])
        self.refused("simulate", "hotspa-7b-8gpu", "--phase", "none such",
                     names=["none such", *names])

    def test_report_is_one_file_that_loads_nothing(self):
        self.run_troupe("simulate", "mixed-1024gpu", "--report", "r.html")
        page = (self.home / "r.html").read_text()
        self.assertTrue(page.lstrip().lower().startswith("<!doctype html"))
        self.assertNotRegex(page, r"<script[^>]*\bsrc")
        self.assertNotRegex(page, r"(src|href|url)\s*[=(]\s*[\"']?https?:")
        self.assertNotRegex(page, r"<link[^>]*\bhref|@import")
        self.assertIn("</html>", page)
        self.assertIn("mixed-1024gpu", page)

    def test_trace_is_read_by_json_readers(self):
        for detail in ("tasks", "operators"):
            for name in ("t.json", "t.json.gz"):
                self.run_troupe("simulate", "hspmd-case5", "--trace", name,
                                "--detail", detail, "--no-store")
                data = (self.home / name).read_bytes()
                if name.endswith(".gz"):
                    data = gzip.decompress(data)
                events = json.loads(data)["traceEvents"]
                bars = [e for e in events if e["ph"] == "X"]
                self.assertGreater(len(bars), 100)
                self.assertTrue(all(e["dur"] >= 0 for e in bars))

    def test_trace_ends_when_the_step_ends(self):
        run = self.simulate("hspmd-case5", "--trace", "end.json")
        trace = json.loads((self.home / "end.json").read_text())
        end = max(e["ts"] + e["dur"] for e in trace["traceEvents"]
                  if e["ph"] == "X")
        self.assertAlmostEqual(end / 1e6, run["step_time_s"],
                               delta=1e-6 * run["step_time_s"])

    def test_several_phases_make_several_files(self):
        self.run_troupe("simulate", "hotspa-7b-8gpu", "--report", "p.html",
                        "--trace", "p.json", "--no-store")
        for phase in ("long", "middle", "short"):
            self.assertTrue((self.home / f"p.{phase}.html").exists())
            json.loads((self.home / f"p.{phase}.json").read_text())


class Outputs(CliTest):
    def test_are_checked_before_the_run_is_kept(self):
        for arguments in (["--report", "nodir/x.html"],
                          ["--trace", "nodir/x.json"]):
            self.refused("simulate", "hspmd-case5", *arguments,
                         names=["nodir/x", "no folder nodir"])
        self.assertFalse((self.home / "results.db").exists())

    def test_the_store_is_checked_before_the_work(self):
        path = self.write("long.json", {**SHORT, "micro_batches": 200_000})
        self.write("text.db", "good morning\n" * 1000)
        for store in ("text.db", "/dev/null", str(self.home)):
            self.refused("simulate", path, "--results", store, names=store,
                         timeout=20)

    def test_two_answers_are_not_one_file(self):
        for arguments in (["--report", "x", "--trace", "x"],
                          ["--sweep", "zero=0", "--report", "x.csv",
                           "--sweep-out", "x.csv"]):
            self.refused("simulate", "hspmd-case5", *arguments,
                         names="same file")
        self.refused("simulate", "hspmd-case5", "--report", "-",
                     names="/dev/stdout")

    def test_a_phase_with_a_slash_is_a_file_beside_the_others(self):
        self.run_troupe("convert", "hotspa-7b-8gpu", "-o", "phases.json")
        text = (self.home / "phases.json").read_text()
        self.write("phases.json", text.replace('"long"', '"a/b"'))
        self.run_troupe("simulate", "phases.json", "--no-store", "--report",
                        "s.html")
        self.assertTrue((self.home / "s.a-b.html").exists())

    def test_a_device_takes_one_phase(self):
        self.refused("simulate", "hotspa-7b-8gpu", "--no-store", "--trace",
                     "/dev/null", names=["/dev/null", "--phase"])
        self.run_troupe("simulate", "hotspa-7b-8gpu", "--no-store",
                        "--trace", "/dev/null", "--phase", "long")


class Hosts(CliTest):
    def test_a_host_list_is_the_cluster(self):
        hosts = self.home / "hosts.txt"
        hosts.write_text("a slots=8\nb slots=8\n")
        path = self.write("short.json", {**SHORT, "dp": 4, "pp": 4})
        run = self.json_of("simulate", path, "--no-store", "--hostfile", hosts,
                           "--kind", "a800-sxm-80", "--network",
                           "200 Gbit/s per GPU")
        self.assertEqual(run["gpus"], 16)
        self.assertIn("a800-sxm-80", run["cluster"])
        self.refused("simulate", path, "--hostfile", hosts, names="--kind")
        self.assertEqual(run["hosts"], [
            {"address": "a", "node": run["nodes"][0]["name"],
             "first_rank": 0, "last_rank": 7},
            {"address": "b", "node": run["nodes"][1]["name"],
             "first_rank": 8, "last_rank": 15}])

    def test_a_cluster_is_given_addresses(self):
        hosts = self.write("four.txt", "".join(
            f"gpu-{i:02}.lab slots=8\n" for i in range(4)))
        path = self.write("short.json", SHORT)
        with_hosts = ["--cluster", "a800-32", "--hostfile", hosts]
        run = self.json_of("simulate", path, *with_hosts, "--report",
                           "hosts.html")
        self.assertEqual([h["address"] for h in run["hosts"]],
                         [n["address"] for n in run["nodes"]])
        self.assertEqual([(h["first_rank"], h["last_rank"])
                          for h in run["hosts"]],
                         [(0, 7), (8, 15), (16, 23), (24, 31)])
        self.assertIn("gpu-03.lab", (self.home / "hosts.html").read_text())
        without = self.simulate(path)
        self.assertNotIn("hosts", without)
        self.assertEqual(run["step_time_s"], without["step_time_s"])
        self.assertEqual(run["schedule"], without["schedule"])
        self.assertEqual(self.json_of("results", "show", "last"), run)
        told = self.json_of("results", "rerun", "last")
        self.assertTrue(told["step_time_s"]["equal"])

    def test_hosts_and_nodes_must_match(self):
        path = self.write("short.json", SHORT)
        for text, names in (
                ("a slots=8\nb slots=8\n", ["2 hosts", "4 nodes", "a800-32",
                                            "few.txt"]),
                ("a slots=4\nb slots=8\nc slots=8\nd slots=8\n",
                 ["'a'", "4 slots", "8 GPUs", "few.txt"]),
                ("", "few.txt"), ("a slots=x\n", "line 1")):
            hosts = self.write("few.txt", text)
            with self.subTest(text):
                self.refused("simulate", path, "--cluster", "a800-32",
                             "--hostfile", hosts, names=names)
        for arguments, names in (
                (["--cluster", "a800-32", "--hostfile", hosts, "--kind",
                  "h20"], "--cluster"),
                (["--kind", "h20"], "--hostfile"),
                (["--network", "1 Gbit/s per GPU"], "--hostfile"),
                (["--cluster", "a800-32", "--hostfile", "absent"],
                 "absent")):
            with self.subTest(arguments):
                self.refused("simulate", path, *arguments, names=names)


if __name__ == "__main__":
    unittest.main()
