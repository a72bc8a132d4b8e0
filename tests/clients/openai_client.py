"""OpenAI's Python SDK."""
import json

import openai
import pydantic
from calls import BASE, ENDLESS, ENDLESS_TOKENS, KEY, MODEL, PROMPT, SERVER, TOOL, TOOL_PROMPT, VECTOR_BASE, VECTOR_MODEL, VECTOR_TEXTS, WEATHER, call, expect_refused, expect_vectors, main, one_is_cancelled

CLIENT = openai.OpenAI(base_url=BASE, api_key=KEY, max_retries=0)
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}], "temperature": 0, "max_tokens": 40}
RESPONSE = {"model": MODEL, "input": PROMPT, "temperature": 0, "max_output_tokens": 40}


class Bird(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=12)
    legs: int = pydantic.Field(ge=0, le=9)


@call("models")
def models():
    listed = [m.id for m in CLIENT.models.list()]
    assert listed and CLIENT.models.retrieve(MODEL).id in (MODEL, *listed), listed


@call("chat")
def chat():
    whole = CLIENT.chat.completions.create(**ASKED)
    assert whole.choices[0].message.content and whole.choices[0].finish_reason in ("stop", "length"), whole
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens


@call("stream")
def stream():
    chunks = list(CLIENT.chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True}))
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    whole = CLIENT.chat.completions.create(**ASKED)
    assert (text, chunks[-1].usage.completion_tokens) == (whole.choices[0].message.content, whole.usage.completion_tokens), text
    with CLIENT.chat.completions.stream(**ASKED) as events:
        assert events.get_final_completion().choices[0].message.content == text


@call("tools")
def tools():
    for choice in ("auto", "required", {"type": "function", "function": {"name": "weather"}}):
        messages = [{"role": "user", "content": TOOL_PROMPT}]
        asked = {"model": MODEL, "messages": messages, "tools": [TOOL], "temperature": 0, "max_tokens": 60}
        said = CLIENT.chat.completions.create(**asked, tool_choice=choice, parallel_tool_calls=False).choices[0]
        assert said.finish_reason == "tool_calls" and json.loads(said.message.tool_calls[0].function.arguments)["city"] in ("Oslo", "Paris"), said
        with CLIENT.chat.completions.stream(**asked, tool_choice=choice, parallel_tool_calls=False) as events:
            again = events.get_final_completion().choices[0].message.tool_calls
        assert [c.function.arguments for c in again] == [c.function.arguments for c in said.message.tool_calls]
        messages += [said.message, {"role": "tool", "tool_call_id": said.message.tool_calls[0].id, "content": WEATHER}]
        answer = CLIENT.chat.completions.create(**asked).choices[0].message
        assert "rain" in answer.content, answer


@call("structured")
def structured():
    parsed = CLIENT.chat.completions.parse(**ASKED | {"max_tokens": 80}, response_format=Bird).choices[0].message.parsed
    assert isinstance(parsed, Bird), parsed


@call("embeddings")
def embeddings():
    client = CLIENT.with_options(base_url=VECTOR_BASE)
    expect_vectors([d.embedding for d in client.embeddings.create(model=VECTOR_MODEL, input=VECTOR_TEXTS).data])
    expect_vectors([d.embedding for d in client.embeddings.create(model=VECTOR_MODEL, input=VECTOR_TEXTS, encoding_format="float").data])


@call("errors")
def errors():
    unknown = expect_refused(openai.NotFoundError, lambda: CLIENT.chat.completions.create(**ASKED | {"model": "nobody"}))
    assert (unknown.code, unknown.param) == ("model_not_found", "model"), unknown.body
    wrong = expect_refused(openai.BadRequestError, lambda: CLIENT.chat.completions.create(**ASKED | {"temperature": 9}))
    assert wrong.param == "temperature", wrong.body
    too_long = expect_refused(openai.BadRequestError, lambda: CLIENT.chat.completions.create(**ASKED | {"messages": [{"role": "user", "content": "sea " * 20_000}]}))
    assert too_long.code == "context_length_exceeded", too_long.body


@call("cancel")
def cancel():
    with one_is_cancelled():
        with CLIENT.chat.completions.create(**ASKED | {"messages": [{"role": "user", "content": ENDLESS}], "max_tokens": ENDLESS_TOKENS}, extra_body={"ignore_eos": True}, stream=True) as chunks:
            for _ in zip(range(5), chunks):
                pass
    with one_is_cancelled():
        expect_refused(openai.APITimeoutError, lambda: CLIENT.with_options(timeout=1).chat.completions.create(**ASKED | {"max_tokens": ENDLESS_TOKENS}, extra_body={"ignore_eos": True}))


@call("completions")
def completions():
    asked = {"model": MODEL, "prompt": "The sea is", "max_tokens": 10, "temperature": 0}
    whole = CLIENT.completions.create(**asked).choices[0].text
    assert whole and "".join(c.choices[0].text for c in CLIENT.completions.create(**asked, stream=True) if c.choices) == whole


@call("responses")
def responses():
    whole = CLIENT.responses.create(**RESPONSE)
    assert whole.output_text and whole.usage.output_tokens > 3, whole
    with CLIENT.responses.stream(**RESPONSE) as events:
        final = [e for e in events][-1].response
    assert final.output_text == whole.output_text, final
    assert isinstance(CLIENT.responses.parse(**RESPONSE | {"max_output_tokens": 80}, text_format=Bird).output_parsed, Bird)


@call("responses tools")
def responses_tools():
    tool = {"type": "function", **TOOL["function"], "strict": True}
    asked = RESPONSE | {"tools": [tool], "max_output_tokens": 60}
    said = CLIENT.responses.create(**asked | {"input": TOOL_PROMPT})
    called = [o for o in said.output if o.type == "function_call"]
    assert len(called) == 1 and json.loads(called[0].arguments)["city"] in ("Oslo", "Paris"), said.output
    answer = {"type": "function_call_output", "call_id": called[0].call_id, "output": WEATHER}
    assert "rain" in CLIENT.responses.create(**asked | {"input": [{"role": "user", "content": TOOL_PROMPT}, *said.output, answer]}).output_text


@call("responses stored")
def responses_stored():
    first = CLIENT.responses.create(**RESPONSE)
    second = CLIENT.responses.create(**RESPONSE | {"input": "Another one."}, previous_response_id=first.id)
    assert CLIENT.responses.retrieve(second.id).output_text == second.output_text
    CLIENT.responses.delete(second.id)
    expect_refused(openai.NotFoundError, lambda: CLIENT.responses.retrieve(second.id))


if __name__ == "__main__":
    main()
