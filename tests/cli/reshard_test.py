"""reshard: hand-overs, switches of whole models and their cache."""
import json
import unittest

from support import CliTest


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


if __name__ == "__main__":
    unittest.main()
