"""`llm`, the program, with models of its extra-openai-models.yaml. Its embeddings are OpenAI's own or of plugins."""
import json
import os
import pathlib
import signal
import subprocess
import sys

from calls import BASE, BIRD, ENDLESS, ENDLESS_TOKENS, KEY, MODEL, PROMPT, TOOL_PROMPT, WEATHER, call, main, one_is_cancelled

FOLDER = pathlib.Path.home() / "llm"
FOLDER.mkdir()
(FOLDER / "extra-openai-models.yaml").write_text(
    "".join(f"- model_id: {name}\n  model_name: {model}\n  api_base: {BASE}\n  supports_tools: true\n  supports_schema: true\n{more}" for name, model, more in (("ours", MODEL, ""), ("unknown", "nobody", ""), ("responses", MODEL, "  responses: true\n")))
)
ENV = os.environ | {"LLM_USER_PATH": str(FOLDER), "OPENAI_API_KEY": KEY}
PROGRAM = str(pathlib.Path(sys.executable).parent / "llm")
OPTIONS = ("-o", "temperature", "0", "-o", "max_tokens", "60")


def llm(*arguments, status=0):
    r = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, env=ENV, timeout=120)
    assert (r.returncode == 0) == (status == 0), r.stdout + r.stderr
    return (r.stdout if status == 0 else r.stderr).strip()


@call("chat")
def chat():
    assert llm("-m", "ours", "--no-stream", PROMPT, *OPTIONS)


@call("stream")
def stream():
    first = llm("-m", "ours", PROMPT, *OPTIONS)
    assert first == llm("-m", "ours", "--no-stream", PROMPT, *OPTIONS)
    assert llm("-c", "And another one.", *OPTIONS)  # goes on in the conversation that it kept


@call("tools")
def tools():
    said = llm("-m", "ours", "--functions", f"def weather(city: str) -> str:\n    'The weather of a city'\n    return {WEATHER!r}", "--td", TOOL_PROMPT, *OPTIONS)
    assert "rain" in said, said


@call("structured")
def structured():
    bird = json.loads(llm("-m", "ours", "--schema", json.dumps(BIRD), PROMPT, *OPTIONS))
    assert sorted(bird) == ["legs", "name"], bird


@call("errors")
def errors():
    assert "model" in llm("-m", "unknown", PROMPT, status=1)


@call("cancel")
def cancel():
    with one_is_cancelled():
        p = subprocess.Popen([PROGRAM, "-m", "ours", ENDLESS, "-o", "max_tokens", str(ENDLESS_TOKENS)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENV)
        p.stdout.read(1)
        p.send_signal(signal.SIGINT)
        p.wait(20)
        p.stdout.close()


@call("responses")
def responses():
    assert llm("-m", "responses", PROMPT, "-o", "max_tokens", "40")


if __name__ == "__main__":
    main()
