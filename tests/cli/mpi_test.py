"""Emulation under MPI: the same numbers as in one process, and an end with
one message whatever happens to a rank."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time
import unittest

from support import BINARY, TIMEOUT_S, CliTest

MPIEXEC = os.environ.get("TROUPE_MPIEXEC", "")
SHORT = {"format": "troupe.strategy/1", "model": "gpt2-345m",
         "cluster": "a800-32", "micro_batches": 4, "micro_batch_size": 1,
         "seq_len": 1024}
EVEN = {**SHORT, "dp": 2, "tp": 2, "pp": 2, "zero": 1}
RING = {**SHORT, "tp": 2, "cp": 2}
FOUR = {**SHORT, "tp": 2, "pp": 2}
BOTH = {**SHORT, "pipelines": [
    {"stages": [{"devices": f"{d}-{d + 1}", "layers": 12}
                for d in (first, first + 2)]} for first in (0, 4)]}
UNEQUAL = {key: SHORT[key] for key in ("format", "model", "cluster",
                                       "seq_len")}
UNEQUAL["pipelines"] = [
    {"micro_batches": 3, "stages": [
        {"devices": "0-1", "layers": 10}, {"devices": "2", "layers": 14}]},
    {"micro_batches": 2, "stages": [{"devices": "4-5", "layers": 24}]}]


def processes(mark):
    """Ids of processes whose environment has `mark`."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            pass  # it has ended, or is another user's
    return found


class WithoutMpi(CliTest):
    @unittest.skipIf(MPIEXEC, "MPI is built in")
    def test_says_so(self):
        self.refused("emulate", self.write("s.json", FOUR), "--shrink",
                     "--mpi", names=("built without MPI", "TROUPE_MPI"))


@unittest.skipUnless(MPIEXEC, "built without MPI")
@unittest.skipUnless(pathlib.Path(MPIEXEC).exists() or shutil.which(MPIEXEC),
                     f"{MPIEXEC} is not here")
class Mpi(CliTest):
    def start(self, count, strategy, *arguments, launcher=()):
        """`launcher` stands before the program."""
        self.mark = f"TROUPE_TEST_MARK={os.getpid()}-{time.monotonic_ns()}"
        name, value = self.mark.split("=")
        # Open MPI refuses root and more ranks than cores unless told.
        return subprocess.Popen(
            [MPIEXEC, "-n", str(count), *launcher, BINARY, "emulate",
             str(strategy), "--shrink", "--mpi", *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.home,
            stdin=subprocess.DEVNULL, encoding="utf-8", errors="replace",
            env={**self.environment, name: value,
                 "OMPI_ALLOW_RUN_AS_ROOT": "1",
                 "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                 "OMPI_MCA_rmaps_base_oversubscribe": "1"})

    def end(self, process, limit=2 * TIMEOUT_S):
        """Its output, error and seconds; fails when a process is left."""
        start = time.monotonic()
        try:
            out, error = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            for left in processes(self.mark):
                os.kill(left, signal.SIGKILL)
            process.communicate()
            self.fail(f"no end within {limit} s")
        took = time.monotonic() - start
        for _ in range(50):
            if not processes(self.mark):
                break
            time.sleep(0.1)
        self.assertEqual(processes(self.mark), [], "processes are left")
        return out, error, took

    def mpi(self, count, strategy, *arguments, code=0):
        process = self.start(count, strategy, *arguments)
        out, error, _ = self.end(process)
        self.assertEqual(process.returncode, code, error)
        return out, error

    def check_same(self, count, strategy, *arguments):
        path = strategy
        if isinstance(strategy, dict):
            path = self.write("s.json", strategy)
        arguments = (*arguments, "--json")
        here = json.loads(self.run_troupe("emulate", path, "--shrink",
                                          *arguments).stdout)
        there = json.loads(self.mpi(count, path, *arguments)[0])
        for answer in (here, there):
            for key in ("wall_time_s", "wall_steps_s"):
                answer.pop(key)
            answer.pop("run", None)
        self.assertEqual(here, there)  # bit for bit
        self.assertEqual(there["ranks"], count)
        return there

    def test_tensor_pipeline_and_data_parallelism(self):
        answer = self.check_same(8, EVEN, "--verify")
        self.assertTrue(answer["verify"]["ok"])

    def test_context_parallel_rings_and_the_clock(self):
        answer = self.check_same(4, RING, "--verify", "--clock", "virtual")
        self.assertTrue(answer["verify"]["ok"])
        self.assertTrue(answer["clock_agrees"])
        self.assertGreater(answer["virtual_step_time_s"], 0)

    def test_shards_are_read_and_gradients_sent_inside_blocks(self):
        for zero in (2, 3):
            answer = self.check_same(5, {**UNEQUAL, "zero": zero}, "--verify",
                                     "--clock", "virtual")
            self.assertTrue(answer["verify"]["ok"])
            self.assertTrue(answer["clock_agrees"])

    def test_whole_steps_with_noise_and_slow_ranks(self):
        path = self.write("phases.json", {
            "format": "troupe.strategy/1", "model": "hotspa-7b",
            "cluster": "a800-8", "zero": 1, "phases": [
                {"name": "long", "rule": {"seq_len": [4096, 8192]},
                 "seq_len": 8192, "dp": 1, "tp": 2, "pp": 2,
                 "micro_batches": 2},
                {"name": "short", "rule": {"seq_len": [0, 4096]},
                 "seq_len": 4096, "dp": 2, "tp": 2, "pp": 1,
                 "micro_batches": 1}]})
        other = self.write("other.json", {**FOUR, "model": "hotspa-7b",
                                          "cluster": "a800-8"})
        answer = self.check_same(4, str(path), "--clock", "virtual",
                                 "--steps", "1", "--noise", "5%", "--slow",
                                 "3:1.4", "--then", other)
        self.assertTrue(answer["clock_agrees"])
        self.assertEqual(len(answer["virtual_steps_s"]), 2)
        self.assertEqual(len(answer["transitions"]), 1)

    def test_unequal_pipelines_in_single_precision(self):
        self.check_same(5, UNEQUAL, "--precision", "fp32")

    def test_a_trace_has_the_operators_of_all_processes(self):
        path = self.write("s.json", FOUR)
        arguments = ("--clock", "virtual", "--no-store", "--trace")
        self.run_troupe("emulate", path, "--shrink", *arguments, "here.json")
        self.mpi(4, path, *arguments, "there.json")
        here = (self.home / "here.json").read_text()
        self.assertEqual(here, (self.home / "there.json").read_text())
        self.assertIn("qkv.weight_gradient", here)

    def test_a_change_of_strategy_with_other_devices(self):
        other = self.write("t.json", FOUR)
        self.check_same(8, EVEN, "--then", other, "--steps", "1")

    def test_lost_devices(self):
        """Their processes stay until the end, however long that takes."""
        other = self.write("t.json", FOUR)
        path = self.write("s.json", BOTH)
        lose = ("--then", other, "--lose", "4-7")
        self.check_same(8, path, *lose, "--verify")
        self.mpi(8, path, *lose, "--patience", "8", "--steps", "50")
        _, error = self.mpi(8, self.write("z.json", {**BOTH, "zero": 1}),
                            *lose, code=2)
        self.assertEqual(error.count("held only by device"), 1, error)

    def test_a_trace_with_checkpoints_and_peers(self):
        from traces_test import LAST, LOSSES, ONE, SAVES, TWO, trace
        for ranks, losses, options in ((6, LOSSES, SAVES),
                                       (5, LOSSES[:2], {"peers": 1})):
            answer = self.check_same(ranks, trace([TWO, ONE, LAST], losses,
                                                  options),
                                     "--verify", "--steps", "1")
            self.assertTrue(answer["verify"]["ok"])

    def test_a_checkpoint_is_saved_and_resumed(self):
        path = self.write("s.json", EVEN)
        self.run_troupe("emulate", path, "--shrink", "--save", "here.st")
        self.mpi(8, path, "--save", "there.st")
        self.assertEqual((self.home / "here.st").read_bytes(),
                         (self.home / "there.st").read_bytes())
        self.check_same(4, FOUR, "--load", "there.st")

    def test_only_rank_0_speaks(self):
        out, error = self.mpi(4, self.write("s.json", FOUR))
        self.assertEqual(out.count("step 1 "), 1)
        self.assertEqual(error.count("devices idle"), 1, error)

    def test_another_number_of_processes_is_refused(self):
        path = self.write("s.json", FOUR)
        _, error = self.mpi(3, path, code=1)
        self.assertEqual(error.count("has 4 ranks but MPI has started 3 "
                                     "processes; run: mpirun -n 4"), 1, error)
        self.refused("emulate", path, "--shrink", "--mpi",
                     names="has 4 ranks but MPI has started 1 process; run")

    def test_bad_input_is_told_once(self):
        path = self.write("s.json", FOUR)
        _, error = self.mpi(2, path, "--data", "nothing.txt", code=1)
        self.assertEqual(error.count("troupe: "), 1, error)
        self.refused("emulate", path, "--shrink", "--patience", "5",
                     names="--mpi")

    def test_input_that_one_rank_lacks(self):
        (self.home / "text.txt").write_text("some text\n\nand more of it\n")
        path = self.write("s.json", FOUR)
        script = self.write("run.sh", "#!/bin/sh\n"
                            'if [ "$OMPI_COMM_WORLD_RANK$PMI_RANK" = 2 ]; '
                            "then mkdir -p away; cd away; fi\n"
                            'exec "$@"\n')
        process = self.start(4, path, "--data", "text.txt",
                             launcher=("/bin/sh", str(script)))
        _, error, _ = self.end(process)
        self.assertEqual(process.returncode, 1, error)
        self.assertIn("troupe: rank 2: ", error)
        self.assertIn("text.txt", error)

    def faulty(self, fault, message, *launcher):
        patience = 8
        process = self.start(4, self.write("s.json", FOUR), "--patience",
                             patience, "--fault", fault, launcher=launcher)
        _, error, took = self.end(process)
        self.assertNotEqual(process.returncode, 0, error)
        self.assertRegex(error, message)
        # Starting and ending processes takes its time on a busy machine.
        self.assertLess(took, patience + 20)
        return error

    def test_a_rank_that_dies(self):
        self.faulty("1:2:die", "troupe: rank 1: dies at the start of step 2")

    def test_a_rank_that_hangs(self):
        error = self.faulty("2:2:hang", r"troupe: rank 2 does not answer; "
                            r"rank \d waits .*--patience")
        self.assertEqual(error.count("troupe: "), 1, error)

    def test_a_message_of_another_size(self):
        error = self.faulty("3:1:size",
                            r"troupe: rank 3 (brings|sent) \d+ bytes to ")
        self.assertEqual(error.count("bytes to "), 1, error)

    def test_a_rank_with_another_schedule(self):
        self.faulty("2:1:hash", r"schedules differ: rank 2 has a fault")

    def test_a_rank_that_is_gone_when_the_launcher_looks_away(self):
        """mpirun ends a job in which a process fails; here it is told not to,
        so the others find out by themselves."""
        version = subprocess.run([MPIEXEC, "--version"], text=True,
                                   capture_output=True).stdout
        if not re.search(r"(Open MPI|OpenRTE)\) 4\.", version):
            self.skipTest("needs an option of Open MPI 4")
        self.faulty("1:2:die", "troupe: rank 1 does not answer; rank . waits",
                    "--mca", "orte_abort_on_non_zero_status", "0")

    def test_a_rank_that_is_killed(self):
        process = self.start(4, self.write("s.json", FOUR), "--steps", "2000")
        ranks = []
        while len(ranks) < 4 and process.poll() is None:
            time.sleep(0.2)
            ranks = [p for p in processes(self.mark) if self.is_rank(p)]
        time.sleep(1)
        os.kill(ranks[0], signal.SIGKILL)
        _, error, took = self.end(process)
        self.assertNotEqual(process.returncode, 0, error)
        self.assertRegex(error, "rank|signal")
        self.assertLess(took, 30)

    @staticmethod
    def is_rank(process):
        try:
            executable = os.readlink(f"/proc/{process}/exe")
        except OSError:
            return False
        return executable == os.path.realpath(BINARY)


if __name__ == "__main__":
    unittest.main()
