#!/usr/bin/env python3
"""Programs that people point at our addresses, each from its own package in an environment of its own, against a worker and a queen.

run.py [NAME...]      all clients, or these alone
Prints a table of client, server and call, with the reasons below it; ends with 1 where a call failed. What a client printed is in
build/clients/logs/NAME-SERVER.log. Needs the models of `./dev models` and, the first time, PyPI: about 3 GB in build/clients."""
import argparse
import contextlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(ROOT / "tests/worker"), str(ROOT / "tests/colony")]
import gguf  # noqa: E402
import tokenizers  # noqa: E402
from colony import Colony  # noqa: E402
from harness import Worker  # noqa: E402

FOLDER = ROOT / "build/clients"
MODELS = ROOT / ".test-models"
SECONDS_MAX = 900  # of one client against one server

# client -> the packages that it is installed from. What they need themselves is chosen by pip.
CLIENTS = {
    "openai": ("openai==3.57.0",),
    "anthropic": ("anthropic==2.14.0",),
    "litellm": ("litellm==1.110.2",),
    "langchain-openai": ("langchain-openai==1.7.4", "langgraph==1.2.24"),
    "pydantic-ai": ("pydantic-ai-slim[openai,anthropic]==2.68.0",),
    "instructor": ("instructor==1.17.0",),
    "smolagents": ("smolagents[openai]==1.26.0",),
    "openai-agents": ("openai-agents==0.24.0",),
    "llama-index": ("llama-index-core==0.14.25", "llama-index-llms-openai-like==0.8.1", "llama-index-embeddings-openai-like==0.4.0"),
    "lm-eval": ("lm-eval[api]==0.4.13", "transformers==5.24.0"),
    "llm": ("llm==0.36",),
    "aider-chat": ("aider-chat==0.86.2",),
    "ollama": ("ollama==0.6.3",),
    "claude-agent-sdk": ("claude-agent-sdk==0.2.189",),
}
LONG_PROMPTS = {"claude-agent-sdk"}
COLUMNS = ("chat", "stream", "tools", "structured", "embeddings", "errors", "cancel")


def with_tools(source, target, start, end):
    """A copy of a model whose chat template has tools, with the marks of this model's turns."""
    template = (HERE / "tools.jinja").read_text().replace("<|im_start|>", start).replace("<|im_end|>", end)
    stamp = target.with_suffix(".jinja")
    if target.exists() and stamp.exists() and stamp.read_text() == template:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".jinja") as f:
        f.write(template)
        f.flush()
        subprocess.run([sys.executable, "-m", "gguf.scripts.gguf_new_metadata", "--force", "--chat-template-file", f.name, source, target], check=True, capture_output=True)
    stamp.write_text(template)
    return target


def tokenizer_of(source, target):
    """The model's tokenizer as a folder of Hugging Face's form: lm-eval sends token ids. Good for SmolLM2's kind alone."""
    if (target / "tokenizer.json").exists():
        return target
    fields = gguf.GGUFReader(source).fields
    vocabulary, merges = (fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "merges"))
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab={token: n for n, token in enumerate(vocabulary)}, merges=[tuple(m.split(" ")) for m in merges]))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([tokenizers.pre_tokenizers.Digits(individual_digits=True), tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)])
    made.decoder = tokenizers.decoders.ByteLevel()
    target.mkdir(parents=True, exist_ok=True)
    made.save(str(target / "tokenizer.json"))
    (target / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}))
    return target


def models(long):
    """name -> file, and the context that it is served with"""
    found = {
        "smollm2": (with_tools(MODELS / "smollm2-135m-q4_1.gguf", FOLDER / "models/smollm2.gguf", "<|im_start|>", "<|im_end|>"), 4096),
        "minilm": (MODELS / "all-minilm-l6-v2", None),
    }
    if long:
        found["gemma3"] = (with_tools(MODELS / "gemma3-270m-q4_k_m.gguf", FOLDER / "models/gemma3.gguf", "<start_of_turn>", "<end_of_turn>"), 32768)
    return found


ROLES = {"smollm2": "TOOLS", "minilm": "VECTORS", "gemma3": "LONG"}


@contextlib.contextmanager
def workers(served):
    """One worker for each model: their addresses, as the clients' files read them."""
    with contextlib.ExitStack() as stack:
        where = {}
        for name, (path, context) in served.items():
            w = stack.enter_context(Worker("--strict-model", "--model-ref", name, *(["--ctx", str(context)] if context else []), model=path))
            where[f"LLORCH_CLIENT_{ROLES[name]}"] = f"{w.url} {name}"
        yield where


@contextlib.contextmanager
def queen(served):
    """A queen that knows the same models by the same names, and has them loaded."""
    with Colony(tls=False) as c:
        c.queen()
        for name, (path, _) in served.items():
            for order in ({"operation": "model_alias", "name": name, "model": f"file:{path}"}, {"operation": "model_load", "model": name}):
                end = c.job(order)[-1]
                assert end[1] == "end", end
        yield {f"LLORCH_CLIENT_{ROLES[name]}": f"{c.url} {name}" for name in served}


SERVERS = {"worker": workers, "queen": queen}


def environment_of(name):
    """The client's own Python, with the packages of the table."""
    folder = FOLDER / name
    python, stamp = folder / "bin/python", folder / "packages"
    wanted = "\n".join(CLIENTS[name])
    if not (stamp.exists() and stamp.read_text() == wanted):
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-compile", *CLIENTS[name]], check=True)
        stamp.write_text(wanted)
    return python


def run(name, server, where, python, calls=()):
    """{call: what its line says} of one client against one server."""
    with tempfile.TemporaryDirectory(prefix="llorch-client-") as home:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "ANTHROPIC_", "CLAUDE", "LLORCH_", "PYTHONPATH", "XDG_"))}
        env = kept | where | {"HOME": home, "LLORCH_CLIENT_SERVER": server, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"}
        file = HERE / f"{name.replace('-', '_')}_client.py"
        try:
            r = subprocess.run([python, "-W", "ignore", file, *calls], capture_output=True, text=True, env=env, cwd=home, timeout=SECONDS_MAX)
            out, err, code = r.stdout, r.stderr, r.returncode
        except subprocess.TimeoutExpired as late:
            out, err = ((text or b"").decode(errors="replace") for text in (late.stdout, late.stderr))
            code = None
    log = FOLDER / "logs" / f"{name}-{server}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(out + err)
    results = dict(re.findall(r"^([a-z][a-z ]*): ((?:ok|FAILED|not run)\b.*)$", out, re.M))
    if code is None:
        results["end"] = f"FAILED: it was not done after {SECONDS_MAX} s"
    elif code != (1 if any(v.startswith("FAILED") for v in results.values()) else 0) or not results:
        results["end"] = f"FAILED: exit status {code}: " + " ".join(err.split())[-300:]
    return results


def version(python, name):
    package = CLIENTS[name][0].split("==")[0].split("[")[0]
    return subprocess.run([python, "-c", f"import importlib.metadata as m; print(m.version({package!r}))"], capture_output=True, text=True).stdout.strip()


def cell(line):
    return "-" if line is None else "ok" if line.startswith("ok") else "FAILED" if line.startswith("FAILED") else "not run"


def table(results, versions):
    """Markdown: a line for each client and server; what failed or was not run is named below."""
    yield f"| client | version | server | {' | '.join(COLUMNS)} | other calls |"
    yield "|" + " --- |" * (len(COLUMNS) + 4)
    for (name, server), found in results.items():
        others = ", ".join(f"{k} {cell(v)}" for k, v in found.items() if k not in COLUMNS)
        yield f"| {name} | {versions[name]} | {server} | {' | '.join(cell(found.get(c)) for c in COLUMNS)} | {others or '-'} |"
    yield ""
    for (name, server), found in results.items():
        yield from (f"{name}, {server}, {k}: {v}" for k, v in found.items() if not v.startswith("ok"))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="*", metavar="NAME")
    p.add_argument("--calls", default="", help="these calls alone, with commas between them")
    p.add_argument("--servers", default=",".join(SERVERS), help="these servers alone")
    a = p.parse_args()
    for name in a.names:
        if name not in CLIENTS:
            p.error(f"no client '{name}': {', '.join(CLIENTS)}")
    names = a.names or list(CLIENTS)
    served = models(bool(LONG_PROMPTS & set(names)))
    tokenizer = tokenizer_of(MODELS / "smollm2-135m-q4_1.gguf", FOLDER / "models/tokenizer") if "lm-eval" in names else ""
    results, versions, pythons = {}, {}, {}
    for name in names:
        pythons[name] = environment_of(name)
        versions[name] = version(pythons[name], name)
    for server in a.servers.split(","):
        with SERVERS[server](served) as where:
            where["LLORCH_CLIENT_TOKENIZER"] = str(tokenizer)
            for name in names:
                print(f"{name} {versions[name]}, {server}", flush=True)
                results[name, server] = run(name, server, where, pythons[name], [c for c in a.calls.split(",") if c])
                for k, v in results[name, server].items():
                    print(f"  {k}: {v}", flush=True)
    print("", *table(dict(sorted(results.items(), key=lambda r: names.index(r[0][0]))), versions), sep="\n")
    sys.exit(any(v.startswith("FAILED") for found in results.values() for v in found.values()))


if __name__ == "__main__":
    main()
