"""troupe results, compare, and the commands that show what ships."""
import json
import sqlite3
import subprocess
import unittest

from support import BINARY, SHORT, CliTest


class Results(CliTest):
    def setUp(self):
        (self.home / "results.db").unlink(missing_ok=True)

    def keep(self, *arguments):
        return self.json_of("simulate", *arguments)

    def test_runs_are_kept_listed_shown_and_removed(self):
        first = self.keep("hspmd-case5")
        second = self.keep("gpt3-175b-1024")
        self.assertNotEqual(first["id"], second["id"])
        listed = self.json_of("results", "list")["runs"]
        self.assertEqual([r["id"] for r in listed],
                         [second["id"], first["id"]])
        self.assertEqual(self.json_of("results", "show", first["id"]), first)
        self.assertEqual(self.json_of("results", "show", "last"), second)
        self.run_troupe("results", "remove", first["id"])
        listed = self.json_of("results", "list")["runs"]
        self.assertEqual([r["id"] for r in listed], [second["id"]])
        for command in ("show", "remove"):
            self.refused("results", command, first["id"], names=first["id"])

    def test_no_store_keeps_nothing(self):
        self.keep("hspmd-case5", "--no-store")
        self.assertFalse((self.home / "results.db").exists())

    def test_filters_choose(self):
        a, b = self.keep("hspmd-case5"), self.keep("gpt3-175b-1024")
        for arguments, ids in (
                (["--filter", "h100"], [b["id"]]),
                (["--filter", "hspmd"], [a["id"]]),
                (["--filter", "none such"], []),
                (["--filter", "%"], []),
                (["--hash", a["schedule"]], [a["id"]]),
                (["--hash", b["inputs"]["model"]], [b["id"]]),
                (["--most", 1], [b["id"]])):
            with self.subTest(arguments):
                runs = self.json_of("results", "list", *arguments)["runs"]
                self.assertEqual([r["id"] for r in runs], ids)

    def test_a_kept_run_tells_how_to_run_it_again(self):
        run = self.keep("hspmd-case5", "--set", "zero=0", "--no-fold")
        again = self.keep(*run["command"][2:])
        self.assertEqual(again["schedule"], run["schedule"])
        self.assertEqual(again["step_time_s"], run["step_time_s"])
        self.assertIn("--set", run["command"])

    def test_a_run_is_repeated_and_compared(self):
        folder = self.home / "elsewhere"
        folder.mkdir(exist_ok=True)
        strategy = {**SHORT, "cluster": "cluster.json"}
        cluster = {"format": "troupe.cluster/1", "name": "c", "nodes": [
            {"kind": "a800-sxm-80", "count": 8, "nodes": 4,
             "nic": "200 Gbit/s per GPU"}]}
        self.write("elsewhere/strategy.json", strategy)
        self.write("elsewhere/cluster.json", cluster)
        run = json.loads(subprocess.run(
            [BINARY, "simulate", "strategy.json", "--json", "--reserve-gib",
             "2", "--host-us-per-operator", "3"], cwd=folder,
            env=self.environment, capture_output=True, check=True).stdout)
        told = self.json_of("results", "rerun", run["id"])
        self.assertFalse(told["inputs_changed"])
        self.assertTrue(told["schedule"]["equal"])
        self.assertEqual(told["step_time_s"], {
            "then": run["step_time_s"], "now": run["step_time_s"],
            "equal": True})
        text = self.run_troupe("results", "rerun", "last").stdout
        self.assertIn("unchanged since", text)
        # A slow network: the same schedule, another step.
        cluster["nodes"][0]["nic"] = "1 Gbit/s per GPU"
        self.write("elsewhere/cluster.json", cluster)
        told = self.json_of("results", "rerun", run["id"])
        self.assertEqual([r for r, i in told["inputs"].items()
                          if i["changed"]], ["cluster"])
        self.assertTrue(told["inputs_changed"])
        self.assertTrue(told["schedule"]["equal"])
        self.assertGreater(told["step_time_s"]["now"], run["step_time_s"])
        self.assertIn("changed since: cluster",
                      self.run_troupe("results", "rerun", "last").stdout)
        # More micro-batches: another schedule.
        self.write("elsewhere/strategy.json",
                   {**strategy, "micro_batches": 16})
        told = self.json_of("results", "rerun", run["id"])
        self.assertFalse(told["schedule"]["equal"])
        self.assertEqual(len(self.json_of("results", "list")["runs"]), 1)
        (folder / "strategy.json").unlink()
        self.refused("results", "rerun", "last",
                     names=[run["id"], "strategy.json", "elsewhere"])

    def test_each_phase_is_repeated_alone(self):
        run = self.keep("hotspa-7b-8gpu")
        for phase in run["phases"]:
            told = self.json_of("results", "rerun", phase["id"])
            self.assertEqual(told["phase"], phase["phase"])
            self.assertTrue(told["schedule"]["equal"])
            self.assertTrue(told["step_time_s"]["equal"])

    def test_a_kept_command_that_is_no_simulation_is_refused(self):
        self.keep("hspmd-case5")
        for command in ([], ["troupe"], ["rm", "-rf", "x"],
                        ["troupe", "results", "remove", "r1"],
                        ["troupe", "simulate", "--help"],
                        ["troupe", "simulate", "hspmd-case5", "--nosuch"]):
            with sqlite3.connect(self.home / "results.db") as db:
                db.execute("update runs set body = json_set(body, "
                           "'$.command', json(?))", [json.dumps(command)])
            db.close()
            with self.subTest(command):
                self.refused("results", "rerun", "last", names="r1")
        self.refused("results", "rerun", "r99", names="r99")

    def test_report_of_a_kept_run_is_that_of_the_run(self):
        self.run_troupe("simulate", "hspmd-case5", "--report", "now.html")
        self.run_troupe("results", "show", "last", "--report", "then.html")
        now = (self.home / "now.html").read_text()
        then = (self.home / "then.html").read_text()
        self.assertEqual(now, then)

    def test_names_are_data_and_not_sql_nor_html(self):
        name = "x'; drop table runs; --<script>alert(1)</script>"
        path = self.write("sql.json", {**SHORT, "name": name})
        self.keep(path, "--report", "evil.html")
        self.assertEqual(self.json_of("results", "show", "last")["name"],
                         name)
        self.assertNotIn("<script>alert", (self.home / "evil.html")
                         .read_text())
        self.refused("results", "show", "r1' or '1'='1", names="r1' or")

    def test_no_store_yet(self):
        self.refused("results", "list", names="results.db")
        self.assertFalse((self.home / "results.db").exists())


class Compare(CliTest):
    def test_store_and_file_compare_alike(self):
        a = self.json_of("simulate", "hspmd-case5")
        b = self.json_of("simulate", "hspmd-case5", "--set", "zero=0")
        self.write("a.json", a)
        self.write("b.json", b)
        kept = self.json_of("compare", a["id"], b["id"])
        filed = self.json_of("compare", "a.json", "b.json")
        self.assertEqual(kept, filed)
        text = self.run_troupe("compare", a["id"], "b.json").stdout
        for word in (a["id"], b["id"], "MFU", "bubble"):
            self.assertIn(word, text)

    def test_a_run_with_itself_has_ratio_one(self):
        a = self.json_of("simulate", "hspmd-case5")["id"]
        rows = [line for line in
                self.run_troupe("compare", a, a).stdout.splitlines()
                if line.split()[:1] in (["step"], ["MFU"], ["compute"])]
        self.assertGreaterEqual(len(rows), 2)
        for row in rows:
            self.assertRegex(row, r"\b1\.0+\b|100(\.0+)? %|\+?0\.0+ %")

    def test_a_file_may_be_a_pipe(self):
        run = self.json_of("simulate", "hspmd-case5")
        path = self.write("a.json", run)
        with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat:
            pipe = cat.stdout.fileno()
            told = self.json_of("compare", f"/dev/fd/{pipe}", run["id"],
                                pass_fds=[pipe])
        self.assertEqual(told, self.json_of("compare", path, run["id"]))

    def test_wrong_files_are_refused(self):
        run = self.json_of("simulate", "hspmd-case5")
        for name, content in (
                ("strategy.json", SHORT), ("list.json", []),
                ("empty.json", ""), ("half.json", json.dumps(run)[:5000]),
                ("text.json", {**run, "step_time_s": "12"}),
                ("parts.json", {**run, "breakdown_s": []})):
            with self.subTest(name):
                self.refused("compare", self.write(name, content), run["id"],
                             names=name)
        self.refused("compare", "absent.json", run["id"],
                     names="absent.json")
        self.refused("compare", run["id"])

    def test_a_step_of_no_positive_time_is_refused(self):
        run = self.json_of("simulate", "hspmd-case5")
        for value in (-1, 0, -1e300, 1e300, 1e-13):
            path = self.write("minus.json", {**run, "step_time_s": value})
            with self.subTest(value):
                self.refused("compare", path, run["id"],
                             names=["minus.json: /step_time_s",
                                    f"{value:g}", "expected"])
        for value in ("NaN", "Infinity", "-Infinity", "1e999"):
            text = json.dumps(run).replace(
                f'"step_time_s": {run["step_time_s"]!r}',
                f'"step_time_s": {value}')
            with self.subTest(value):
                self.assertNotEqual(text, json.dumps(run))
                self.refused("compare", self.write("nan.json", text),
                             run["id"], names="nan.json")


class Shipped(CliTest):
    def test_models(self):
        models = self.json_of("models")["models"]
        text = self.run_troupe("models").stdout
        for model in models:
            self.assertIn(model["name"], text)
            alone = self.json_of("models", model["name"])
            self.assertIn(model["name"], json.dumps(alone))
        # GPT-3 175B: Brown et al., 2020, table 2.1: 174.6 G parameters.
        self.assertRegex(self.run_troupe("models", "gpt3-175b").stdout,
                         r"\b1746\d{8} parameters, 96 layers, hidden 12288")

    def test_clusters(self):
        clusters = self.json_of("clusters")["clusters"]
        text = self.run_troupe("clusters").stdout
        for cluster in clusters:
            self.assertIn(cluster["name"], text)
            self.assertEqual(sum(cluster["kinds"].values()), cluster["gpus"])
            self.run_troupe("clusters", cluster["name"])

    def test_strategies(self):
        text = self.run_troupe("strategies").stdout
        for strategy in self.json_of("strategies")["strategies"]:
            self.assertIn(strategy["name"], text)

    def test_typing_errors_get_a_suggestion(self):
        self.refused("models", "gpt3-175", names="gpt3-175b")
        self.refused("clusters", "h100-102", names="h100-1024")
        self.refused("simulate", "mixed-1024", names="mixed-1024gpu")


class Validate(CliTest):
    def test_the_error_is_that_of_the_simulated_step(self):
        run = self.simulate(self.write("one.json", SHORT))
        # Twice as long as simulated, so the error is -50 %.
        strategy = {k: v for k, v in SHORT.items()
                    if k not in ("format", "model", "cluster")}
        path = self.write("cases.json", {
            "format": "troupe.validation/1", "source": "made up",
            "cases": [{"id": "one", "quality": "A", "model": SHORT["model"],
                       "cluster": SHORT["cluster"], "strategy": strategy,
                       "metric": "step_time_s", "held_out": False,
                       "measured": 2 * run["step_time_s"]}]})
        told = self.json_of("validate", path)
        self.assertEqual([c["id"] for c in told["cases"]], ["one"])
        text = self.run_troupe("validate", path).stdout
        self.assertRegex(text, r"one .*-50\.0 %")

    def test_wrong_files_are_refused(self):
        for name, content in (("strategy.json", SHORT), ("half.json", "{"),
                              ("empty.json", "")):
            done = self.run_troupe("validate", self.write(name, content),
                                   code=1)
            self.assertIn(name, done.stdout + done.stderr)
        self.refused("validate", "absent.json", names="absent.json")
        self.refused("validate", "--source", "none such",
                     names="none such")

    def test_a_source_that_is_not_there_is_told_beside_broken_files(self):
        folder = self.home / "cases"
        folder.mkdir()
        self.write("cases/broken.json", "{")
        self.write("cases/good.json", {
            "format": "troupe.validation/1", "source": "Some Lab",
            "cases": [{"id": "one", "quality": "A", "model": SHORT["model"],
                       "cluster": SHORT["cluster"],
                       "strategy": {"dp": 32, "tp": 1, "pp": 1},
                       "metric": "step_time_s", "measured": 1.0}]})
        self.refused("validate", folder, "--source", "zzz",
                     names=["--source zzz", "Some Lab", "broken.json"])


if __name__ == "__main__":
    unittest.main()
