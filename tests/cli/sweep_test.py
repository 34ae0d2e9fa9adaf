"""troupe simulate --sweep: scaling and other fields, and its files."""
import csv
import json
import unittest
import xml.etree.ElementTree as xml

from support import SHORT, CliTest

GPUS = "gpus=64,128,...,1024"


class Sweep(CliTest):
    def points(self, *arguments):
        return self.json_of("simulate", *arguments)["points"]

    def test_dots_go_on_by_ratio_and_by_step(self):
        points = self.points("mixed-1024gpu", "--sweep", GPUS)
        self.assertEqual([p["value"] for p in points],
                         ["64", "128", "256", "512", "1024"])
        points = self.points("mixed-1024gpu", "--sweep",
                             "gpus=192,320,...,704")
        self.assertEqual([p["run"]["gpus"] for p in points],
                         [192, 320, 448, 576, 704])

    def test_weak_scaling_keeps_the_work_of_a_pipeline(self):
        points = self.points("mixed-1024gpu", "--sweep", GPUS)
        for p in points:
            self.assertEqual(p["run"]["tokens"] // p["run"]["gpus"],
                             points[0]["run"]["tokens"] // 64)

    def test_strong_scaling_keeps_the_work_of_the_step(self):
        points = self.points("mixed-1024gpu", "--sweep", GPUS, "--keep",
                             "step")
        self.assertEqual(len({p["run"]["tokens"] for p in points}), 1)
        times = [p["run"]["step_time_s"] for p in points]
        self.assertEqual(times, sorted(times, reverse=True))
        # 16 times the GPUs are never more than 16 times as fast here: the
        # pipelines are equal and only gain synchronisation.
        self.assertGreater(times[-1] * 16, times[0])

    def test_last_point_is_the_strategy_itself(self):
        whole = self.simulate("mixed-1024gpu")
        for keep in ("pipeline", "step"):
            last = self.points("mixed-1024gpu", "--sweep", GPUS, "--keep",
                               keep)[-1]["run"]
            self.assertEqual(last["step_time_s"], whole["step_time_s"])
            self.assertEqual(last["schedule"], whole["schedule"])

    def test_any_field_sweeps(self):
        path = self.write("short.json", SHORT)
        points = self.points(path, "--sweep", "micro_batches=4,8,16")
        for p in points:
            single = self.simulate(path, "--set",
                                   f"micro_batches={p['value']}")
            self.assertEqual(p["run"]["step_time_s"], single["step_time_s"])

    def test_a_point_that_cannot_be_leaves_the_others(self):
        path = self.write("short.json", SHORT)
        points = self.points(path, "--sweep", "tp=1,3,2")
        self.assertIn("run", points[0])
        self.assertIn("tp 3", points[1]["error"])
        self.assertIn("run", points[2])

    def test_phase_is_the_one_swept(self):
        wanted = self.simulate("hotspa-7b-8gpu", "--phase", "short")
        points = self.points("hotspa-7b-8gpu", "--phase", "short", "--sweep",
                             "micro_batch_size=1")
        self.assertEqual(points[0]["run"]["phase"], wanted["phase"])

    def test_points_share_costs_only_with_equal_devices(self):
        path = self.write("short.json", SHORT)
        whole = self.points(path, "--sweep", "cluster=a800-32,h100-1024")
        for point in whole:
            single = self.simulate(path, "--set",
                                   f"cluster={point['value']}")
            self.assertEqual(point["run"]["step_time_s"],
                             single["step_time_s"])
            self.assertEqual(point["run"]["inputs"], single["inputs"])


class SweepFiles(CliTest):
    def test_all_four_kinds_hold_the_points(self):
        for end in ("csv", "json", "svg", "html"):
            self.run_troupe("simulate", "mixed-1024gpu", "--sweep", GPUS,
                            "--sweep-out", f"s.{end}")
        with open(self.home / "s.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        points = json.loads((self.home / "s.json").read_text())["points"]
        self.assertEqual([r["value"] for r in rows],
                         [p["value"] for p in points])
        for row, point in zip(rows, points):
            self.assertEqual(float(row["step_time_s"]),
                             point["run"]["step_time_s"])
            self.assertEqual(row["schedule"], point["run"]["schedule"])
        svg = xml.parse(self.home / "s.svg").getroot()
        self.assertTrue(svg.tag.endswith("svg"))
        page = (self.home / "s.html").read_text()
        self.assertNotRegex(page, r"<script[^>]*\bsrc")
        self.assertNotRegex(page, r"(src|href|url)\s*[=(]\s*[\"']?https?:")
        self.assertIn("1,024", page)

    def test_unknown_ending_is_refused(self):
        self.refused("simulate", "mixed-1024gpu", "--sweep", "gpus=64",
                     "--sweep-out", "s.xyz", names=["s.xyz", ".csv"])

    def test_outputs_are_checked_before_the_work(self):
        """A sweep that would run for minutes is refused at once."""
        values = ",".join(str(n) for n in range(1000, 3000))
        long_sweep = ["simulate", self.write("short.json", SHORT), "--sweep",
                      f"micro_batches={values}"]
        for arguments, names in (
                (["--sweep-out", "s.xyz"], ["s.xyz", ".csv"]),
                (["--sweep-out", "s"], [".csv"]),
                (["--sweep-out", "absent/s.csv"], "absent/s.csv"),
                (["--report", "absent/s.html"], "absent/s.html"),
                (["--trace", "t.json"], ["--trace", "--set"]),
                (["--results", "r.db"], ["--results", "--sweep-out"])):
            with self.subTest(arguments):
                self.refused(*long_sweep, *arguments, names=names, timeout=5)

    def test_the_report_of_a_sweep_is_its_page(self):
        self.run_troupe("simulate", "mixed-1024gpu", "--sweep",
                        "gpus=64,128", "--report", "r.any", "--sweep-out",
                        "r.html")
        page = (self.home / "r.html").read_text()
        self.assertEqual((self.home / "r.any").read_text(), page)
        self.assertIn("<svg", page)

    def test_what_only_a_sweep_takes_is_refused_without_one(self):
        self.refused("simulate", "hspmd-case5", "--sweep-out", "s.csv",
                     names="--sweep-out")
        self.refused("simulate", "hspmd-case5", "--keep", "step",
                     names="--keep")

    def test_bad_sweeps_are_refused(self):
        for sweep, why in (
                ("gpus", "field=value"), ("gpus=", "field=value"),
                ("=1,2", "field=value"), ("gpus=64,...,1024", "'...'"),
                ("gpus=...", "'...'"), ("gpus=64,128,...,1000", "1000"),
                ("gpus=64,64,...,1024", "1024"),
                ("gpus=128,64,...,1024", "1024"),
                ("gpus=1,2,...,99999999999999999999", "'...'"),
                ("gpus=1,2,...,1000000000000000001", "sweep"),
                ("gpus=0", "gpus=0"), ("gpus=-64", "gpus=-64"),
                ("gpus=NaN", "NaN"), ("gpus=63", "gpus=63"),
                ("gpus=2048", "gpus=2048"), ("nosuch=1", "nosuch")):
            with self.subTest(sweep):
                self.refused("simulate", "mixed-1024gpu", "--sweep", sweep,
                             names=why)

    # Comparing as floating point takes 2^63 - 1 for a power of two.
    def test_the_largest_number_is_not_reached_by_doubling(self):
        self.refused("simulate", "mixed-1024gpu", "--sweep",
                     "gpus=64,128,...,9223372036854775807", names="sweep")


if __name__ == "__main__":
    unittest.main()
