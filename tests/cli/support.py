"""Runs the program as a user would, each test class in a home of its own."""
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("TROUPE_BINARY", "troupe")
SHARED = pathlib.Path(os.environ.get("TROUPE_SHARED", ROOT.parent / "shared"))
SEEDS = SHARED / "seeds-data"
# Generous: a machine may be busy and a build may carry sanitizers.
TIMEOUT_S = 60
CRASH_WORDS = ("terminate called", "Assertion", "AddressSanitizer",
               "runtime error", "Segmentation", "std::", "what():",
               "Traceback", "check failed")

SHORT = {"format": "troupe.strategy/1", "model": "gpt2-345m",
         "cluster": "a800-32", "dp": 4, "tp": 1, "pp": 4, "micro_batches": 8,
         "micro_batch_size": 1, "seq_len": 1024}
CSV = """# troupe profiles 1
## two products and one collective
# source: lab
# kind: measured
# date: 2026-05-03
# device: lab-gpu hopper
# table: operators
device,op,dtype,dims,causal,time_s,spread,samples
lab-gpu,gemm,bf16,1x4096x4096x4096,0,0.000221,0.01,20
lab-gpu,gemm,bf16,1x4096x4096x8192,0,0.000441,0.01,20
# table: collectives
device,collective,ranks,per_node,bytes,time_s,spread,samples
lab-gpu,all_reduce,8,8,1073741824,0.008196,0,20
"""

_profiles = None


def shipped_profiles():
    """A profile database of the shipped measurements, made once a process."""
    global _profiles
    if _profiles is None:
        folder = tempfile.TemporaryDirectory(prefix="troupe-cli-")
        made = subprocess.run(
            [BINARY, "ingest", "--shipped"], capture_output=True, text=True,
            timeout=TIMEOUT_S, env={**os.environ, "TROUPE_HOME": folder.name})
        if made.returncode != 0:
            raise RuntimeError(f"cannot make the database: {made.stderr}")
        _profiles = folder
    return pathlib.Path(_profiles.name) / "profiles.db"


class CliTest(unittest.TestCase):
    """`self.home` is a temporary TROUPE_HOME and the working folder."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="troupe-cli-")
        cls.addClassCleanup(folder.cleanup)
        cls.home = pathlib.Path(folder.name)
        shutil.copy(shipped_profiles(), cls.home / "profiles.db")
        cls.environment = {**os.environ, "TROUPE_HOME": folder.name}

    def run_troupe(self, *arguments, code=0, timeout=TIMEOUT_S, **options):
        """Runs to the end; fails on a crash, a hang or another exit code."""
        done = subprocess.run(
            [BINARY, *map(str, arguments)], timeout=timeout, cwd=self.home,
            env=options.pop("env", self.environment), encoding="utf-8",
            errors="backslashreplace",
            stdout=options.pop("stdout", subprocess.PIPE),
            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, **options)
        said = f"{' '.join(map(str, arguments))}\n{done.stderr[:2000]}"
        for word in CRASH_WORDS:
            self.assertNotIn(word, done.stderr, said)
        codes = code if isinstance(code, tuple) else (code,)
        self.assertIn(done.returncode, codes, said)
        return done

    def refused(self, *arguments, names=(), **options):
        """Bad input: exit 1 and one message that holds every text given."""
        done = self.run_troupe(*arguments, code=1, **options)
        self.assertTrue(done.stderr.strip(), "no message on stderr")
        for name in [names] if isinstance(names, str) else names:
            self.assertIn(str(name), done.stderr)
        return done.stderr

    def json_of(self, *arguments, **options):
        def no_constant(text):
            raise AssertionError(f"{text} is not JSON")
        text = self.run_troupe(*arguments, "--json", **options).stdout
        return json.loads(text, parse_constant=no_constant)

    def simulate(self, strategy, *arguments):
        return self.json_of("simulate", strategy, "--no-store", *arguments)

    def write(self, name, content):
        path = self.home / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str)
                            else json.dumps(content))
        return path

    def seeds(self, name):
        path = SEEDS / name
        if not path.exists():
            self.skipTest(f"{path} is absent; set TROUPE_SHARED")
        return path
