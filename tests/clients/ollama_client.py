"""Ollama's own Python client, on our /api routes: lines of JSON, tools, a schema, vectors."""
import json

import ollama
from calls import BIRD, ENDLESS, ENDLESS_TOKENS, MODEL, PROMPT, SERVER, TOOL, TOOL_PROMPT, URL, VECTOR_MODEL, VECTOR_TEXTS, VECTOR_URL, WEATHER, call, expect_refused, expect_vectors, main, one_is_cancelled

CLIENT = ollama.Client(host=URL)
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}], "options": {"temperature": 0, "num_predict": 40}}


@call("chat")
def chat():
    whole = CLIENT.chat(**ASKED)
    assert whole.message.content and whole.done and whole.eval_count > 0, whole
    said = CLIENT.generate(model=MODEL, prompt=PROMPT, options=ASKED["options"])
    assert said.response == whole.message.content, said
    if SERVER == "queen":
        assert MODEL in {m.model for m in CLIENT.list().models} | {MODEL}
        assert CLIENT.ps().models and CLIENT.show(MODEL).details.format == "gguf"


@call("stream")
def stream():
    parts = list(CLIENT.chat(**ASKED, stream=True))
    assert len(parts) > 3 and parts[-1].done and not parts[0].done
    assert "".join(p.message.content for p in parts) == CLIENT.chat(**ASKED).message.content


@call("tools")
def tools():
    asked = ASKED | {"messages": [{"role": "user", "content": TOOL_PROMPT}], "tools": [TOOL], "options": {"temperature": 0, "num_predict": 60}}
    said = CLIENT.chat(**asked).message
    assert said.tool_calls[0].function.name == "weather" and said.tool_calls[0].function.arguments["city"] in ("Oslo", "Paris"), said
    asked["messages"] += [said, {"role": "tool", "tool_name": "weather", "content": WEATHER}]
    assert "rain" in CLIENT.chat(**asked).message.content


@call("structured")
def structured():
    bird = json.loads(CLIENT.chat(**ASKED | {"options": {"temperature": 0, "num_predict": 80}}, format=BIRD).message.content)
    assert bird["name"] in ("crow", "gull", "wren") and 0 <= bird["legs"] <= 9, bird


@call("embeddings")
def embeddings():
    expect_vectors(ollama.Client(host=VECTOR_URL).embed(model=VECTOR_MODEL, input=VECTOR_TEXTS).embeddings)


@call("errors")
def errors():
    expect_refused(ollama.ResponseError, lambda: CLIENT.chat(**ASKED | {"model": "nobody"}), "model")
    expect_refused(ollama.ResponseError, lambda: CLIENT.chat(**ASKED | {"options": {"temperature": 9}}), "options.temperature")


@call("cancel")
def cancel():
    with one_is_cancelled():
        parts = CLIENT.chat(model=MODEL, messages=[{"role": "user", "content": ENDLESS}], options={"num_predict": ENDLESS_TOKENS}, stream=True)
        for _ in zip(range(5), parts):
            pass
        parts.close()


if __name__ == "__main__":
    main()
