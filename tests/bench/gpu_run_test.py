"""bench/gpu/run_all.sh with programs that only pretend: whatever of them
hangs, crashes or lies, the results of the others must come back.

    gpu_run_test.py SOURCE_DIR"""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

SOURCE = pathlib.Path(sys.argv.pop(1) if len(sys.argv) > 1 else ".").resolve()

CHECK = """#!/usr/bin/env bash
case "$*" in
  *gemm-best*) [ "$FAKE" = nogemm ] && exit 1
    echo '{"m":1,"n":2,"k":3,"form":"forward","chosen_s":1,"best_s":0.99,"ratio":0.99}'
    exit 0 ;;
  *attention-bodies*)
    echo '{"attention":"1x8","backward":false,"deterministic":true,"own_s":1e-3,"cudnn_s":9e-4,"by_cudnn":true,"refusal":""}'
    exit 0 ;;
  *--help*) exit 1 ;;
esac
echo '{"gpu":"fake","seed":1,"offset":0}'
echo '{"begin":"gemm 1"}'
echo '{"case":"gemm 1","dtype":"bf16","error":0,"tolerance":1,"ok":true,"note":""}'
echo '{"begin":"norm 7"}'
case "$FAKE,$*" in
  hang,*^gemm*) ;;
  hang,*) sleep 1000 ;;
  crash,*) kill -SEGV $$ ;;
esac
echo '{"wrong":0,"count":1}'
"""

TROUPE = """#!/usr/bin/env bash
case "$*" in
  --version) echo fake 1; exit 0 ;;
  *export*) cp "${@: -3:1}" "${!#}"; exit 0 ;;
esac
command=$1 strategy=$2
while [ $# -gt 0 ]; do
  [ "$1" = --profiles ] && db=$2
  [ "$1" = --only ] && only=$2
  shift
done
[ -n "$only" ] && echo "# rows of $only" >>"$db"
[ "$FAKE$only" = profilecrashoperators ] && { echo '{"half'; kill -ABRT $$; }
[ "$FAKE$only" = linkshanglinks ] && sleep 1000
if [ "$command" = emulate ]; then
  [ "$FAKE" = traininghang ] && sleep 1000
  case "$strategy" in
    *speed*) echo '{"ranks":1,"wall_steps_s":[9,9,0.2,0.2],
      "tokens_per_step":4096,"model_flops_per_step":1e14}' ;;
    *) echo '{"ranks":8,"verify":{"ok":true,"bound":1e-4,
      "max_relative_error":{"gradients":2e-6,"loss":1e-7}}}' ;;
  esac
elif [ "$command" = simulate ]; then
  echo '{"step_time_s":0.21}'
elif [ "$only" = links ]; then
  echo '{"copies":[{"route":"device","bytes":4096,"timing":{"median_s":1e-6}},
    {"route":"device","bytes":4194304,"timing":{"median_s":1e-5}}],
    "collectives":[],"notes":["one GPU"]}'
else
  echo '{"name":"Fake","measured":1,"expected_error":0.01,
    "ceilings":{"matrix_flops_per_s":1e15,"copy_bytes_per_s":3e12},
    "operators":[{"operator":"add 4096x4096 bf16","share_of_bandwidth":0.9,
    "time_s":1e-4}],"layers":[{"model":"m","backward":false,"micro_batch":1,
    "seq_len":8,"whole":{"median_s":1e-3},"sum_over_whole":1.01,
    "operators_guessed":0}]}'
fi
"""


class RunAll(unittest.TestCase):
    def run_all(self, fake, troupe=TROUPE, total="60", archive=False):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        root = pathlib.Path(folder.name)
        for name, text in (("kernel_check", CHECK), ("troupe", troupe)):
            if text is None:
                continue
            root.joinpath(name).write_text(text)
            root.joinpath(name).chmod(0o755)
        out = root / "out"
        programs = root
        if archive:
            programs = root / "pack.tar.gz"
            subprocess.run(["tar", "-C", root, "-czf", programs,
                            "kernel_check", "troupe"], check=True)
            for name in ("kernel_check", "troupe"):
                root.joinpath(name).unlink()
        result = subprocess.run(
            ["bash", SOURCE / "bench/gpu/run_all.sh", out, programs],
            env={**os.environ, "FAKE": fake, "LIMITS": "3", "BUDGET": "100",
                 "TOTAL": total},
            capture_output=True, text=True, timeout=100, check=False)
        files = sorted(p.name for p in out.iterdir())
        self.assertLessEqual(len(files), 8, files)
        summary = out / "summary.txt"
        return (result.returncode, files,
                summary.read_text() if summary.exists() else "",
                (out / "log.txt").read_text())

    def row(self, summary, begin):
        rows = [l for l in summary.splitlines() if l.startswith(begin)]
        self.assertTrue(rows, summary)
        return rows[0]

    def test_everything_is_in_the_summary(self):
        code, files, summary, log = self.run_all("ok")
        self.assertEqual(code, 0, log)
        for name in ("kernel_check.jsonl", "profile.json", "measured.csv",
                     "bodies.jsonl", "links.json", "summary.txt"):
            self.assertIn(name, files)
        self.assertIn("1/1", self.row(summary, "operators equal"))
        self.assertIn("met", self.row(summary, "gemm, of cuBLASLt"))
        self.assertIn("90 %", self.row(summary, "attention forward, speed"))
        self.assertIn("1x8: own 1.000 ms, cuDNN 0.900 ms, by cuDNN", summary)
        self.assertIn("90 %", self.row(summary, "add, of copy"))
        self.assertIn("1.0 %", self.row(summary, "layer against"))
        self.assertIn("attention_forward", summary)
        self.assertIn("copy device", summary)
        self.assertIn("note: one GPU", summary)
        self.assertIn("met", self.row(summary, "training: grid"))
        self.assertIn("200.0 ms a step", summary)
        self.assertIn("+5.0 %", self.row(summary, "simulated step of speed"))

    def test_hanging_training_loses_no_operator(self):
        code, files, summary, _ = self.run_all("traininghang", total="40")
        self.assertEqual(code, 1)
        self.assertIn("MISSED", self.row(summary, "training: ring"))
        self.assertIn("90 %", self.row(summary, "add, of copy"))
        self.assertIn("copy device", summary)

    def test_programs_may_come_as_an_archive(self):
        code, files, summary, log = self.run_all("ok", archive=True)
        self.assertEqual(code, 0, log)
        self.assertIn("measured.csv", files)
        self.assertIn("met", self.row(summary, "gemm, of cuBLASLt"))

    def test_a_hanging_kernel_costs_only_its_family(self):
        code, _, summary, log = self.run_all("hang")
        self.assertEqual(code, 1)
        self.assertIn("ran over", log)
        self.assertIn("MISSED", self.row(summary, "operators equal"))
        self.assertIn("stopped in: norm 7", summary)
        self.assertNotIn("MISSED", self.row(summary, "  gemm alone"))
        self.assertIn("90 %", self.row(summary, "add, of copy"))
        self.assertIn("copy device", summary)

    def test_a_crashing_kernel_keeps_its_earlier_cases(self):
        code, _, summary, _ = self.run_all("crash")
        self.assertEqual(code, 1)
        self.assertIn("1/1", self.row(summary, "operators equal"))
        self.assertIn("MISSED", self.row(summary, "operators equal"))
        self.assertIn("met", self.row(summary, "gemm, of cuBLASLt"))

    def test_a_crashing_profiler_keeps_its_rows(self):
        code, files, summary, _ = self.run_all("profilecrash")
        self.assertEqual(code, 1)
        self.assertIn("measured.csv", files)
        self.assertIn("NOT MEASURED", self.row(summary, "memory-bound"))
        self.assertIn("copy device", summary)

    def test_hanging_links_lose_no_operator(self):
        code, files, summary, log = self.run_all("linkshang")
        self.assertEqual(code, 1)
        self.assertIn("links ran over", log)
        self.assertIn("measured.csv", files)
        self.assertIn("90 %", self.row(summary, "add, of copy"))

    def test_no_time_is_no_loss(self):
        code, _, _, log = self.run_all("hang", total="6")
        self.assertEqual(code, 1)
        self.assertIn("no time left", log)

    def test_a_missing_or_unloadable_program_is_said_at_once(self):
        code, _, _, log = self.run_all("ok", troupe=None)
        self.assertEqual(code, 1)
        self.assertIn("build it with", log)
        broken = ("#!/bin/sh\necho 'error while loading shared libraries: "
                  "libfmt.so.9' >&2\nexit 127\n")
        code, _, _, log = self.run_all("ok", troupe=broken)
        self.assertEqual(code, 1)
        self.assertIn("libfmt.so.9", log)

    def test_a_summary_survives_any_cut(self):
        """Every file cut at any place, or full of something else."""
        whole = {"kernel_check.jsonl": '{"case":"a","dtype":"b","ok":true}\n',
                 "profile.json": '{"layers": 3}', "torch.json": '[1, 2]',
                 "bodies.jsonl": '{"ratio": "x"}\n', "links.json": '{}'}
        for name, text in whole.items():
            for cut in range(0, len(text) + 1, 3):
                with tempfile.TemporaryDirectory() as folder:
                    pathlib.Path(folder, name).write_text(text[:cut])
                    result = subprocess.run(
                        [sys.executable, SOURCE / "bench/gpu/summary.py",
                         folder], capture_output=True, text=True, check=False)
                    self.assertEqual(result.returncode, 0, result.stderr)


if __name__ == "__main__":
    unittest.main()
