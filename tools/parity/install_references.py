#!/usr/bin/env python3
"""An environment for each reference of tools/parity/references, outside the product: `./dev references [NAME ...]`.

What is installed already stays; what cannot be installed is one line, and the others go on. Exit code 1 where a named one could not be."""
import os
import pathlib
import re
import subprocess
import sys
import venv

ROOT = pathlib.Path(__file__).resolve().parents[2]


def described(folder):
    """environment -> (packages, module that shows it is there); None for packages: documented only."""
    found = {}
    for path in sorted(folder.glob("*.py")):
        head = dict(re.findall(r"(?m)^# (environment|packages|check): (.+)$", path.read_text()))
        found[head.get("environment", path.stem)] = (head["packages"].split(), head["check"]) if "packages" in head else None
    return found


def install(place, packages, module, run=subprocess.run):
    """None, or why not."""
    python = place / "bin/python"
    if python.exists() and run([python, "-c", f"import {module}"], capture_output=True).returncode == 0:
        return None
    venv.create(place, with_pip=True, clear=True)
    r = run([python, "-m", "pip", "install", "-q", *packages], capture_output=True, text=True)
    if r.returncode == 0 and run([python, "-c", f"import {module}"], capture_output=True).returncode == 0:
        return None
    lines = [line for line in (r.stderr or "").splitlines() if "ERROR" in line] or ["it cannot be imported"]
    python.unlink(missing_ok=True)  # so that it counts as not installed
    return lines[-1].removeprefix("ERROR: ")


def main(names, folder=ROOT / "tools/parity/references", out=pathlib.Path(os.environ.get("LLORCH_REFERENCES", ROOT / "build/references"))):
    known, missing = described(folder), 0
    for name in names:
        if name not in known:
            print(f"there is no reference '{name}'; there are {', '.join(known)}", file=sys.stderr)
            return 2
    for name in names or known:
        if known[name] is None:
            print(f"{name}: no package is known; tools/parity/references says how it is used")
            continue
        problem = install(out / name, *known[name])
        print(f"{name}: {'installed' if problem is None else 'cannot be installed: ' + problem}", flush=True)
        missing += problem is not None
    return 1 if names and missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
