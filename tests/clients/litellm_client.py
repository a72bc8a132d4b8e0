"""LiteLLM, as a library: model names begin with `openai/`, or with `anthropic/` for our Messages route."""
import json
import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it fetches a price list when it is imported
import litellm
import pydantic
from calls import BASE, ENDLESS, ENDLESS_TOKENS, KEY, MODEL, PROMPT, TOOL, TOOL_PROMPT, URL, VECTOR_BASE, VECTOR_MODEL, VECTOR_TEXTS, WEATHER, call, expect_refused, expect_vectors, main, one_is_cancelled

litellm.telemetry = False
USER = [{"role": "user", "content": PROMPT}]
ASKED = {"model": f"openai/{MODEL}", "api_base": BASE, "api_key": KEY, "messages": USER, "temperature": 0, "max_tokens": 40, "max_retries": 0}


class Bird(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=12)
    legs: int = pydantic.Field(ge=0, le=9)


@call("chat")
def chat():
    whole = litellm.completion(**ASKED)
    assert whole.choices[0].message.content and whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens, whole


@call("stream")
def stream():
    chunks = list(litellm.completion(**ASKED, stream=True, stream_options={"include_usage": True}))
    whole = litellm.completion(**ASKED)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole.choices[0].message.content
    assert litellm.stream_chunk_builder(chunks, messages=USER).usage.completion_tokens == whole.usage.completion_tokens


@call("tools")
def tools():
    for choice in ("auto", "required"):
        asked = ASKED | {"messages": [{"role": "user", "content": TOOL_PROMPT}], "tools": [TOOL], "max_tokens": 60}
        said = litellm.completion(**asked, tool_choice=choice, parallel_tool_calls=False).choices[0]
        assert said.finish_reason == "tool_calls" and json.loads(said.message.tool_calls[0].function.arguments)["city"] in ("Oslo", "Paris"), said
        asked["messages"] += [said.message, {"role": "tool", "tool_call_id": said.message.tool_calls[0].id, "content": WEATHER}]
        assert "rain" in litellm.completion(**asked).choices[0].message.content


@call("structured")
def structured():
    Bird.model_validate_json(litellm.completion(**ASKED | {"max_tokens": 80}, response_format=Bird).choices[0].message.content)


@call("embeddings")
def embeddings():
    answer = litellm.embedding(model=f"openai/{VECTOR_MODEL}", api_base=VECTOR_BASE, api_key=KEY, input=VECTOR_TEXTS)
    expect_vectors([d["embedding"] for d in answer.data])


@call("errors")
def errors():
    expect_refused(litellm.NotFoundError, lambda: litellm.completion(**ASKED | {"model": "openai/nobody"}))
    expect_refused(litellm.BadRequestError, lambda: litellm.completion(**ASKED | {"temperature": 9}), "temperature")


@call("long prompt")
def long_prompt():
    """It knows the error by its words, and its users' fallbacks depend on the type."""
    expect_refused(litellm.ContextWindowExceededError, lambda: litellm.completion(**ASKED | {"messages": [{"role": "user", "content": "sea " * 20_000}]}))


@call("cancel")
def cancel():
    with one_is_cancelled():
        chunks = litellm.completion(**ASKED | {"messages": [{"role": "user", "content": ENDLESS}], "max_tokens": ENDLESS_TOKENS}, extra_body={"ignore_eos": True}, stream=True)
        for _ in zip(range(5), chunks):
            pass
        chunks.completion_stream.close()


@call("messages")
def messages():
    asked = ASKED | {"model": f"anthropic/{MODEL}", "api_base": URL}
    whole = litellm.completion(**asked).choices[0].message.content
    assert whole and "".join(c.choices[0].delta.content or "" for c in litellm.completion(**asked, stream=True)) == whole
    said = litellm.completion(**asked | {"messages": [{"role": "user", "content": TOOL_PROMPT}]}, tools=[TOOL]).choices[0]
    assert said.finish_reason == "tool_calls" and json.loads(said.message.tool_calls[0].function.arguments)["city"] in ("Oslo", "Paris"), said


@call("responses")
def responses():
    assert litellm.responses(model=f"openai/{MODEL}", api_base=BASE, api_key=KEY, input=PROMPT, max_output_tokens=30).output_text


if __name__ == "__main__":
    main()
