"""The one-device run of the emulator against a PyTorch model with autograd
and PyTorch's AdamW: losses, gradients, their norm and the parameters after
every step, in fp64. Prints the largest deviations.

Usage: torch_test.py PROBE. Exit code 77: skipped, with the reason.
"""
import json
import random
import subprocess
import sys
import unittest

try:
    import torch
except ImportError as error:
    print(f"skipped: PyTorch is not installed ({error}); "
          "apt-get install python3-torch")
    sys.exit(77)

import torch_model

PROBE = sys.argv.pop(1)
# Both sides round in fp64 (1e-16) and differ in the order of sums only.
LIMIT = 1e-10
SEEDS = (1, 2, 3)

LLAMA = dict(
    layers=3, hidden=24, heads=6, kv_heads=2, head_dim=4, ffn=29, vocab=41,
    max_positions=0, norm="rms", activation="swiglu", positions="rotary",
    qkv_bias=False, attention_out_bias=False, mlp_bias=False,
    final_norm=True, tied_embeddings=False, head_bias=False,
    attention_window=0, full_attention_first=0, full_attention_every=0,
    norm_epsilon=1e-5, rotary_base=10000.0, rotary_scaling=[1, 1, 4, 8192])
GPT = dict(
    LLAMA, heads=3, kv_heads=3, head_dim=8, ffn=50, max_positions=11,
    norm="layer", activation="gelu_tanh", positions="learned", qkv_bias=True,
    attention_out_bias=True, mlp_bias=True, tied_embeddings=True)
# A rate at which three steps move parameters by several percent.
TRAINING = dict(rate=3e-3, beta1=0.9, beta2=0.95, epsilon=1e-8, decay=0.1,
                clip=1.0)


class Deviations:
    """The largest relative ones, by what deviates."""
    most = {}

    @classmethod
    def note(cls, what, value):
        cls.most[what] = max(value, cls.most.get(what, 0.0))


class OneDeviceTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        torch.set_num_threads(1)
        torch.set_default_dtype(torch.float64)
        cls.process = subprocess.Popen([PROBE], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, text=True)

    @classmethod
    def tearDownClass(cls):
        cls.process.stdin.close()
        cls.process.stdout.close()
        assert cls.process.wait() == 0

    def train(self, model, seed, training, lengths=(16, 9, 23), padding=0,
              steps=None):
        """What the emulator says: its answer to a request."""
        dice = random.Random(seed)
        documents = [[dice.randrange(model["vocab"])
                      for _ in range(dice.choice((1, 2, 5, 9, 17)))]
                     for _ in range(20)]
        request = dict(model=model, seed=seed, training=training,
                       lengths=steps or [lengths] * 3, padding=padding,
                       documents=documents)
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        self.assertNotIn("error", answer)
        return answer

    def documents_of(self, batch):
        """Cuts the sequences into documents; the emulator's labels and
        positions must follow from them."""
        documents = []
        labels = 0
        for s in batch["sequences"]:
            tokens, starts = s["tokens"], s["starts"]
            want_labels = [-1] * len(tokens)
            want_positions = [0] * len(tokens)
            for first, last in zip(starts, starts[1:]):
                self.assertLess(first, last)
                want_labels[first:last - 1] = tokens[first + 1:last]
                want_positions[first:last] = range(last - first)
                documents.append(torch.tensor(tokens[first:last]))
                labels += last - first - 1
            self.assertEqual(starts[0], 0)
            self.assertEqual(s["labels"], want_labels)
            self.assertEqual(s["positions"], want_positions)
        self.assertEqual(batch["labels"], labels)
        return documents

    def near(self, got, want, size, what):
        error = (got - want).abs().max().item() / size
        Deviations.note(what.split()[0], error)
        self.assertLess(error, LIMIT, what)  # NaN fails too

    def compare(self, got, want, p, rate):
        loss, size, gradients = want
        self.near(torch.tensor(got["loss"]), loss, loss, "loss")
        self.near(torch.tensor(got["gradient_norm"]), size, size, "norm")
        self.assertEqual(set(got["gradients"]), set(p))
        self.assertEqual(set(got["parameters"]), set(p))
        for name, value in p.items():
            wanted = gradients[name]
            found = torch.tensor(got["gradients"][name]).view(value.shape)
            # All scores of a query move alike with a key's bias, and a query
            # that sees one key has nothing to choose: such gradients are
            # nothing but rounding errors, and so is what AdamW makes of them.
            # They count beside what a bias adds to.
            noise = wanted.abs().max() < 1e-14 * size
            matrix = name.removesuffix(".bias")
            if noise:
                self.assertRegex(matrix, r"attention\.(query|key)$")
            most = size if noise else wanted.abs().max().item()
            self.near(found, wanted, most, "gradient " + name)
            found = torch.tensor(got["parameters"][name]).view(value.shape)
            beside = p[matrix] if noise else value
            most = max(beside.abs().max().item(), rate)
            self.near(found, value.detach(), most, "parameter " + name)

    def check(self, model, training=TRAINING, **request):
        for seed in SEEDS:
            with self.subTest(seed=seed):
                answer = self.train(model, seed, training, **request)
                p = {q["name"]: torch.tensor(q["values"]).view(q["shape"])
                     .requires_grad_() for q in answer["parameters"]}
                before = {k: v.detach().clone() for k, v in p.items()}
                optimizer = torch_model.optimizer_of(p, training)
                for batch, got in zip(answer["batches"], answer["steps"]):
                    documents = self.documents_of(batch)
                    want = torch_model.step(documents, p, model, training,
                                            optimizer)
                    self.compare(got, want, p, training["rate"])
                self.assertEqual(len(answer["steps"]), 3)
                # Everything has moved, or equality would say little.
                for name, value in p.items():
                    if name.endswith("key.bias"):
                        continue
                    moved = (value - before[name]).abs().max().item()
                    self.assertGreater(moved, training["rate"] / 2, name)

    def test_llama(self):
        self.check(LLAMA)

    def test_gpt2(self):
        self.check(GPT)

    def test_padding(self):
        self.check(LLAMA, lengths=(12, 20), padding=5)
        self.check(GPT, lengths=(12, 20), padding=5)

    def test_steps_of_other_lengths(self):
        steps = [(30, 7), (5,), (12, 12, 12, 12)]
        self.check(LLAMA, steps=steps)
        self.check(GPT, steps=steps)

    def test_one_key_head_for_all_and_one_for_each(self):
        self.check(dict(LLAMA, kv_heads=1))
        self.check(dict(LLAMA, kv_heads=6))

    def test_head_width_of_its_own(self):
        self.check(dict(LLAMA, head_dim=10))

    def test_layer_norm_geglu_and_rotary_with_biases(self):
        self.check(dict(LLAMA, norm="layer", activation="geglu",
                        qkv_bias=True, mlp_bias=True))

    def test_relu_and_rms_norm_with_learned_positions(self):
        self.check(dict(GPT, norm="rms", activation="relu", kv_heads=1))

    def test_no_positions_no_final_norm(self):
        self.check(dict(LLAMA, positions="none", final_norm=False,
                        activation="gelu", attention_out_bias=True))

    def test_windows_of_all_and_of_some_layers(self):
        self.check(dict(LLAMA, attention_window=4))
        self.check(dict(LLAMA, layers=4, attention_window=3,
                        full_attention_every=2))
        self.check(dict(LLAMA, attention_window=2, full_attention_first=1))
        self.check(dict(LLAMA, attention_window=6), lengths=(5, 30))

    def test_other_rotary_base_scaling_and_epsilon(self):
        # With 12 positions before the scaling, pairs of all three kinds.
        self.check(dict(LLAMA, head_dim=8, rotary_base=50.0,
                        rotary_scaling=[8, 0.25, 1, 12]))
        self.check(dict(LLAMA, norm_epsilon=1e-2))

    def test_tied_table_with_a_bias_on_the_vocabulary(self):
        self.check(dict(LLAMA, tied_embeddings=True, head_bias=True))

    def test_gradients_within_the_clip_and_without_one(self):
        self.check(LLAMA, dict(TRAINING, clip=1e3))
        self.check(LLAMA, dict(TRAINING, clip=0.0))
        self.check(LLAMA, dict(TRAINING, clip=0.05))

    def test_other_training(self):
        self.check(GPT, dict(rate=1e-2, beta1=0.8, beta2=0.99, epsilon=1e-6,
                             decay=0.5, clip=1.0))


if __name__ == "__main__":
    outcome = unittest.main(exit=False)
    for key, value in sorted(Deviations.most.items()):
        print(f"largest deviation of a {key}: {value:.1e}")
    sys.exit(not outcome.result.wasSuccessful())
