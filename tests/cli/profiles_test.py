"""troupe ingest and troupe profiles: the cost database."""
import json
import sqlite3
import unittest

from support import CSV, SHORT, CliTest


class Ingest(CliTest):
    def ingest(self, *arguments, **options):
        told = self.json_of("ingest", *arguments, **options)
        return told["inserted"], told["unchanged"], told["rejected"]

    def test_own_csv_twice_changes_nothing(self):
        path = self.write("lab.csv", CSV)
        self.assertEqual(self.ingest(path, "--profiles", "a.db"), (3, 0, 0))
        before = self.run_troupe("profiles", "export", "--profiles",
                                 "a.db").stdout
        self.assertEqual(self.ingest(path, "--profiles", "a.db"), (0, 3, 0))
        self.assertEqual(before, self.run_troupe(
            "profiles", "export", "--profiles", "a.db").stdout)

    def test_shared_pool_twice_changes_nothing(self):
        path = self.seeds("hspmd/strategy_pool_32b_h20.json")
        rows = len(json.loads(path.read_text())["strategies"])
        first = self.ingest(path, "--profiles", "pool.db")
        self.assertEqual(first[0] + first[2], rows)
        self.assertEqual(self.ingest(path, "--profiles", "pool.db"),
                         (0, first[0], first[2]))

    def test_shipped_twice_changes_nothing(self):
        inserted, unchanged, _ = self.ingest("--shipped")
        self.assertEqual(inserted, 0)
        self.assertGreater(unchanged, 1000)

    def test_export_is_read_again_as_unchanged(self):
        self.run_troupe("profiles", "export", "-o", "all.csv")
        inserted, unchanged, rejected = self.ingest("all.csv")
        self.assertEqual((inserted, rejected), (0, 0))
        self.assertEqual(self.ingest("all.csv", "--profiles", "new.db"),
                         (unchanged, 0, 0))
        again = self.run_troupe("profiles", "export", "--profiles",
                                "new.db").stdout
        self.assertEqual(again, (self.home / "all.csv").read_text())

    def test_export_as_json_is_one_object_with_the_same_rows(self):
        rows = self.json_of("profiles", "export")
        self.assertEqual(rows, self.json_of("profiles", "show"))
        self.run_troupe("profiles", "export", "--json", "-o", "all.json")
        self.assertEqual(json.loads((self.home / "all.json").read_text()),
                         rows)
        inserted, unchanged, rejected = self.ingest("all.json")
        self.assertEqual((inserted, rejected), (0, 0))
        self.assertGreater(unchanged, 1000)

    def test_nccl_tests_without_ranks_take_the_options(self):
        log = self.write("all_reduce_perf.log", (
            "# nThread 1 nGpus 8 minBytes 8 maxBytes 8\n"
            "# size count type redop root time algbw busbw #wrong time algbw "
            "busbw #wrong\n"
            "64 16 float sum -1 9 1 1 0 2.5 1 1 0\n"))
        told = ["ingest", log, "--device", "h100-sxm", "--profiles", "n.db"]
        _, _, rejected = self.ingest(*told[1:])
        self.assertEqual(rejected, 1)
        self.assertEqual(self.ingest(*told[1:], "--ranks", "16",
                                     "--per-node", "8"), (1, 0, 0))
        rows = self.json_of("profiles", "show", "--profiles", "n.db")
        row = rows["sources"][0]["collectives"][0]
        self.assertEqual((row["ranks"], row["per_node"]), (16, 8))
        self.refused(*told, "--per-node", "0", names="per-node")
        self.refused("ingest", self.write("lab.csv", CSV), "--per-node", "8",
                     names="nccl-tests")

    def test_bad_rows_are_named_and_the_good_ones_kept(self):
        bad = ("lab-gpu,gemm,bf16,1x64x64x{},0,{},0.01,20\n")
        lines = CSV.splitlines(keepends=True)
        times = ["nan", "inf", "-1", "0", "1e-12", "1e9", "1e999", "quick",
                 ""]
        rows = [bad.format(64 * (i + 1), t) for i, t in enumerate(times)]
        rows += ["lab-gpu,gemm,bf16,1x64x64,0,0.1,0,1\n",
                 "lab-gpu,gemm,bf16,1x-1x64x64,0,0.1,0,1\n",
                 "lab-gpu,gemm,bf16,1x0x64x64,0,0.1,0,1\n",
                 "lab-gpu,gemm,bf16,1x9999999999999999999x1x1,0,0.1,0,1\n",
                 "lab-gpu,gemm,bf17,1x64x64x64,0,0.1,0,1\n",
                 "lab-gpu,gmm,bf16,1x64x64x64,0,0.1,0,1\n",
                 "nosuch,gemm,bf16,1x64x64x64,0,0.1,0,1\n",
                 "lab-gpu,gemm\n"]
        lines[10:10] = rows
        path = self.write("bad.csv", "".join(lines))
        told = self.json_of("ingest", path, "--profiles", "bad.db")
        self.assertEqual((told["inserted"], told["rejected"]),
                         (3, len(rows)))
        for number, rejection in enumerate(told["rejections"], start=11):
            self.assertIn(f"bad.csv:{number}:", rejection)
        text = self.run_troupe("ingest", path, "--profiles", "bad.db")
        self.assertEqual(text.stderr.count("rejected "), len(rows))

    def test_another_value_under_the_same_source_is_refused(self):
        self.run_troupe("ingest", self.write("one.csv", CSV), "--profiles",
                        "c.db")
        other = self.write("two.csv", CSV.replace("0.000221", "0.000321"))
        self.assertEqual(self.ingest(other, "--profiles", "c.db"), (0, 2, 1))

    def test_wrong_files_are_refused(self):
        for name, content in (
                ("empty.csv", ""), ("text.csv", "good morning\n"),
                ("zeros.csv", b"\0" * 5000), ("version.csv", CSV.replace(
                    "profiles 1", "profiles 7")),
                ("columns.csv", CSV.replace("time_s", "seconds")),
                ("table.csv", CSV.replace("operators", "operations")),
                ("half.json", '{"format": "troupe profiles", "version": 1'),
                ("strategy.json", SHORT)):
            with self.subTest(name):
                path = self.write(name, content)
                self.refused("ingest", path, "--profiles", "w.db",
                             names=name)
        self.refused("ingest", "absent.csv", names="absent.csv")
        self.refused("ingest", self.home, names=str(self.home))
        self.refused("ingest", names="--shipped")
        self.refused("ingest", "x.csv", "--format", "xyz", names="xyz")

    def test_the_answer_rests_on_what_was_ingested(self):
        self.ingest(self.write("lab.csv", CSV), "--profiles", "lab.db")
        bare = self.simulate("fasop-a100-a10", "--profiles", "lab.db")
        full = self.simulate("fasop-a100-a10")
        # The lab's device is in no shipped cluster.
        self.assertEqual(bare["provenance"]["roofline"], 1)
        self.assertLess(full["provenance"]["roofline"], 1)
        self.assertNotEqual(bare["inputs"]["profiles"],
                            full["inputs"]["profiles"])


class Profiles(CliTest):
    def test_list_counts_what_show_shows(self):
        listed = self.json_of("profiles", "list")
        shown = self.json_of("profiles", "show", "--table", "collectives")
        count = sum(n for s in listed["sources"] for n in
                    s["rows"].get("collectives", {}).values())
        rows = shown["collectives"] if "collectives" in shown else [
            r for s in shown["sources"] for r in s["collectives"]]
        self.assertEqual(len(rows), count)
        self.assertGreater(count, 0)

    def test_list_names_its_sources(self):
        text = self.run_troupe("profiles", "list").stdout
        names = self.json_of("profiles", "list")["sources"]
        for source in names:
            self.assertIn(source["source"], text)

    def test_filters(self):
        text = self.run_troupe("profiles", "show", "--device", "b200").stdout
        rows = [r for r in text.splitlines()
                if r.startswith(("b200,", "h100"))]
        self.assertTrue(rows)
        self.assertTrue(all(r.startswith("b200,") for r in rows))
        for option in ("--device", "--table", "--source"):
            self.refused("profiles", "show", option, "none", names="none")

    def test_reading_an_absent_database_does_not_make_one(self):
        self.refused("profiles", "list", "--profiles", "absent.db",
                     names="absent.db")
        self.assertFalse((self.home / "absent.db").exists())

    def test_simulating_with_an_absent_database_tells_how_to_make_it(self):
        self.refused("simulate", "mixed-1024gpu", "--profiles", "never.db",
                     names=["never.db", "troupe ingest"])

    def test_database_is_made_on_first_use(self):
        (self.home / "profiles.db").rename(self.home / "aside.db")
        try:
            done = self.run_troupe("simulate", "mixed-1024gpu", "--no-store")
            self.assertIn("profiles.db", done.stderr)
            with sqlite3.connect(self.home / "profiles.db") as db:
                self.assertEqual(db.execute(
                    "pragma integrity_check").fetchone(), ("ok",))
        finally:
            (self.home / "aside.db").rename(self.home / "profiles.db")


if __name__ == "__main__":
    unittest.main()
