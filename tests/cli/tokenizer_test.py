"""Tokenizer files for emulation: proof, what is reported, checkpoints,
refusals."""
import json
import os
import shutil
import subprocess
import unittest

from support import CliTest

STRATEGY = "fasop-a100-a10"
TEXT = "one document, one\n\nanother, longer one\n\nthe end\n"
TINY = {"format": "troupe.model/1", "name": "tiny", "layers": 4, "hidden": 16,
        "heads": 4, "ffn": 32, "vocab": 258, "max_positions": 64,
        "norm": "layer", "activation": "gelu", "positions": "learned"}


def hidden(byte):
    return byte <= 0x20 or 0x7F <= byte <= 0xA0 or byte == 0xAD


def spelt(byte):
    """Byte-level tokenizers spell hidden bytes as U+0100 and on."""
    if not hidden(byte):
        return chr(byte)
    return chr(0x100 + sum(hidden(b) for b in range(byte)))


def tokenizer(merges=()):
    """Token numbers are bytes, then merges, then the end of a text."""
    tokens = [spelt(byte) for byte in range(256)]
    tokens += [a + b for a, b in merges]
    return {"added_tokens": [{"id": len(tokens), "content": "<|endoftext|>",
                              "special": True}],
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False},
            "model": {"type": "BPE", "merges": [f"{a} {b}" for a, b in merges],
                      "vocab": {t: i for i, t in enumerate(tokens)}}}


class Tokenizers(CliTest):
    def setUp(self):
        self.text = self.write("text.txt", TEXT)
        self.bytes = self.write("bytes.json", tokenizer())
        self.merged = self.write(
            "merged.json", tokenizer([("o", "n"), ("on", "e")]))

    def emulate(self, *arguments):
        return self.json_of("emulate", STRATEGY, "--shrink", "--steps", "1",
                            *arguments)

    def needs_json(self):
        done = self.run_troupe("emulate", STRATEGY, "--shrink", "--steps", "1",
                               "--tokenizer", self.bytes, code=(0, 1))
        if "this build reads no tokenizer.json" in done.stderr:
            self.skipTest("built without PCRE2 or utf8proc")

    def test_bytes_by_another_name_are_the_same(self):
        self.needs_json()
        plain = self.emulate("--data", self.text)
        named = self.emulate("--data", self.text, "--tokenizer", self.bytes)
        self.assertEqual(plain["loss"], named["loss"])
        self.assertEqual(plain["data"], {
            "file": str(self.text), "tokenizer": "bytes", "documents": 3,
            "tokens": len(TEXT) - 2 + 3, "vocabulary": 257,
            "model_vocabulary": 257})
        self.assertEqual(named["data"]["tokenizer"], str(self.bytes))
        self.assertEqual(named["warnings"], [])
        sample = self.emulate("--tokenizer", self.bytes)
        self.assertEqual(sample["data"]["file"], "sample")

    def test_a_larger_vocabulary_is_proved_and_reported(self):
        self.needs_json()
        answer = self.emulate("--data", self.text, "--tokenizer", self.merged,
                              "--verify")
        self.assertTrue(answer["verify"]["ok"])
        # "one" is in the text three times and saves two tokens each; "longer"
        # has "on", which saves one.
        self.assertEqual(answer["data"]["tokens"], len(TEXT) - 2 + 3 - 7)
        self.assertEqual(answer["data"]["vocabulary"], 259)
        self.assertIn("(259) is larger", answer["warnings"][0])
        done = self.run_troupe("emulate", STRATEGY, "--shrink", "--steps", "1",
                               "--data", self.text, "--tokenizer", self.merged)
        self.assertIn("tokens are taken modulo", done.stderr)
        self.assertIn(f"data {self.text}: 3 documents", done.stdout)

    def test_the_model_must_have_the_vocabulary(self):
        self.needs_json()
        model = self.write("tiny.json", TINY)
        strategy = self.write("s.json", {
            "format": "troupe.strategy/1", "model": str(model),
            "cluster": "a800-8", "dp": 2, "tp": 2, "pp": 2, "seq_len": 32,
            "micro_batches": 2, "micro_batch_size": 1})
        self.refused("emulate", strategy, "--tokenizer", self.merged,
                     names=["merged.json (259) is larger", "tiny (258)"])
        answer = self.json_of("emulate", strategy, "--tokenizer", self.bytes,
                              "--steps", "1", "--verify")
        self.assertTrue(answer["verify"]["ok"])

    def test_a_checkpoint_keeps_its_tokenizer(self):
        self.needs_json()
        saved = self.home / "c.safetensors"
        whole = self.json_of("emulate", STRATEGY, "--shrink", "--steps", "2",
                             "--data", self.text, "--tokenizer", self.merged)
        self.emulate("--data", self.text, "--tokenizer", self.merged, "--save",
                     saved)
        rest = self.emulate("--data", self.text, "--tokenizer", self.merged,
                            "--load", saved)
        self.assertAlmostEqual(whole["loss"][1], rest["loss"][0], delta=1e-12)
        for other in ([], ["--tokenizer", self.bytes],
                      ["--tokenizer", self.merged, "--end-token", "one"]):
            self.refused("emulate", STRATEGY, "--shrink", "--data", self.text,
                         "--load", saved, *other,
                         names=["c.safetensors: learnt tokens of", "merged"])
        # A name that is not UTF-8.
        strange = self.home / os.fsdecode(b"t\xff.txt")
        strange.write_text(TEXT)
        self.emulate("--data", strange, "--save", saved)
        self.assertEqual(self.emulate("--data", strange, "--load",
                                      saved)["warnings"], [])
        sample = self.emulate("--load", saved)
        self.assertIn("goes on with another text", sample["warnings"][0])
        self.refused("emulate", STRATEGY, "--shrink", "--load", saved,
                     "--tokenizer", self.bytes, names="without --tokenizer")

    def test_refusals(self):
        self.needs_json()
        word_piece = tokenizer()
        word_piece["model"]["type"] = "WordPiece"
        endless = tokenizer()
        endless["added_tokens"][0]["content"] = "<fin>"
        slow = tokenizer()
        slow["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "(a+)+$"},
             "behavior": "Isolated"}, slow["pre_tokenizer"]]}
        llama = tokenizer()
        llama["model"]["byte_fallback"] = True
        runs = self.write("runs.txt", "x\n\n" + "a" * 60 + "!\n")
        for name, content, words in (
                ("w.json", word_piece, "/model/type: 'WordPiece'"),
                ("e.json", endless, "--end-token"),
                ("l.json", llama, "tokenizer.model"),
                ("s.json", slow, "the document of line 3"),
                ("b.json", "{", "not valid JSON"),
                ("m.model", "hello", "m.model: "),
                ("x.bin", b"\0\1\2", "x.bin: ")):
            path = self.write(name, content)
            self.refused("emulate", STRATEGY, "--shrink", "--data", runs,
                         "--tokenizer", path, names=words)
        self.refused("emulate", STRATEGY, "--shrink", "--tokenizer",
                     "gone.json", names="gone.json")
        self.refused("emulate", STRATEGY, "--shrink", "--tokenizer",
                     self.bytes, "--end-token", "no", names="'no'")
        self.run_troupe("emulate", STRATEGY, "--end-token", "a",
                        code=(1, 106))
        latin = self.write("latin.txt", b"caf\xe9\n")
        self.refused("emulate", STRATEGY, "--shrink", "--data", latin,
                     "--tokenizer", self.bytes, names="0xE9")

    def test_a_sentencepiece_model(self):
        if not shutil.which("spm_train"):
            self.skipTest("spm_train is not there (package sentencepiece)")
        self.write("train.txt", TEXT * 20)
        subprocess.run(["spm_train", "--input=train.txt", "--model_prefix=m",
                        "--vocab_size=40", "--hard_vocab_limit=false",
                        "--model_type=bpe"], cwd=self.home, check=True,
                       capture_output=True, timeout=60)
        done = self.run_troupe(
            "emulate", STRATEGY, "--shrink", "--steps", "1", "--data",
            self.text, "--tokenizer", "m.model", "--verify", "--json",
            code=(0, 1))
        if "this build reads no SentencePiece" in done.stderr:
            self.skipTest("built without SentencePiece")
        answer = json.loads(done.stdout)
        self.assertTrue(answer["verify"]["ok"])
        self.assertEqual(answer["data"]["documents"], 3)
        self.assertLess(answer["data"]["vocabulary"], 60)
        self.assertLess(answer["data"]["tokens"], len(TEXT))


if __name__ == "__main__":
    unittest.main()
