#!/usr/bin/env python3
"""The gate report (T-24): what each line rests on, and how that ended in the last run here. A result that is missing is
FAIL. Writes .test-results/gate4_report.json and .md. Usage: report.py [ROOT]"""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "requirements"))
from checklist import last_results  # noqa: E402

ROOT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else __file__).resolve()
ROOT = ROOT if ROOT.is_dir() else ROOT.parents[2]
NATIVE, OPENAI, ABUSE = "tests/worker/native_test.py", "tests/worker/openai_test.py", "tests/worker/abuse_test.py"
GOLDEN, ENGINE = "tests/golden_test.cc", "tests/engine_run_test.cc"
LINES = {
    "foundation": {
        "http_server": ["src/net/net_test.cc", NATIVE], "sse_streaming": ["src/net/net_test.cc", NATIVE], "correlation_id": [NATIVE], "validation": ["src/security/validate_test.cc", NATIVE],
        "device_layer": ["src/device/device_test.cc"], "error_handling": [NATIVE, OPENAI], "device_context": ["src/device/device_test.cc"], "memory_policy": [ENGINE],
    },
    "models": {"qwen": [GOLDEN], "gpt": [GOLDEN, "tests/gpt2_checkpoint_test.cc"], "token_generation": [ENGINE, "tests/worker/haiku_test.py"], "determinism": ["tests/determinism_test.cc"]},
    "adapters": {"interface": ["src/device/device_test.cc"], "llama": [GOLDEN], "gpt": [GOLDEN], "factory": ["tests/load_test.cc"], "detection": ["tests/load_test.cc"]},
    "testing": {
        "unit": ["src/base/base_test.cc", "src/kernel/kernel_test.cc", "src/quant/quant_test.cc"], "integration": [NATIVE, "tests/colony/flow_test.py"], "all_models": [GOLDEN], "oom": [ENGINE, ABUSE],
        "utf8": ["src/text/tokenizer_test.cc", NATIVE], "cancellation": [NATIVE, ABUSE], "performance": [ABUSE],
    },
    "ci": {"pipeline": [".ci/run"], "automated": ["tools/tidy/tidy_test.py", "tools/requirements/checklist_test.py"], "artifacts": [".test-results"]},
}


def ended(path, results):
    """How the thing at `path` ended: a suite's last run; for what is no suite, whether it is there."""
    if path.endswith(("_test.cc", "_test.py")) and not path.startswith("tools/"):
        return results.get(path, "no result")
    return "passed" if (ROOT / path).exists() else "no result"


def main():
    results = last_results(ROOT)
    report = {group: {name: {"rests_on": {p: ended(p, results) for p in paths}} for name, paths in lines.items()} for group, lines in LINES.items()}
    failed = []
    for group, lines in report.items():
        for name, line in lines.items():
            line["ok"] = all(v == "passed" for v in line["rests_on"].values())
            if not line["ok"]:
                failed.append(f"{group}.{name}: " + ", ".join(f"{p} {v}" for p, v in line["rests_on"].items() if v != "passed"))
    folder = ROOT / ".test-results"
    folder.mkdir(exist_ok=True)
    (folder / "gate4_report.json").write_text(json.dumps({"ok": not failed, "gates": report}, indent=1))
    rows = [f"| {g} | {n} | {'PASS' if line['ok'] else 'FAIL'} | {', '.join(f'{p}: {v}' for p, v in line['rests_on'].items())} |" for g, lines in report.items() for n, line in lines.items()]
    (folder / "gate4_report.md").write_text("\n".join(["# Gate 4", "", "| group | line | | rests on |", "| --- | --- | --- | --- |", *rows, ""]))
    print("\n".join(failed + [f"gate report: {len(rows) - len(failed)} of {len(rows)} lines pass"]))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
