"""Command lines that are wrong, and files that are not what they should be."""
import sqlite3
import unittest

from support import CliTest


class Arguments(CliTest):
    def test_help_and_version_are_answers(self):
        text = self.run_troupe("--help").stdout
        commands = ["simulate", "schedule", "check", "convert", "ingest",
                    "profiles", "results", "compare", "models", "clusters",
                    "strategies", "validate"]
        for command in commands:
            self.assertIn(command, text)
            self.assertIn("Usage", self.run_troupe(command, "--help").stdout)
        self.assertRegex(self.run_troupe("--version").stdout, r"\d+\.\d+")

    def test_misuse_is_bad_input(self):
        for arguments, names in (
                ([], "subcommand"), (["simulate"], "strategy"),
                (["compare", "r1"], "b is required"),
                (["results"], ""), (["profiles"], ""),
                (["results", "show"], "id"),
                (["results", "list", "--most", "0"], "0"),
                (["results", "list", "--most", "-1"], "-1"),
                (["simulate", "mixed-1024gpu", "--nosuch"], "--nosuch"),
                (["simulate", "mixed-1024gpu", "--detail", "all"], "all"),
                (["simulate", "mixed-1024gpu", "--keep", "x"], "x"),
                (["simulate", "mixed-1024gpu", "--reserve-gib", "-1"], "-1"),
                (["simulate", "mixed-1024gpu", "--reserve-gib", "x"], "x"),
                (["simulate", "mixed-1024gpu", "--case", "1.5"], "--case"),
                (["simulate", "mixed-1024gpu", "--case",
                  "99999999999999999999"], "--case"),
                (["convert", "mixed-1024gpu", "--to", "x"], "--to"),
                (["models", "a", "b"], "b")):
            with self.subTest(arguments):
                self.refused(*arguments, names=names)

    def test_a_phase_that_is_not_there_is_told_with_those_that_are(self):
        self.refused("simulate", "hotspa-7b-8gpu", "--phase", "x",
                     names=["'long'", "'short'"])
        self.refused("simulate", "hspmd-case5", "--phase", "x",
                     names="without a name")

    def test_a_mistyped_command_is_named(self):
        self.refused("simulat", "mixed-1024gpu", names="simulat")

    def test_reserve_must_be_a_number(self):
        self.refused("simulate", "mixed-1024gpu", "--reserve-gib", "nan",
                     names="nan")

    def test_a_case_of_a_file_with_one_strategy_is_refused(self):
        self.refused("simulate", "mixed-1024gpu", "--case", "3",
                     names="case")

    def test_a_negative_case_is_refused(self):
        path = self.seeds("hydraulis/case_study.json")
        self.refused("check", path, "--from", "hydraulis", "--case", "-5",
                     names="-5")

    def test_bad_set(self):
        for pair, names in (
                ("dp", "field=value"), ("=1", "field=value"),
                ("dp=", "/dp"), ("dp=0", ["/dp", "0"]), ("dp=-4", "-4"),
                ("dp=NaN", "NaN"), ("dp=x", '"x"'), ("dp=[1", "/dp"),
                ("dpp=4", ["/dpp", "'dp'"]), ("dp.x=1", "dp"),
                ("pipelines.0.stages.0=1", "pipelines"), ("..=1", ".."),
                ("micro_batches=1e99", "/micro_batches"),
                ("model=nosuch", "nosuch"), ("cluster=nosuch", "nosuch"),
                ("tp=" + "9" * 400, "/tp")):
            with self.subTest(pair[:40]):
                self.refused("check", "gpt3-175b-1024", "--set", pair,
                             names=names)

    def test_missing_files_and_folders(self):
        for arguments in (["simulate"], ["check"], ["convert"],
                          ["schedule"], ["models"], ["clusters"], ["ingest"],
                          ["simulate", "mixed-1024gpu", "--model"],
                          ["simulate", "mixed-1024gpu", "--cluster"]):
            with self.subTest(arguments):
                self.refused(*arguments, "absent.json", names="absent.json")
                self.refused(*arguments, str(self.home), names="folder")
                if len(arguments) == 1 and arguments[0][-1] != "s":
                    self.refused(*arguments, "")

    def test_outputs_that_cannot_be_written(self):
        folder = str(self.home)
        for arguments in (
                ["simulate", "hspmd-case5", "--no-store", "--report"],
                ["simulate", "hspmd-case5", "--no-store", "--trace"],
                ["schedule", "hspmd-case5", "-o"],
                ["convert", "hspmd-case5", "-o"],
                ["profiles", "export", "-o"]):
            with self.subTest(arguments):
                self.refused(*arguments, "absent/x.json",
                             names="absent/x.json")
                self.refused(*arguments, folder, names=folder)
                self.refused(*arguments, "/proc/x.json",
                             names="/proc/x.json")

    def test_a_phase_that_is_a_path_writes_no_file_elsewhere(self):
        self.run_troupe("convert", "hotspa-7b-8gpu", "-o", "phases.json")
        text = (self.home / "phases.json").read_text()
        self.write("phases.json", text.replace('"long"', '"../../long"'))
        self.run_troupe("simulate", "phases.json", "--no-store", "--report",
                        "inner.html", code=(0, 1))
        self.assertFalse(list(self.home.parent.glob("long*.html")))


class Databases(CliTest):
    def commands(self, path):
        """Those that read it as profiles, and those as runs."""
        return ([["profiles", "list", "--profiles", path],
                 ["simulate", "hspmd-case5", "--profiles", path],
                 ["ingest", "--shipped", "--profiles", path]],
                [["results", "list", "--results", path],
                 ["results", "show", "last", "--results", path],
                 ["compare", "r1", "r1", "--results", path],
                 ["simulate", "hspmd-case5", "--results", path]])

    def kept(self):
        self.run_troupe("simulate", "hspmd-case5")
        return self.home / "results.db"

    def refuse_both(self, profiles, runs, names):
        first, second = self.commands(profiles)[0], self.commands(runs)[1]
        for arguments in first + second:
            with self.subTest(arguments):
                self.refused(*arguments, names=names)

    def test_of_a_newer_version(self):
        for source in (self.home / "profiles.db", self.kept()):
            path = self.write("new-" + source.name, source.read_bytes())
            with sqlite3.connect(path) as db:
                db.execute("pragma user_version = 999")
            db.close()
        self.refuse_both("new-profiles.db", "new-results.db", "999")

    def test_a_text_file(self):
        path = self.write("text.db", "good morning\n" * 1000)
        before = path.read_bytes()
        self.refuse_both("text.db", "text.db", "text.db")
        self.assertEqual(path.read_bytes(), before)

    def test_a_database_of_someone_else(self):
        with sqlite3.connect(self.home / "other.db") as db:
            db.execute("create table runs (id, name)")
        db.close()
        self.refuse_both("other.db", "other.db", "other.db")

    def test_the_one_for_the_other(self):
        self.kept()
        self.refuse_both("results.db", "profiles.db", ".db")

    def test_truncated(self):
        for source in (self.home / "profiles.db", self.kept()):
            data = source.read_bytes()
            for size in (50, 5000, len(data) // 2, len(data) - 4096):
                self.write("cut-" + source.name, data[:size])
                index = 0 if "profiles" in source.name else 1
                for arguments in self.commands("cut-" + source.name)[index]:
                    self.refused(*arguments, names="cut-")

    def test_scribbled_over(self):
        """A damaged page is an error or unread, never a crash."""
        for source in (self.home / "profiles.db", self.kept()):
            data = bytearray(source.read_bytes())
            for page in range(4096, len(data), 16 * 4096):
                data[page:page + 512] = b"\xa5" * 512
            path = self.write("torn-" + source.name, bytes(data))
            index = 0 if "profiles" in path.name else 1
            for arguments in self.commands(path.name)[index]:
                self.run_troupe(*arguments, code=(0, 1))

    def test_a_folder_and_a_place_that_cannot_be(self):
        (self.home / "folder.db").mkdir(exist_ok=True)
        self.refuse_both("folder.db", "folder.db", "folder.db")
        self.refuse_both("/proc/x.db", "/proc/x.db", "/proc/x.db")


if __name__ == "__main__":
    unittest.main()
