#!/usr/bin/env python3
"""What `./dev test` runs, as a table, and the order that it needs: see runner.py for how.

stages.py [--full] [--ci] [--list] [NAME ...]   --full adds what is run by hand before a release, --ci what changes the system;
                                                NAME: only these stages, and what they need"""
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from runner import Runner, Stage, finish  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
PYTHON = "build/venv/bin/python"

# Suites of Python, by build: what each keeps busy. A suite that mostly waits for processes, beats and deadlines takes half a core.
WORKER = {"native": 1, "start": 1, "cache": 1, "openai": 1, "clients": 0.5, "abuse": 1, "adapters": 1, "receipt": 1, "pressure": 1, "haiku": 1, "page": 0.5}
COLONY = {"flow": 0.5, "contract": 0.5, "links": 0.5, "keeper": 0.5, "trouble": 0.5, "machine": 0.5, "hive": 0.5, "parity": 1, "lab": 1, "models": 0.5, "page": 0.5, "fleet_page": 0.5, "fleet_machines": 1, "picker_page": 0.5, "docs": 0.5, "hosts": 0.5,
          "relay": 0.5, "trust": 0.5, "memory": 0.5, "scopes": 0.5, "terminal": 0.5, "tls": 0.5, "newcomer": 0.5, "kinds": 0.5, "clients": 1}
# Under sanitizers what handles memory and input. (Under ThreadSanitizer suites run in `tsan-full`.)
DEV = ("worker/native", "worker/start", "worker/cache", "worker/openai", "worker/abuse", "colony/flow", "colony/contract", "colony/links", "colony/keeper", "colony/trouble", "colony/machine", "colony/hive", "colony/models",
       "colony/relay", "colony/trust", "worker/pressure")
# On other kinds of worker than cpu, where they are built: what is the same for all kinds is run on cpu alone.
KINDS, OF_KINDS = ("accelerate",), ("worker/native", "worker/openai")


def suites(preset, names):
    """Under sanitizers a colony speaks TLS on loopback, too; in the release build it speaks plain HTTP there."""
    cores = {f"worker/{k}": v for k, v in WORKER.items()} | {f"colony/{k}": v for k, v in COLONY.items()}
    for name in names:
        over = "LLORCH_TEST_TLS=1 " if preset != "release" and name.startswith("colony/") else ""
        yield Stage(f"{name.replace('/', '-')}-{preset}", f"{over}./dev suite {name} {preset}", (f"build-{preset}",), cores[name])


def of_kind(kind, name):
    program = f"build/release/bin/llorch-worker-{kind}"
    return Stage(f"{name.replace('/', '-')}-{kind}", f"if [ -x {program} ]; then LLORCH_TEST_BACKEND={kind} ./dev suite {name} release; else echo 'not run: {program} is not built'; fi", ("build-release",))


def added(have):
    """Suites that the table does not know yet: the folder is the registry."""
    for path in sorted((ROOT / "tests").glob("*/*_test.py")):
        name = f"{path.parent.name}/{path.stem.removesuffix('_test')}"
        if name not in have:
            yield name


def stages():
    opt = "release"
    known = [f"worker/{k}" for k in WORKER] + [f"colony/{k}" for k in COLONY]
    out = [
        Stage("tidy", "./dev tidy"),
        Stage("build-release", "./dev build release", build=True),
        Stage("build-dev", "./dev build dev", build=True),
        Stage("build-tsan", "./dev build tsan", build=True),
        Stage("build-neon", "./dev build neon", build=True),
        Stage("false-product", f"{PYTHON} tools/gates/false_product.py"),
        Stage("ctest-release", "./dev ctest release", ("build-release",), 2),
        Stage("ctest-dev", "./dev ctest dev", ("build-dev",), 2),
        Stage("ctest-tsan", "./dev ctest tsan", ("build-tsan",), 2),
        *suites(opt, known),
        *(Stage(f"{n.replace('/', '-')}-{opt}", f"./dev suite {n} {opt}", (f"build-{opt}",)) for n in added(known)),
        *suites("dev", DEV),
        *(of_kind(kind, name) for kind in KINDS for name in OF_KINDS),
        Stage("worker-test", "for _ in 1 2; do build/release/bin/llorch-dev worker-test; done", ("build-release",)),
        Stage("tokenizers", f"tools/parity/check_tokenizers {PYTHON} build/release/bin", ("build-release",)),
        Stage("formats", f"{PYTHON} tools/parity/check_formats.py build/release/bin", ("build-release",)),
        Stage("symbols", "python3 tools/gates/symbols.py build/release/bin; python3 tools/gates/dependencies.py build/release/bin", ("build-release",)),
        Stage("neon", "./dev neon", ("build-neon",)),
        Stage("fuzz", "./dev fuzz 2", ("build-dev",)),
        Stage("lint", "./dev lint changed", ("tidy",)),
        Stage("lint-all", "./dev lint", ("tidy",), 2, full=True, seconds_max=7200),
        Stage("fuzz-minutes", "./dev fuzz 120", ("build-dev", "fuzz"), full=True, seconds_max=7200),
        Stage("tsan-full", "LLORCH_TEST_TLS=1 ./dev tsan_full", ("build-tsan", "ctest-tsan"), full=True, seconds_max=7200, cores=2),
        Stage("colonies", "LLORCH_COLONIES=100000 build/release/bin/test_app_queen --gtest_brief=1 --gtest_filter='Simulation.*'", ("build-release",), full=True),
        Stage("haiku-200", f"{PYTHON} tools/haiku/measure.py --worker build/release/bin/llorch-worker-cpu --count 200", ("build-release",), full=True),
        Stage("reproducible", "tools/gates/reproducible", full=True, seconds_max=7200, cores=2),
    ]
    if (ROOT / "tests/soak/soak.py").exists():
        out.append(Stage("soak", "./dev soak 600", ("build-release",), full=True))
    ran = tuple(s.name for s in out)
    return [*out, Stage("requirements", "python3 tools/gates/report.py; ./dev checklist; ./dev real", after=ran)]


# Most units of `cuda` are the release build's, which the compiler cache has then.
CI = (Stage("package", "./dev package_test", ("build-release",), after=("requirements",)), Stage("cuda", "./dev cuda", ("build-release",), build=True))


def chosen(table, names):
    """The named stages, and what they need."""
    by, out, todo = {s.name: s for s in table}, {}, list(names)
    while todo:
        s = by[todo.pop()]
        out[s.name] = s
        todo += s.needs
    return [s for s in table if s.name in out]


def left_running():
    """Programs of this checkout's builds that outlived the run."""
    found = []
    for p in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            exe = (p / "exe").readlink()
            if exe.is_relative_to(ROOT / "build") and not exe.is_relative_to(ROOT / "build/venv"):
                found.append(f"{p.name} {(p / 'cmdline').read_bytes().replace(bytes(1), b' ').decode()}")
        except OSError:
            continue  # it has just ended
    return found


def main():
    flags, names = {a for a in sys.argv[1:] if a.startswith("--")}, [a for a in sys.argv[1:] if not a.startswith("--")]
    all_stages = stages()
    table = all_stages if "--full" in flags else [s for s in all_stages if not s.full]
    left_out = [s.name for s in all_stages if s not in table]
    if "--ci" in flags:
        table = [*table, *CI]
    if names:
        table, left_out = chosen(all_stages, names), []
    kept = {s.name for s in table}
    table = [Stage(**(vars(s) | {"after": tuple(n for n in s.after if n in kept)})) for s in table]
    if "--list" in flags:
        print("\n".join(f"{s.name:26} {s.command}" for s in table))
        return 0
    began = time.monotonic()
    ended = Runner(table, ROOT, ROOT / ".test-results/stages").run()
    print(f"packages took {os.environ.get('LLORCH_DEPS_SECONDS', '?')} s before the stages")
    if left_out:
        print(f"left to ./dev test --full: {', '.join(left_out)}")
    left = left_running()
    status = finish(ended, time.monotonic() - began)
    if left:
        print("FAILED: programs were left running:", *left, sep="\n  ")
    return status or bool(left)


if __name__ == "__main__":
    os.environ["LLORCH_BUILT"] = "1"  # suites build nothing: two at once must not
    sys.exit(main())
