"""Strategy, model and cluster files that are wrong: a message, exit 1."""
import json
import unittest

from support import SHORT, CliTest

MODEL = {"format": "troupe.model/1", "name": "m", "layers": 8, "hidden": 1024,
         "heads": 16, "ffn": 4096, "vocab": 32000, "seq_len": 1024}
CLUSTER = {"format": "troupe.cluster/1", "name": "c",
           "nodes": [{"kind": "a800-sxm-80", "count": 8, "nodes": 4,
                      "nic": {"gbit_per_s": 400, "per": "gpu"}}]}
NUMBERS = ["NaN", "Infinity", "-Infinity", "-1", "1e400", "1e308", "-1e308",
           "9223372036854775807", "9223372036854775808",
           "18446744073709551616", "2.5", "1e-300", '"8"', "null", "true",
           "[1]", "{}"]


class Syntax(CliTest):
    def commands(self, path):
        yield "simulate", path, "--no-store"
        yield "check", path
        yield "convert", path
        yield "schedule", path
        yield "models", path
        yield "clusters", path
        yield "simulate", "gpt3-175b-1024", "--no-store", "--model", path
        yield "simulate", "gpt3-175b-1024", "--no-store", "--cluster", path
        yield "ingest", path, "--profiles", "w.db"
        yield "compare", path, path
        for spelling in ("hspmd", "hotspa", "hydraulis", "hexiscale",
                         "megatron"):
            yield "check", path, "--from", spelling

    def test_no_reader_takes_what_is_no_json(self):
        text = json.dumps(SHORT)
        for name, content in (
                ("empty.json", ""), ("space.json", " \n"),
                ("cut.json", text[:-9]), ("two.json", text + text),
                ("null.json", "null"), ("number.json", "1"),
                ("zeros.json", b"\0" * 4096),
                ("bytes.json", bytes(range(128, 256)) * 20),
                ("utf16.json", text.encode("utf-16")),
                ("comma.json", text[:-1] + ",,}"),
                ("lists.json", "[" * 200_000),
                ("objects.json", '{"a":' * 200_000),
                ("closed.json", "[" * 100_000 + "]" * 100_000)):
            path = self.write(name, content)
            for command in self.commands(path):
                with self.subTest(name, command=command[0]):
                    self.refused(*command, names=name)

    def test_a_key_given_twice_or_a_surrogate_does_no_harm(self):
        text = json.dumps(SHORT)
        for content in (text[:-1] + ', "dp": 2}',
                        text.replace("gpt2-345m", "\\ud800"),
                        text.replace("gpt2-345m", "a\\u0000b")):
            self.run_troupe("check", self.write("odd.json", content),
                            code=(0, 1))

    def test_position_of_a_syntax_error(self):
        path = self.write("line.json", '{\n "format": "troupe.strategy/1",\n'
                                       ' "dp": nan\n}')
        self.refused("check", path, names=["line.json", "line 3"])

    def test_huge_files_and_texts(self):
        name = "x" * 5_000_000
        done = self.refused("check", self.write("long.json",
                                                {**SHORT, "model": name}))
        self.assertLess(len(done), 10_000, "the message repeats the value")
        keys = {f"key{i}": i for i in range(20_000)}
        done = self.refused("check", self.write("keys.json",
                                                {**SHORT, **keys}))
        self.write("big.json", json.dumps(SHORT)[:-1] + ", \"notes\": [" +
                   "0," * 4_000_000 + "0]}")
        self.run_troupe("check", "big.json", code=(0, 1))


class Values(CliTest):
    def each(self, document, fields, command, sane):
        """Every hostile number in every field: refused, or sanely used."""
        text = json.dumps(document)
        sane(self.run_troupe(*command(self.write("ok.json", text))).stdout)
        for field in fields:
            for number in NUMBERS:
                with self.subTest(field, number=number):
                    value = json.dumps(document[field])
                    old = f'"{field}": {value}'
                    self.assertIn(old, text)
                    path = self.write("value.json", text.replace(
                        old, f'"{field}": {number}'))
                    done = self.run_troupe(*command(path), code=(0, 1))
                    if done.returncode == 1:
                        self.assertIn("value.json", done.stderr)
                    else:
                        sane(done.stdout)

    def sane_run(self, text):
        self.assertNotRegex(text, r"\b(nan|inf|null)\b")

    def test_strategy(self):
        self.each(SHORT, ["dp", "tp", "pp", "micro_batches",
                          "micro_batch_size", "seq_len"],
                  lambda p: ("simulate", p, "--no-store"), self.sane_run)

    def test_model(self):
        self.each(MODEL, ["layers", "hidden", "heads", "ffn", "vocab",
                          "seq_len"],
                  lambda p: ("models", p), self.sane_run)

    def test_cluster(self):
        node = CLUSTER["nodes"][0]
        self.run_troupe("clusters", self.write("ok.json", CLUSTER))
        for field in ("count", "nodes"):
            for number in NUMBERS:
                text = json.dumps(CLUSTER).replace(
                    f'"{field}": {node.get(field)}', f'"{field}": {number}')
                self.assertNotEqual(text, json.dumps(CLUSTER))
                with self.subTest(field, number=number):
                    path = self.write("value.json", text)
                    done = self.run_troupe("clusters", path, code=(0, 1))
                    if done.returncode == 1:
                        self.assertIn("value.json", done.stderr)

    def test_the_network_card_that_a_message_offers_is_taken(self):
        node = {"kind": "h20", "count": 8, "nodes": 2}
        path = self.write("card.json", {**CLUSTER, "nodes": [node]})
        offered = self.refused("clusters", path, names=" or ")
        text = offered.split(' or "')[1].split('"')[0]
        self.write("card.json", {**CLUSTER, "nodes": [{**node, "nic": text}]})
        self.run_troupe("clusters", path)

    def test_a_network_card_that_is_no_card_is_refused(self):
        node = {"kind": "h20", "count": 8, "nodes": 2}
        for card in ("fast", "", "128 nodes", "400 Gbit/s", "8 x h20 per node",
                     "400 Gbit/s per GPU, 9 nodes", "-4 Gbit/s per GPU",
                     "1 Gbit/s per GPU + 1 Gbit/s per GPU", 400, [], None):
            with self.subTest(card):
                path = self.write("card.json", {
                    **CLUSTER, "nodes": [{**node, "nic": card}]})
                self.refused("clusters", path,
                             names=["card.json: /nodes/0/nic"])

    def test_the_value_and_its_path_are_named(self):
        for field, value in (("dp", -1), ("dp", 0), ("tp", 2.5),
                             ("seq_len", "2048"), ("pp", None),
                             ("micro_batches", 1e20)):
            path = self.write("named.json", {**SHORT, field: value})
            self.refused("check", path, names=["named.json", f"/{field}"])

    def test_unknown_keys_get_a_suggestion(self):
        for wrong, right in (("micro_batchs", "micro_batches"),
                             ("tpp", "tp"), ("seqlen", "seq_len"),
                             ("recompte", "recompute")):
            path = self.write("key.json", {**SHORT, wrong: 1})
            self.refused("check", path, names=[f"/{wrong}", f"'{right}'"])
        path = self.write("key.json", {**MODEL, "hiden": 1})
        self.refused("models", path, names=["/hiden", "'hidden'"])

    def test_known_keys_are_listed_once(self):
        path = self.write("key.json", {**SHORT, "colour": 1})
        keys = self.refused("check", path).split("known here: ")[1]
        keys = [k.strip() for k in keys.split("\n")[0].split(",")]
        self.assertEqual(sorted(keys), sorted(set(keys)))

    def test_products_that_overflow(self):
        for change in ({"dp": 262144, "tp": 262144, "pp": 262144},
                       {"micro_batches": 1048576, "micro_batch_size": 1048576,
                        "seq_len": 67108864},
                       {"micro_batches": 1048576}):
            path = self.write("over.json", {**SHORT, **change})
            self.run_troupe("check", path, code=(0, 1))
        wide = {**MODEL, "hidden": 1 << 20, "ffn": 1 << 24, "vocab": 1 << 24,
                "layers": 10_000}
        self.run_troupe("models", self.write("wide.json", wide), code=(0, 1))

    def test_devices(self):
        stage = {"devices": "0-7", "layers": 24}
        full = {k: v for k, v in SHORT.items() if k not in ("dp", "tp", "pp")}
        for devices in ("7-0", "0-", "-1", "0-99999999999", "a", "", "0,0",
                        "0-7,3", [], [0, 0], [1.5], [-1], [99], {"kind": "x"},
                        {"count": 0}, {"count": 33}, {"count": -1}, 7, None):
            with self.subTest(devices):
                path = self.write("devices.json", {
                    **full, "pipelines": [
                        {"stages": [{**stage, "devices": devices}]}]})
                self.refused("check", path, names="/devices")


if __name__ == "__main__":
    unittest.main()
