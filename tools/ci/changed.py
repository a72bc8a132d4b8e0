#!/usr/bin/env python3
"""Which files `./dev lint changed` looks at: product sources whose content has not passed on this machine. A fresh machine knows of none
that passed; there it is those that commits of the last days touched, at most FILES_MAX, newest first. All files: `./dev lint`.

changed.py             prints the files, a line each; what is left out is said on stderr
changed.py --passed F  reads file names from stdin and notes that they passed"""
import hashlib
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "llorch-checks"
DAYS, FILES_MAX = 7, 12


def git(*arguments, root=ROOT):
    return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout.splitlines()


def sources(root=ROOT):
    return [f for f in git("ls-files", "src/*.cc", "apps/*.cc", root=root) if not re.search(r"/isa/|/cuda/driver/|_test\.cc$", f) and (root / f).exists()]


def mark(name, root=ROOT):
    """What a result holds for: this content under these rules."""
    return hashlib.sha256((root / ".clang-tidy").read_bytes() + (root / name).read_bytes()).hexdigest()


def choose(root=ROOT, cache=CACHE):
    """(files to look at, files that are left out)"""
    passed = {p.name for p in cache.glob("*")}
    todo = [f for f in sources(root) if mark(f, root) not in passed]
    if not passed:
        touched = list(dict.fromkeys(git("log", f"--since={DAYS} days ago", "--name-only", "--format=", "--", "src", "apps", root=root)))
        todo = [f for f in touched if f in todo]
    return todo[:FILES_MAX], todo[FILES_MAX:]


def main():
    if "--passed" in sys.argv:
        CACHE.mkdir(parents=True, exist_ok=True)
        for name in sys.stdin.read().split():
            (CACHE / mark(name)).touch()
        return
    files, left_out = choose()
    print("\n".join(files))
    if left_out:
        print(f"not run: the linter on {len(left_out)} more changed files (./dev lint takes all)", file=sys.stderr)


if __name__ == "__main__":
    main()
