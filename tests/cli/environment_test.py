"""Full disks, interrupts, and several of the program at once."""
import errno
import json
import os
import pathlib
import signal
import sqlite3
import stat
import subprocess
import time
import unittest

from support import BINARY, SHORT, TIMEOUT_S, CliTest


class FullDisk(CliTest):
    """On a device like /dev/full; root gets one of its own, because a
    program that replaced the file would replace the machine's."""

    def setUp(self):
        self.full = pathlib.Path("/dev/full")
        if os.geteuid() == 0:
            self.full = self.home / "full"
            self.full.unlink(missing_ok=True)
            try:
                os.mknod(self.full, stat.S_IFCHR | 0o666, os.makedev(1, 7))
            except OSError as error:
                self.skipTest(f"cannot make a device: {error}")
        try:
            with self.full.open("w") as full:
                full.write("x")
        except OSError as error:
            if error.errno == errno.ENOSPC:
                return
        self.skipTest("there is no device that is always full")

    def tearDown(self):
        self.assertTrue(self.full.is_char_device(), "the device is replaced")

    def to_full(self, *arguments):
        with self.full.open("w") as full:
            done = self.run_troupe(*arguments, code=1, stdout=full)
        self.assertIn("cannot write", done.stderr)

    def test_short_answers(self):
        for arguments in (["simulate", "hspmd-case5"], ["models"],
                          ["check", "hspmd-case5"], ["strategies"],
                          ["simulate", "mixed-1024gpu", "--sweep",
                           "gpus=64,128"]):
            with self.subTest(arguments):
                self.to_full(*arguments)

    def test_answers_longer_than_a_buffer(self):
        for arguments in (["simulate", "mixed-1024gpu", "--json"],
                          ["schedule", "hspmd-case5"],
                          ["convert", "hspmd-case5"],
                          ["profiles", "export"],
                          ["clusters", "--json"]):
            with self.subTest(arguments):
                self.to_full(*arguments)

    def test_help(self):
        self.to_full("--help")

    def test_files(self):
        for arguments in (["schedule", "hspmd-case5", "-o"],
                          ["convert", "hspmd-case5", "-o"],
                          ["profiles", "export", "-o"],
                          ["simulate", "hspmd-case5", "--no-store",
                           "--report"]):
            with self.subTest(arguments):
                self.refused(*arguments, self.full, names=str(self.full))

    def test_a_reader_that_leaves_does_no_harm(self):
        """As `troupe ... | head -1`: silence or a message, no abort."""
        process = self.start("simulate", "mixed-1024gpu", "--json")
        process.stdout.readline()
        process.stdout.close()
        process.stdout = None
        self.assertIn(process.wait(TIMEOUT_S), (0, 1, -signal.SIGPIPE))

    def start(self, *arguments):
        process = subprocess.Popen(
            [BINARY, *arguments], stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, cwd=self.home, env=self.environment)
        self.addCleanup(process.kill)
        return process


class Devices(CliTest):
    """A pipe or a device as output is written to, never replaced."""

    def written_to(self, *arguments):
        pipe = self.home / "pipe"
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        self.run_troupe(*arguments, pipe, "--set", "micro_batches=1",
                        "--set", "dp=1", "--set", "pp=1")
        self.assertTrue(pipe.is_fifo(), "the pipe is replaced by a file")
        self.assertTrue(os.read(reader, 10))

    def test_report(self):
        path = self.write("short.json", {**SHORT, "dp": 1, "pp": 1})
        self.written_to("simulate", path, "--no-store", "--report")

    def test_trace(self):
        path = self.write("short.json", {**SHORT, "dp": 1, "pp": 1})
        self.written_to("simulate", path, "--no-store", "--trace")

    def test_a_trace_and_an_answer_to_one_file(self):
        """Standard output is added to, wherever it leads."""
        with (self.home / "both.txt").open("w") as both:
            self.run_troupe("simulate", "hspmd-case5", "--no-store", "--json",
                            "--trace", "/dev/stdout", stdout=both)
        text = (self.home / "both.txt").read_text()
        trace, end = json.JSONDecoder().raw_decode(text)
        self.assertTrue(trace["traceEvents"])
        self.assertGreater(json.loads(text[end:])["step_time_s"], 0)


class Permissions(CliTest):
    def setUp(self):
        if os.geteuid() == 0:
            self.skipTest("root writes everywhere")
        self.locked = self.home / "locked"
        self.locked.mkdir()
        self.locked.chmod(0o500)
        self.addCleanup(self.locked.rmdir)
        self.addCleanup(self.locked.chmod, 0o700)

    def test_a_folder_that_is_read_only(self):
        for arguments in (
                ["--report", "locked/r.html"], ["--trace", "locked/t.json"],
                ["--results", "locked/r.db"]):
            self.refused("simulate", "hspmd-case5", *arguments,
                         names="locked")
        self.refused("simulate", "hspmd-case5", names="locked", env={
            **self.environment, "TROUPE_HOME": str(self.locked)})


class Homes(CliTest):
    def test_a_home_that_cannot_be(self):
        self.write("file", "")
        for home in ("/proc/troupe", str(self.home / "file"),
                     str(self.home / "file" / "below")):
            self.refused("simulate", "hspmd-case5", names=home,
                         env={**self.environment, "TROUPE_HOME": home})

    def test_a_home_that_is_not_there_is_made(self):
        home = self.home / "new" / "and" / "deep"
        self.run_troupe("simulate", "hspmd-case5",
                        env={**self.environment, "TROUPE_HOME": str(home)})
        self.assertTrue((home / "results.db").exists())


class Concurrency(CliTest):
    def start(self, *arguments):
        process = subprocess.Popen(
            [BINARY, *map(str, arguments)], stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, cwd=self.home, env=self.environment,
            encoding="utf-8")
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.kill)
        return process

    def end(self, process):
        _, said = process.communicate(timeout=TIMEOUT_S)
        self.assertEqual(process.returncode, 0, said)

    def intact(self, name):
        with sqlite3.connect(self.home / name) as db:
            found = db.execute("pragma integrity_check").fetchone()
            self.assertEqual(found, ("ok",))
            self.assertEqual(db.execute(
                "pragma foreign_key_check").fetchall(), [])
        db.close()

    def test_runs_kept_at_once_are_all_kept(self):
        """Also the first, which makes the store."""
        for process in [self.start("simulate", "hspmd-case5", "--results",
                                   "many.db") for _ in range(6)]:
            self.end(process)
        runs = self.json_of("results", "list", "--results",
                            "many.db")["runs"]
        self.assertEqual(len({r["id"] for r in runs}), 6)
        self.intact("many.db")

    def test_a_database_made_at_once_by_several_holds_rows_once(self):
        for process in [self.start("ingest", "--shipped", "--profiles",
                                   "made.db") for _ in range(3)]:
            self.end(process)
        texts = [self.run_troupe("profiles", "export", "--profiles",
                                 name).stdout
                 for name in ("made.db", "profiles.db")]
        self.assertEqual(sorted(texts[0].splitlines()),
                         sorted(texts[1].splitlines()))
        self.intact("made.db")

    def test_an_ingest_that_is_killed_leaves_all_or_nothing(self):
        whole = self.json_of("ingest", "--shipped", "--profiles",
                             "whole.db")["inserted"]
        for delay in (0.0, 0.01, 0.02, 0.04, 0.08):
            process = self.start("ingest", "--shipped", "--profiles",
                                 "killed.db")
            time.sleep(delay)
            process.kill()
            process.wait(TIMEOUT_S)
        told = self.json_of("ingest", "--shipped", "--profiles", "killed.db")
        self.assertEqual(told["inserted"] + told["unchanged"], whole)
        self.intact("killed.db")


class Interrupt(Concurrency):
    def interrupted(self, *arguments, after=0.4):
        process = self.start(*arguments)
        time.sleep(after)
        if process.poll() is not None:
            self.skipTest("this machine was done before the interrupt")
        process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        _, said = process.communicate(timeout=TIMEOUT_S)
        self.assertEqual(process.returncode, 130, said)
        self.assertIn("interrupted", said)
        self.assertLess(time.monotonic() - sent, 10)

    def test_a_long_sweep(self):
        values = ",".join(str(n) for n in range(1000, 3000))
        path = self.write("short.json", SHORT)
        self.interrupted("simulate", path, "--sweep",
                         f"micro_batches={values}", "--sweep-out", "s.csv")
        self.assertFalse((self.home / "s.csv").exists())
        self.intact("profiles.db")

    def test_one_long_simulation(self):
        path = self.write("long.json", {**SHORT, "micro_batches": 200_000})
        self.interrupted("simulate", path, after=0.3)
        self.run_troupe("simulate", "hspmd-case5")
        self.intact("results.db")

    def test_a_long_emulation(self):
        path = self.write("short.json", {**SHORT, "dp": 2, "pp": 2})
        self.interrupted("emulate", path, "--shrink", "--verify",
                         "--steps", 1000, after=1.5)

    def test_termination_leaves_the_store_whole(self):
        self.run_troupe("simulate", "hspmd-case5")
        path = self.write("long.json", {**SHORT, "micro_batches": 200_000})
        process = self.start("simulate", path)
        time.sleep(0.2)
        process.terminate()
        process.communicate(timeout=TIMEOUT_S)
        self.intact("results.db")
        self.assertTrue(self.json_of("results", "list")["runs"])


if __name__ == "__main__":
    unittest.main()
