"""aider, the program: it edits files in a folder. It has no tools, no schemas and no embeddings."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

from calls import BASE, ENDLESS, ENDLESS_TOKENS, KEY, MODEL, PROMPT, call, main, one_is_cancelled

FOLDER = pathlib.Path.home() / "project"
FOLDER.mkdir(exist_ok=True)
EDIT = "hello.py\n```\nprint('goodbye')\n```\n"
SETTINGS = {"endless": {"max_tokens": ENDLESS_TOKENS, "extra_body": {"ignore_eos": True}}, "editor": {"max_tokens": 100, "extra_body": {"grammar": f"root ::= {json.dumps(EDIT)}"}}}
(FOLDER / "settings.yml").write_text(
    json.dumps([{"name": f"openai/{MODEL}", "use_temperature": 0, "extra_params": {"max_tokens": 100}}, *({"name": f"openai/{name}", "extra_params": {"model": f"openai/{MODEL}"} | more} for name, more in SETTINGS.items())])
)
# Without it aider fetches a price list; the sizes are what it says to its user.
(FOLDER / "metadata.json").write_text(json.dumps({f"openai/{name}": {"max_input_tokens": 4096, "max_output_tokens": 1024, "litellm_provider": "openai", "mode": "chat"} for name in (MODEL, "nobody", *SETTINGS)}))
ENV = os.environ | {"OPENAI_API_BASE": BASE, "OPENAI_API_KEY": KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
PROGRAM = str(pathlib.Path(sys.executable).parent / "aider")
OPTIONS = ("--no-git", "--yes-always", "--no-pretty", "--no-check-update", "--no-show-model-warnings", "--no-show-release-notes", "--analytics-disable", "--no-fancy-input", "--no-detect-urls", "--map-tokens", "0", "--edit-format", "ask", "--model-settings-file", "settings.yml", "--model-metadata-file", "metadata.json")


def aider(*arguments, model=MODEL):
    r = subprocess.run([PROGRAM, "--model", f"openai/{model}", *OPTIONS, *arguments], capture_output=True, text=True, env=ENV, cwd=FOLDER, timeout=300, stdin=subprocess.DEVNULL)
    assert r.returncode == 0, r.stdout + r.stderr
    return r.stdout


@call("chat")
def chat():
    said = aider("--no-stream", "--message", PROMPT)
    assert "received" in said and "litellm." not in said, said


@call("stream")
def stream():
    said = aider("--stream", "--message", PROMPT)
    assert "received" in said and "litellm." not in said, said


@call("edit")
def edit():
    """A file is in the chat; a grammar makes this small model's answer an edit, which the program carries out."""
    (FOLDER / "hello.py").write_text("print('hello')\n")
    aider("--edit-format", "whole", "--no-auto-lint", "--message", "Say goodbye instead.", "hello.py", model="editor")
    assert (FOLDER / "hello.py").read_text() == "print('goodbye')\n"


@call("errors")
def errors():
    said = aider("--message", PROMPT, model="nobody")
    assert "NotFoundError" in said or "not found" in said.lower() or "no such model" in said, said


@call("cancel")
def cancel():
    with one_is_cancelled():
        p = subprocess.Popen([PROGRAM, "--model", "openai/endless", *OPTIONS, "--stream", "--message", ENDLESS], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=ENV, cwd=FOLDER, stdin=subprocess.DEVNULL)
        seen = b""
        while len(seen.partition(b"Repo-map: disabled")[2].strip()) < 10 and (piece := os.read(p.stdout.fileno(), 4096)):  # until it prints the answer
            seen += piece
        p.send_signal(signal.SIGINT)
        time.sleep(0.5)
        p.kill()
        p.wait(20)
        p.stdout.close()


if __name__ == "__main__":
    main()
