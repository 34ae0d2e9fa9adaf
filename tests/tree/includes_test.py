"""Reads the tree as text: folders include only folders before them, files
stay within the limits of the style."""
import pathlib
import re
import sys

ROOT = pathlib.Path(sys.argv[1])
MOST = {"tests": 800}
CODE = {".h", ".cpp", ".cu"}


def folders():
    text = (ROOT / "CMakeLists.txt").read_text()
    match = re.search(r"set\(TROUPE_FOLDERS ([^)]*)\)", text)
    return match.group(1).split()


def upward_includes(order):
    place = {name: i for i, name in enumerate(order)}
    for name in order:
        for path in sorted((ROOT / name).rglob("*")):
            if path.suffix not in CODE:
                continue
            for line in path.read_text().splitlines():
                found = re.match(r'#include "([a-z_]+)/', line)
                if not found or found.group(1) not in place:
                    continue
                if place[found.group(1)] > place[name]:
                    yield f"{path.relative_to(ROOT)}: {line}"


def long_files(order):
    for name in [*order, "tests", "bench"]:
        limit = MOST.get(name, 500)
        for path in sorted((ROOT / name).rglob("*")):
            if path.suffix not in CODE:
                continue
            lines = len(path.read_text().splitlines())
            if lines > limit:
                yield f"{path.relative_to(ROOT)}: {lines} lines, over {limit}"


def main():
    order = folders()
    problems = [*upward_includes(order), *long_files(order)]
    for problem in problems:
        print(problem)
    if len(order) < 10:
        print("the list of folders was not found")
        return 1
    return 1 if problems else 0


sys.exit(main())
