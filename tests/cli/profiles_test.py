"""troupe ingest and troupe profiles: the cost database."""
import json
import os
import re
import shutil
import sqlite3
import tempfile
import textwrap
import unittest

from support import CSV, ROOT, SHORT, CliTest


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
        _, _, rejected = self.ingest(*told[1:], code=1)
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
        told = self.json_of("ingest", other, "--profiles", "c.db")
        self.assertEqual((told["inserted"], told["unchanged"],
                          told["rejected"]), (0, 2, 1))
        for word in ("0.000221", "0.000321", "one.csv", "two.csv", "lab"):
            self.assertIn(word, told["rejections"][0])

    def test_a_bad_file_does_not_keep_the_others_out(self):
        good = self.write("z-good.csv", CSV)
        bad = self.write("a-bad.csv", "good morning\n")
        files = [bad, self.home / "b-absent.csv", good]
        told = self.json_of("ingest", *files, "--profiles", "several.db",
                            code=1)
        self.assertEqual(told["inserted"], 3)
        self.assertEqual([f["file"] for f in told["files"]],
                         [str(f) for f in files])
        self.assertIn("no known format", told["files"][0]["error"])
        self.assertIn("b-absent.csv", told["files"][1]["error"])
        self.assertIsNone(told["files"][2]["error"])
        self.assertEqual(told["files"][2]["inserted"], 3)
        text = self.run_troupe("ingest", *files, "--profiles", "several.db",
                               code=1)
        self.assertIn("a-bad.csv: failed", text.stdout)
        self.assertIn("z-good.csv: 0 inserted, 3 unchanged", text.stdout)
        self.assertIn("no known format", text.stderr)

    def test_a_file_of_which_nothing_is_taken_fails(self):
        path = self.write("none.csv", CSV.replace("0.000221", "-1").replace(
            "0.000441", "-1").replace("0.008196", "-1"))
        self.run_troupe("ingest", path, "--profiles", "none.db", code=1)

    def test_the_same_bytes_under_another_name_are_unchanged(self):
        log = ("# nThread 1 nGpus 8 minBytes 8 maxBytes 8\n"
               "# size count type redop root time algbw busbw #wrong time "
               "algbw busbw #wrong\n"
               "64 16 float sum -1 9 1 1 0 2.5 1 1 0\n")
        how = ["--device", "h100-sxm", "--ranks", "8", "--per-node", "8",
               "--profiles", "again.db"]
        first = self.write("all_reduce_perf.log", log)
        self.assertEqual(self.ingest(first, *how), (1, 0, 0))
        told = self.json_of("ingest", self.write("all_reduce_perf-copy.log",
                                                 log), *how)
        self.assertEqual((told["inserted"], told["unchanged"]), (0, 1))
        self.assertIn("the same bytes as", told["files"][0]["note"])
        self.assertIn("all_reduce_perf.log", told["files"][0]["note"])
        source, = self.json_of("profiles", "list", "--profiles",
                               "again.db")["sources"]
        self.assertRegex(source["date"], r"^2\d{3}-\d\d-\d\dT")

    def test_a_source_of_two_files_names_both(self):
        one = self.write("one.csv", CSV)
        two = self.write("two.csv", CSV.replace("4096x4096x4096", "64x64x64"))
        self.run_troupe("ingest", one, "--profiles", "two.db")
        self.run_troupe("ingest", two, "--profiles", "two.db")
        source, = self.json_of("profiles", "list", "--profiles",
                               "two.db")["sources"]
        self.assertEqual(source["file"], f"{one}; {two}")
        self.assertEqual(len(source["file_hash"]), 2 * 32 + 2)

    def test_dates_are_iso_dates(self):
        for date in ("yesterday", "2026-13-01", "2026-02-30", "03.05.2026",
                     "26-05-03", "2026-05-03T25:00", "2026-5"):
            path = self.write("dated.csv", CSV.replace("2026-05-03", date))
            self.refused("ingest", path, "--profiles", "d.db",
                         names=[date, "ISO 8601"])
        rows = {"format": "troupe profiles", "version": 1, "sources": [
            {"source": "lab", "date": "yesterday"}]}
        self.refused("ingest", self.write("dated.json", rows), "--profiles",
                     "d.db", names=["yesterday", "ISO 8601"])
        for date in ("2026", "2026-05", "2024-02-29", "2026-05-03T14:30Z"):
            path = self.write("dated.csv", CSV.replace(
                "2026-05-03", date).replace("lab\n", f"lab {date}\n"))
            self.assertEqual(self.ingest(path, "--profiles", "d.db")[0], 3)

    def test_a_new_default_database_holds_the_shipped_rows_first(self):
        with tempfile.TemporaryDirectory(prefix="troupe-cli-") as home:
            env = {**os.environ, "TROUPE_HOME": home}
            path = self.write("lab.csv", CSV)
            self.run_troupe("ingest", path, env=env)
            told = self.json_of("profiles", "list", env=env)["sources"]
            self.assertGreater(len(told), 10)
            before = self.simulate("fasop-a100-a10")
            after = self.json_of("simulate", "fasop-a100-a10", "--no-store",
                                 env=env)
            self.assertEqual(before["step_time_s"], after["step_time_s"])

    def test_a_named_database_may_stay_empty_but_warns(self):
        self.run_troupe("ingest", self.write("bad.csv", "x\n"), "--profiles",
                        "empty.db", code=1)
        done = self.run_troupe("simulate", "fasop-a100-a10", "--no-store",
                               "--profiles", "empty.db")
        self.assertIn("warning: ", done.stderr)
        self.assertIn("no row of", done.stderr)
        self.assertIn("ingest --shipped", done.stderr)
        self.assertEqual(self.json_of("profiles", "list", "--profiles",
                                      "empty.db")["sources"], [])
        full = self.run_troupe("simulate", "fasop-a100-a10", "--no-store")
        self.assertNotIn("no row of", full.stderr)

    def test_no_folder_is_made_for_a_named_database(self):
        self.refused("ingest", self.write("lab.csv", CSV), "--profiles",
                     self.home / "no" / "folder" / "x.db", names="no/folder")
        self.assertFalse((self.home / "no").exists())

    def test_what_no_device_can_do_is_refused(self):
        row = CSV.split("# device: lab-gpu")[0] + (
            "# table: operators\n"
            "device,op,dtype,dims,time_s\n"
            "t4,gemm,fp16,1x4096x4096x4096,0.00006\n"
            "t4,gemm,fp16,1x4096x4096x4096,0.006\n")
        told = self.json_of("ingest", self.write("t4.csv", row),
                            "--profiles", "t4.db")
        self.assertEqual((told["inserted"], told["rejected"]), (1, 1))
        self.assertIn("more than a t4 has: 65 dense", told["rejections"][0])

    def test_files_that_lead_elsewhere_say_where(self):
        self.refused("ingest", "profiles.db", names="profiles export")
        self.refused("ingest", self.write("run.nsys-rep", b"\x7fNVTX"),
                     names="nsys export --type sqlite")
        foreign = {"format": "someone else's", "accelerator": {}}
        said = self.refused("ingest", self.write("foreign.json", foreign),
                            names="no known format")
        self.assertNotIn("version", said)

    def test_an_unknown_gpu_lists_the_known_ones(self):
        trace = {"deviceProperties": [
            {"id": 0, "name": "NVIDIA H100 80GB HBM3"},
            {"id": 1, "name": "NVIDIA H20-3e"}], "traceEvents": [
            {"ph": "X", "cat": "gpu_memcpy", "ts": 1, "dur": 26,
             "name": "Memcpy HtoD (Pinned -> Device)",
             "args": {"device": device, "bytes": 1048576}}
            for device in (0, 1)]}
        told = self.json_of("ingest", self.write("mixed.json", trace),
                            "--profiles", "mixed.db")
        self.assertEqual((told["inserted"], told["rejected"]), (1, 1))
        for word in ("H20-3e", "--device", "h100-sxm"):
            self.assertIn(word, told["rejections"][0])

    def test_formats_are_listed(self):
        said = self.refused("ingest", "x.csv", "--format", "foo",
                            names=["kineto", "nccl-tests", "vidur-compute"])
        self.assertIn("foo", said)
        text = self.run_troupe("ingest", "--help").stdout
        self.assertIn("nccl-tests", text)

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

    def test_an_own_row_is_the_price_of_its_size(self):
        row = CSV.split("# table: operators")[0] + (
            "# table: collectives\n"
            "device,collective,ranks,per_node,bytes,time_s\n"
            "h100-sxm,all_reduce,8,8,16777216,0.004\n")
        strategy = self.write("mine.json", {
            "format": "troupe.strategy/1", "model": "llama-7b",
            "cluster": "8 x h100-sxm per node", "tp": 8, "seq_len": 2048,
            "micro_batches": 1, "sequence_parallel": False})
        before = self.simulate(strategy)["step_time_s"]
        shutil.copy(self.home / "profiles.db", self.home / "mine.db")
        self.ingest(self.write("mine.csv", row), "--profiles", "mine.db")
        after = self.simulate(strategy, "--profiles", "mine.db")["step_time_s"]
        # 32 layers of four all-reduces of 2048 x 4096 x 2 bytes, 4 ms each.
        self.assertGreater(after - before, 100 * 0.0035)

    def test_the_documented_device_of_ones_own(self):
        text = (ROOT / "profiles" / "FORMAT.md").read_text()
        text = text.split("## Devices that are not shipped")[1]
        blocks = [textwrap.dedent(b) for b in
                  re.findall(r"\n\n((?:    .*\n)+)", text)][:3]
        for name, block in zip(("cluster.json", "desk.csv", "strategy.json"),
                               blocks):
            self.write(name, block)
        self.assertEqual(self.ingest("desk.csv"), (4, 0, 0))
        done = self.simulate("strategy.json")
        self.assertGreater(done["provenance"]["measured"], 0.5)
        # 24 layers of 37 ms of products forward, at least twice that backward.
        self.assertGreater(done["step_time_s"], 24 * 0.037)

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

    def test_list_filters(self):
        every = self.json_of("profiles", "list")["sources"]
        name = every[0]["source"]
        told = self.json_of("profiles", "list", "--source", name)["sources"]
        self.assertEqual(told, every[:1])
        told = self.json_of("profiles", "list", "--device", "b200")["sources"]
        self.assertTrue(told)
        for source in told:
            for devices in source["rows"].values():
                self.assertEqual(list(devices), ["b200"])
        self.refused("profiles", "list", "--source", "none", names="none")

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
