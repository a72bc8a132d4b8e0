#!/usr/bin/env python3
"""Style as a test: module dependencies, banned calls, size caps, named paths. Prints each violation and exits 1 when there is one."""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILE_LINES_MAX, FUNCTION_LINES_MAX = 600, 70

BANNED = [  # pattern, where it may stand, why
    (r"\b(sprintf|strcpy|strcat|gets|atoi|atof)\s*\(", (), "bounded or checked forms exist"),
    (r"\b(sleep|usleep|nanosleep|sleep_for|sleep_until)\s*\(", (), "nothing sleeps: wait for the event itself"),
    (r"\bsystem\s*\(|\bpopen\s*\(", (), "programs are run by argument vector, never through a shell"),
    (r"\bstd::rand\b|\bsrand\s*\(", (), "randomness is counter-based (base/random.h)"),
    (r"\bassert\s*\((?!.*static)", ("tools/",), "LLORCH_ASSERT stays on in release (base/assert.h)"),
    (r"\bassert\s*\(\s*true\s*\)|EXPECT_TRUE\s*\(\s*true\s*\)", (), "a check that cannot fail"),
    (r"-ffast-math|-Ofast", ("tools/tidy/",), "results must be the same bits"),
    (r"\b(llama|ggml)\.h\b|\blib(llama|ggml)\b", ("tools/tidy/",), "no other engine is named in sources or build files (E-01)"),
    (r"(?<![\w.>)])(\w+)\s*\|\|\s*!\1\s*[),;]|EXPECT_(EQ|TRUE|FALSE)\s*\(\s*(\d+|true|false)\s*(,\s*\3\s*)?\)", (), "a check that cannot fail"),
    (r"\b(TODO|FIXME|XXX)\b", ("tools/tidy/",), "unfinished work is an issue, not a comment"),
]

PRODUCT = [  # what only a product that pretends would hold (T-04)
    (r"(?i)\b(stub(bed)?|mock(ed)?|fake(d)?|dummy|hard-?coded|not (yet )?implemented|placeholder)\b(?! ?[=:])", "announces that something is not real"),
    (r"(?i)\bcapital of france\b|\bhaiku about (rain|the sea|autumn)\b", "the product must not know what tests ask"),
    (r"(?i)\b(test|dummy|mock|fake)-model\b", "a model that does not exist"),
]

# How known models mark calls of tools: the template says so, and only a family's file may repeat it.
MARKERS = re.compile(
    r"""</?tool_call>|\[/?TOOL_CALLS\]|\[ARGS\]|<function=|<parameter[= ]|<invoke[ >]|</?arg_(key|value)>|functools\[|<\|python_tag|<\|/?tool_call|<tool_call\||tool▁|DSML"""
    r"""|minimax:|seed:tool|atem:|<\|(channel|constrain|call|action_start|plugin)\|?>|<\|"\|>|<\|?tool_call_start|to=functions|<｜|✿FUNCTION|<\|START_ACTION""")
MARKED = ("src/tools/family/", "apps/worker/reasoning.", "src/text/tokenizer.cc")  # the others: thoughts and channels; ends of answers


def tracked(root, *patterns):
    out = subprocess.run(["git", "-C", str(root), "ls-files", "-co", "--exclude-standard", *patterns], capture_output=True, text=True, check=True).stdout
    return [root / line for line in out.splitlines() if (root / line).is_file()]


def modules(root):
    """name -> modules that it may include, with everything that those may include."""
    text = (root / "src/CMakeLists.txt").read_text()
    direct = {}
    for call in re.findall(r"llorch_module\(NAME (\w+)([^)]*)\)", text):
        deps = re.search(r"DEPS ([\w ]+?)(?: LIBS| SOURCES|$)", call[1].strip())
        direct[call[0]] = set(deps.group(1).split()) if deps else set()
    closure = {}
    for name in direct:
        seen, todo = set(), [name]
        while todo:
            for d in direct.get(todo.pop(), ()):
                if d not in seen:
                    seen.add(d)
                    todo.append(d)
        closure[name] = seen | {name}
    return closure


# Folders that are libraries of their own, and what these may include beside their module's.
LIBRARIES = {"src/device/cuda": {"cuda"}}  # cmake/cuda_device.cmake


def check_includes(root):
    allowed = modules(root)
    for path in tracked(root, "src"):
        if path.suffix not in (".h", ".cc", ".cu"):
            continue
        module = path.relative_to(root / "src").parts[0]
        if module not in allowed:
            yield f"{path.relative_to(root)}: module '{module}' is not declared in src/CMakeLists.txt"
            continue
        may = allowed[module] | LIBRARIES.get(str(path.relative_to(root).parent), set())
        for n, line in enumerate(path.read_text().splitlines(), 1):
            m = re.match(r'#include "(\w+)/', line)
            if m and m.group(1) in allowed and m.group(1) not in may and not path.name.endswith("_test.cc"):
                yield f"{path.relative_to(root)}:{n}: {module} may not include {m.group(1)} (DEPS in src/CMakeLists.txt)"


def check_banned(root):
    for path in tracked(root, "src", "apps", "tests", "fuzz", "bench", "CMakeLists.txt", "cmake"):
        if path.suffix not in (".h", ".cc", ".cu", ".cmake", ".txt", ".inc"):
            continue
        name = str(path.relative_to(root))
        for n, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            for pattern, exempt, why in BANNED:
                if not name.startswith(tuple(exempt) or ("\0",)) and re.search(pattern, line):
                    yield f"{name}:{n}: banned: {line.strip()[:60]} ({why})"


def check_throwing_files(root):
    """Calls of <filesystem> that throw: on a thread of its own that ends the process."""
    calls = "exists|is_directory|is_regular_file|is_symlink|file_size|canonical|weakly_canonical|absolute|relative|rename|remove|remove_all|copy_file|create_directory|create_directories|create_symlink|read_symlink|permissions|last_write_time|space|temp_directory_path|current_path|resize_file"
    for path in tracked(root, "src", "apps"):
        name = str(path.relative_to(root))
        if path.suffix not in (".h", ".cc") or "_test." in name or name.startswith("apps/dev/"):
            continue
        for n, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if re.search(rf"\b(fs|filesystem)::({calls})\((?!.*\b(problem|dangling)\b)", line):
                yield f"{name}:{n}: throws: {line.strip()[:60]} (give it an error_code)"
            if re.search(r"\bfor\s*\([^;]*directory_iterator", line) and ";" not in line.split("directory_iterator")[1]:
                yield f"{name}:{n}: throws: {line.strip()[:60]} (its ++ throws: entries_of() of base/folder.h)"


def inside_loop(lines, n):
    """Whether line n (from 0) is in the body of a loop, by its indentation: sources are formatted."""
    indent = len(lines[n]) - len(lines[n].lstrip())
    for line in reversed(lines[:n]):
        at = len(line) - len(line.lstrip())
        if line.strip() and at < indent:
            if re.match(r"\s*(for|while)\b|\s*do \{", line):
                return True
            indent = at
    return False


def check_waits(root):
    """A wait in a loop whose result nobody looks at: a cancelled procedure would never give the event loop back. Those
    of a connection (woken()) end with it, which their loops look at."""
    for path in tracked(root, "src", "apps"):
        if path.suffix not in (".h", ".cc"):
            continue
        lines = path.read_text(errors="replace").splitlines()
        for n, line in enumerate(lines):
            ignored = re.match(r"\s*(\(void\)\s*)?co_await\b", line) or re.search(r"[){]\s*(\(void\)\s*)?co_await\b", line)
            if ignored and "woken()" not in line and (inside_loop(lines, n) or re.match(r"\s*(for|while)\b.*\)\s*(\(void\)\s*)?co_await\b", line)):
                yield f"{path.relative_to(root)}:{n + 1}: ignored wait in a loop: {line.strip()[:60]} (end the loop where it fails)"


def loop_heads(text):
    """(line, what stands in the parentheses) of each for and while, also that of do."""
    for m in re.finditer(r"\b(?:for|while)\s*\(", text):
        depth, at = 1, m.end()
        while at < len(text) and depth:
            depth += {"(": 1, ")": -1}.get(text[at], 0)
            at += 1
        yield text.count("\n", 0, m.start()) + 1, text[m.end() : at - 1]


def check_waits_in_conditions(root):
    """GCC 12.2 makes wrong code of several co_await in the condition of one loop: what the first gave is lost."""
    for path in tracked(root, "src", "apps"):
        if path.suffix in (".h", ".cc"):
            text = re.sub(r"//[^\n]*", "", path.read_text(errors="replace"))
            for n, head in loop_heads(text):
                if len(re.findall(r"\bco_await\b", head)) > 1:
                    yield f"{path.relative_to(root)}:{n}: several waits in the condition of a loop (GCC 12.2 makes wrong code of it: wait in the body)"


def check_security_tests(root):
    """The tests that docs/security.md names for each fault exist: the file, and in it the test."""
    document = root / "docs/security.md"
    if not document.exists():
        return
    for n, line in enumerate(document.read_text().splitlines(), 1):
        cells = [c.strip() for c in re.split(r"(?<!\\)\|", line)]
        if len(cells) < 6 or not re.match(r"[A-Z]*-?\d", cells[1]):
            continue
        file, text = None, ""
        for path, name in re.findall(r"((?:src|apps|tests|tools|fuzz)/[\w./-]*\w)|(\btest_\w+|\b[A-Z]\w*\.[\w*]+)", cells[3]):
            if path:
                file, text = path, (root / path).read_text(errors="replace") if (root / path).is_file() else ""
                if not (root / path).exists():
                    yield f"docs/security.md:{n}: names {path}, which does not exist"
            elif file and text:
                for part in name.split("."):
                    if part != "*" and not re.search(rf"\b{re.escape(part.rstrip('*'))}" + ("" if part.endswith("*") else r"\b"), text):
                        yield f"docs/security.md:{n}: {file} has no {name}"
                        break


def check_pretence(root):
    for path in tracked(root, "src", "apps"):
        name = str(path.relative_to(root))
        if path.suffix not in (".h", ".cc", ".cu", ".html", ".js") or re.search(r"_test\.|/test_|/vendor/", name) or name.startswith("apps/dev/"):
            continue
        for n, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            for pattern, why in PRODUCT:
                if re.search(pattern, line):
                    yield f"{name}:{n}: pretends: {line.strip()[:60]} ({why})"
    for path in tracked(root, "tests", "tools", "bench"):
        if path.suffix == ".py":
            for n, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
                if re.search(r"assertTrue\(True\)|assertFalse\(False\)|assertEqual\((\w+), \1\)|except[^:]*:\s*pass\b", line):
                    yield f"{path.relative_to(root)}:{n}: {line.strip()[:60]} (a check that cannot fail)"


def check_markers(root):
    for path in tracked(root, "src", "apps"):
        name = str(path.relative_to(root))
        if path.suffix not in (".h", ".cc", ".inc", ".html", ".js") or name.startswith(MARKED) or re.search(r"_test\.|/test_", name):
            continue
        for n, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if m := MARKERS.search(line):
                yield f"{name}:{n}: a known model's marker: {m.group(0)} (formats of calls are learnt; what no template shows stands in src/tools/family/)"


def check_sizes(root):
    for path in tracked(root, "src", "apps", "tests", "fuzz", "bench", "tools"):
        if path.suffix not in (".h", ".cc", ".cu", ".py"):
            continue
        lines = path.read_text(errors="replace").splitlines()
        if len(lines) > FILE_LINES_MAX:
            yield f"{path.relative_to(root)}: {len(lines)} lines, at most {FILE_LINES_MAX}"
        if path.suffix == ".py":
            continue
        start = None
        for n, line in enumerate(lines, 1):
            if start is None and re.match(r"^( {0,2})[A-Za-z_].*\)[^;]*\{$", line) and not re.match(r"^\s*(namespace|class|struct|enum|if|for|while|switch|extern)\b", line):
                start, indent = n, len(line) - len(line.lstrip())
            elif start is not None and line.startswith(" " * indent + "}") :
                if n - start + 1 > FUNCTION_LINES_MAX:
                    yield f"{path.relative_to(root)}:{start}: a function of {n - start + 1} lines, at most {FUNCTION_LINES_MAX}"
                start = None


def check_named_paths(root):
    """Paths in backquotes in the documents must exist."""
    for path in tracked(root, "*.md", "docs"):
        if path.suffix != ".md":
            continue
        for n, line in enumerate(path.read_text().splitlines(), 1):
            for name in re.findall(r"`((?:src|apps|tests|tools|docs|fuzz|bench|cmake|models|\.ci)/[\w./-]*)`", line):
                if not (root / name).exists():
                    yield f"{path.relative_to(root)}:{n}: names {name}, which does not exist"


def check_isa_guards(root):
    """#ifdef for an ISA or device only where kernels live, for a spin hint, and for the two builds of CUDA's kernels."""
    for path in tracked(root, "src", "apps"):
        name = str(path.relative_to(root))
        if path.suffix in (".h", ".cc", ".cu") and not name.startswith(("src/kernel/", "src/cuda/", "src/base/thread_pool.cc")) and not name.endswith("_test.cc"):
            for n, line in enumerate(path.read_text().splitlines(), 1):
                if re.search(r"__(AVX|x86_64|aarch64|ARM_|CUDA)", line):
                    yield f"{name}:{n}: ISA or device conditional outside src/kernel and src/cuda"


CHECKS = [check_includes, check_banned, check_throwing_files, check_waits, check_waits_in_conditions, check_security_tests, check_pretence, check_markers, check_sizes, check_named_paths, check_isa_guards]


def violations(root):
    return [v for check in CHECKS for v in check(root)]


if __name__ == "__main__":
    found = violations(ROOT)
    print("\n".join(found) or "tidy: nothing found")
    sys.exit(bool(found))
