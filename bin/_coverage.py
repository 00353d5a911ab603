"""Prints the share of lines that ran, by room, from what `coverage json` wrote; exits 1 if a room's is too low."""

import collections
import json
import pathlib
import sys

LEAST = 85.0  # percent of the lines of each room


def main(path):
    """Returns the exit status."""
    lines, ran = collections.Counter(), collections.Counter()
    for file, found in json.loads(pathlib.Path(path).read_text("utf-8"))["files"].items():
        parts = pathlib.PurePath(file).parts
        below = parts[parts.index("tfshape") + 1 :]
        room = below[0] if len(below) > 1 else "tfshape/*.py"
        lines[room] += found["summary"]["num_statements"]
        ran[room] += found["summary"]["covered_lines"]
    shares = {room: 100 * ran[room] / lines[room] for room in sorted(lines) if lines[room]}
    for room, share in shares.items():
        print(f"{room:12} {lines[room]:6,} lines {share:6.1f}%{'' if share >= LEAST else f'  below {LEAST:g}%'}")
    return int(min(shares.values(), default=0.0) < LEAST)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
