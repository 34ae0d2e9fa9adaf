"""reshard: hand-overs, switches of whole models and their cache."""
import json
import unittest

from support import SHORT, CliTest


def group(first, count, **states):
    return {"hdim": None, "groups": [
        {"devices": list(range(first, first + count)), **states}]}


class HandOver(CliTest):
    def answer(self, *arguments):
        return self.json_of(
            "reshard", "--hand-over", "--explain", "--shape", "8192x4096",
            "--cluster", "8 x h100-sxm per node, 400 Gbit/s per GPU, 2 nodes",
            *arguments)

    def test_three_ways_and_the_cheapest(self):
        answer = self.answer("--src", json.dumps(group(0, 4, dup=4)),
                             "--dst", json.dumps(group(8, 4, dup=4)))
        self.assertEqual(answer["wrong"], [])
        names = [c["name"] for c in answer["candidates"]]
        self.assertEqual(names, ["batched", "leader", "scatter"])
        times = [c["predicted_s"] for c in answer["candidates"]]
        taken = [c for c in answer["candidates"]
                 if c["verdict"].startswith("taken")]
        self.assertEqual([c["predicted_s"] for c in taken], [min(times)])
        # Four copies must cross at least once each: 4 x 8192 x 4096 x 2 B.
        self.assertEqual(answer["least_bytes"], 4 * 8192 * 4096 * 2)

    def test_mistakes(self):
        self.refused(
            "reshard", "--hand-over", "--shape", "8x4",
            "--src", json.dumps(group(0, 2, dup=1, partial=2)),
            "--dst", json.dumps(group(2, 2, dup=2)), names="summands")


class Sides(CliTest):
    def test_single_layouts(self):
        answer = self.json_of(
            "reshard", json.dumps(group(0, 4, dup=4)),
            self.write("d.json", json.dumps(group(8, 4, split={"0": 4}))),
            "--shape", "8x4", "--explain")
        self.assertEqual(answer["wrong"], [])
        self.assertGreater(len(answer["candidates"]), 0)

    def test_all_ways_to_name_a_models_layouts_agree(self):
        small = {**SHORT, "dp": 2, "tp": 2, "pp": 2}
        before = self.write("s.json", json.dumps(small))
        after = self.write("t.json", json.dumps(
            {**small, "tp": 4, "dp": 1, "global_batch": 2,
             "micro_batches": 2}))
        direct = self.json_of("reshard", before, after, "--check",
                              "--explain")
        self.assertEqual(direct["wrong"], [])
        self.assertGreater(direct["moved_bytes"], 0)
        self.assertEqual(sum(k["tensors"] for k in direct["kinds"]),
                         direct["tensors"])
        files = []
        for name, path in (("a", before), ("b", after)):
            files.append(self.write(name + ".json", self.run_troupe(
                "annotate", path, "--json").stdout))
        cluster = ("--cluster", SHORT["cluster"])
        read = self.json_of("reshard", *files, *cluster)
        for key in ("moved_bytes", "tensors", "predicted_s"):
            self.assertEqual(read[key], direct[key])
        # HSPMD's files: other shapes and names, the same matrices.
        configs = []
        for name, path in (("c", before), ("d", after)):
            configs.append(str(self.home / (name + ".json")))
            self.run_troupe("annotate", path, "-o", configs[-1])
        model = ("--model", SHORT["model"])
        reference = self.json_of("reshard", *configs, *cluster, *model,
                                 "--check")
        self.assertEqual(reference["wrong"], [])
        self.refused("reshard", *configs, names="--model")
        self.refused("reshard", configs[0], after, *model, names="one kind")
        self.refused("reshard", files[0], names="SRC and DST")
        self.refused("reshard", files[0], files[1], "--to-phase", "7",
                     names="phase 7")


class Switches(CliTest):
    SWITCH = ("reshard", "--strategy", "hotspa-7b-8gpu")

    def test_a_kept_plan_is_used_again(self):
        first = self.json_of(*self.SWITCH)
        self.assertEqual(first["plan"], "planned")
        again = self.json_of(*self.SWITCH, "--check")
        self.assertEqual(again["plan"], "cached")
        self.assertEqual(again["wrong"], [])
        for key in ("hash", "moved_bytes", "predicted_s", "rules"):
            self.assertEqual(first[key], again[key])
        fresh = self.json_of(*self.SWITCH, "--no-plan-cache")
        self.assertEqual(fresh["plan"], "planned")
        plans = self.json_of("reshard", "--plans")["plans"]
        self.assertEqual([p["key"] for p in plans], [first["hash"]])
        # A flipped bit near the end of its numbers.
        path = self.home / "plans" / (first["hash"] + ".plan")
        damaged = bytearray(path.read_bytes())
        damaged[-9] ^= 1
        path.write_bytes(damaged)
        self.assertIn("problem", self.json_of("reshard", "--plans")["plans"][0])
        third = self.json_of(*self.SWITCH)
        self.assertIn("damaged", third["plan"])
        self.assertEqual(third["predicted_s"], first["predicted_s"])
        self.assertEqual(self.json_of(*self.SWITCH)["plan"], "cached")
        self.run_troupe("reshard", "--clear-plans")
        self.assertEqual(self.json_of("reshard", "--plans")["plans"], [])

    def test_uses_are_different_switches(self):
        hashes = {self.json_of(*self.SWITCH, "--from-phase", "1",
                               "--to-phase", "2", "--use", use)["hash"]
                  for use in ("compute", "optimizer", "bridge")}
        self.assertEqual(len(hashes), 3)
        self.refused(*self.SWITCH, "--use", "states", names="--use states")

    def test_buckets_keep_their_limit(self):
        answer = self.json_of(*self.SWITCH, "--bucket-bytes", "200000000",
                              "--check")
        self.assertEqual(answer["wrong"], [])
        for bucket in answer["buckets"]:
            self.assertLessEqual(bucket["peak_bytes"], 200000000)


if __name__ == "__main__":
    unittest.main()
