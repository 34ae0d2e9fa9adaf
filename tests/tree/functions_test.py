"""Fails when a function is longer than the style allows; says which are the
longest."""
import pathlib
import sys

sys.dont_write_bytecode = True
import functions  # noqa: E402

LIMIT = 60


def sources(root):
    for folder in sorted(root.iterdir()):
        if (folder / "CMakeLists.txt").exists():
            for path in sorted(folder.rglob("*")):
                if path.suffix in {".h", ".cpp", ".cu"}:
                    yield path


def main(root):
    found = []
    for path in sources(root):
        name = path.relative_to(root)
        try:
            here = functions.functions(path.read_text())
        except ValueError as problem:
            print(f"{name}: {problem}")
            return 1
        found += [(f.lines, f"{name}:{f.line}", f.name) for f in here]
    found.sort(reverse=True)
    over = [f for f in found if f[0] > LIMIT]
    print(f"{len(found)} functions, {len(over)} over {LIMIT} lines; longest:")
    for lines, where, name in found[:max(5, len(over))]:
        print(f"{lines:4} {where} {name}")
    if len(found) < 100:
        print("too few functions were found to believe the answer")
        return 1
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
