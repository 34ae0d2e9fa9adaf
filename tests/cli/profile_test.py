"""troupe profile on the processor: interrupted, resumed, refused."""
import json
import signal
import sqlite3
import subprocess
import time
import unittest

from support import BINARY, TIMEOUT_S, CliTest

TINY = {"format": "troupe.model/1", "name": "tiny", "layers": 2,
        "hidden": 256, "heads": 4, "ffn": 512, "vocab": 512, "seq_len": 4096}


class Profile(CliTest):
    def rows(self, name):
        with sqlite3.connect(self.home / name) as db:
            return db.execute("select count(*) from operators").fetchone()[0]

    def command(self, *more):
        model = self.write("tiny.json", TINY)
        return ["profile", "--device", "cpu", "--model", model, *more]

    def interrupted(self, seconds, number, *more):
        """Answer and exit code of a run that gets a signal."""
        run = subprocess.Popen(
            [BINARY, *self.command("--budget", "600s", "--accuracy", "1e-9",
                                   "--seq-len", "128,1024,16384",
                                   "--tp", "1", *more)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=self.home, env=self.environment)
        time.sleep(seconds)
        run.send_signal(number)
        out, err = run.communicate(timeout=TIMEOUT_S)
        self.assertEqual((run.returncode, err), (130, ""))
        return out

    def test_an_interruption_stores_and_reports_what_was_measured(self):
        # As long as it takes until something was measured.
        for turn in range(6):
            name = f"int{turn}.db"
            told = json.loads(self.interrupted(2**turn, signal.SIGINT,
                                               "--profiles", name, "--json"))
            self.assertTrue(told["interrupted"])
            if told["measured"] > 0:
                break
        self.assertGreater(told["measured"], 0)
        self.assertEqual(self.rows(name), told["measured"])
        self.assertEqual(len(told["operators"]), told["measured"])
        text = self.interrupted(0.5, signal.SIGTERM, "--profiles", name)
        self.assertIn("\ninterrupted in ", text)

    def test_a_second_run_tells_what_the_first_measured(self):
        more = ["--seq-len", "32", "--tp", "1", "--budget", "5s",
                "--accuracy", "1e-9", "--profiles", "two.db", "--only",
                "operators"]
        first = self.json_of(*self.command(*more))
        self.assertGreater(first["measured"], 0)
        self.assertEqual(first["layers_not_reached"], 0)
        second = self.json_of(*self.command(*more))
        self.assertEqual(second["remembered"], first["measured"])
        known = {op["operator"]: op for op in second["operators"]}
        for op in first["operators"]:
            again = known[op["operator"]]
            self.assertTrue(again["known"])
            self.assertAlmostEqual(again["time_s"] / op["time_s"], 1, 4)
            self.assertIsNone(again["warm_s"])
            if op["operator"].startswith("gemm"):
                self.assertIn(op["product"], (
                    "forward", "input_gradient", "weight_gradient"))
            for share in ("share_of_matrix_rate", "share_of_bandwidth"):
                self.assertLessEqual(op[share] or 0, 1)
        self.assertEqual(len(second["layers"]), 2)
        for layer in second["layers"]:
            self.assertTrue(layer["known"])
            self.assertIsNone(layer["sum_of_warm_operators_s"])
        for told in (first, second):
            self.assertEqual(told["wanted"], sum(told[k] for k in (
                "measured", "remembered", "within_accuracy", "too_large",
                "not_reached")) + len(told["refused"]))

    def test_progress_is_told_without_a_terminal_when_asked(self):
        more = ["--seq-len", "32", "--budget", "1s", "--only", "operators",
                "--profiles", "p.db"]
        self.assertEqual(self.run_troupe(*self.command(*more)).stderr, "")
        told = self.run_troupe(*self.command(*more, "--progress")).stderr
        self.assertIn("profile ceilings", told)

    def test_defaults_hold_the_required_models(self):
        told = self.run_troupe("profile", "--help").stdout
        for name in ("llama-7b", "llama-13b", "hspmd-32b", "llama2-70b"):
            self.assertIn(name, told)

    def test_wrong_values_are_refused(self):
        for option, value in (("--budget", "soon"), ("--budget", "0s"),
                              ("--accuracy", "2"),
                              ("--tp", "0"), ("--dtype", "fp16")):
            self.refused(*self.command(option, value), names=value)
        self.refused("profile", "--device", "tpu:0", names="tpu:0")


if __name__ == "__main__":
    unittest.main()
