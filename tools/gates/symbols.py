#!/usr/bin/env python3
"""No program holds, or asks the loader for, anything of another engine (E-01). Usage: symbols.py FOLDER-OF-PROGRAMS"""
import pathlib
import re
import subprocess
import sys

OTHERS = re.compile(r"\b_?_?(g" r"gml|l" r"lama_(model|context|batch|decode|token|load)|ggu" r"f_(init|get)|mlx_|onnxruntime|torch::|tvm::)\w*", re.I)


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main():
    flaws, names = [], 0
    programs = sorted(p for p in pathlib.Path(sys.argv[1]).glob("llorch*") if p.is_file())
    for p in programs:
        lines = output("nm", "-C", p).splitlines()
        if len(lines) < 100:
            flaws.append(f"{p.name}: only {len(lines)} symbols: nothing to be seen")
        needed = re.findall(r"NEEDED.*\[(.*)\]", output("readelf", "-d", p))
        names += len(lines) + len(needed)
        flaws += [f"{p.name}: {line.strip()[:100]}" for line in lines + needed if OTHERS.search(line)]
    print("\n".join(flaws + [f"{len(programs)} programs, {names} symbols and libraries: {len(flaws)} of another engine"]))
    return bool(flaws) or not programs


if __name__ == "__main__":
    sys.exit(main())
