#!/usr/bin/env python3
"""The libraries that each program asks the loader for, against docs/dependencies.txt (S-74): what is new there, or gone, is a decision
that a commit shows. Usage: dependencies.py FOLDER-OF-PROGRAMS [--write]"""
import pathlib
import re
import subprocess
import sys

LIST = pathlib.Path(__file__).resolve().parents[2] / "docs/dependencies.txt"
HEAD = """# Shared libraries of each program, as tools/gates/dependencies.py finds them; --write makes this list anew.
# In the pages of worker and queen besides: marked 4.2.3 and DOMPurify 2.4.1 (apps/page/vendor/README.md).
"""


def needed(folder):
    out = {}
    for p in sorted(p for p in folder.glob("llorch*") if p.is_file()):
        text = subprocess.run(["readelf", "-d", p], capture_output=True, text=True, check=True).stdout
        out[p.name] = sorted(name.split(".so")[0] for name in re.findall(r"NEEDED.*\[(.*)\]", text) if not name.startswith("ld-linux"))
    return out


def main():
    found = needed(pathlib.Path(sys.argv[1]))
    if "--write" in sys.argv:
        LIST.write_text(HEAD + "".join(f"{name}: {' '.join(libraries)}\n" for name, libraries in found.items()))
    listed = dict(line.split(": ", 1) for line in LIST.read_text().splitlines() if not line.startswith("#"))
    flaws = [f"{name} is not in docs/dependencies.txt" for name in found if name not in listed]
    for name, libraries in found.items():
        before, now = set(listed.get(name, "").split()), set(libraries)
        flaws += [f"{name} needs {x}, which docs/dependencies.txt does not list" for x in sorted(now - before)] + [f"{name} no longer needs {x}" for x in sorted(before - now)]
    print("\n".join(flaws + [f"{len(found)} programs, {len(set().union(*found.values()))} libraries, {len(flaws)} differences from docs/dependencies.txt"]))
    return bool(flaws) or not found


if __name__ == "__main__":
    sys.exit(main())
