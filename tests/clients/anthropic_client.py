"""Anthropic's Python SDK. It has no embeddings."""
import anthropic
import pydantic
from calls import ENDLESS, ENDLESS_TOKENS, KEY, MODEL, PARAMETERS, PROMPT, TOOL_PROMPT, URL, WEATHER, call, expect_refused, main, one_is_cancelled

CLIENT = anthropic.Anthropic(base_url=URL, api_key=KEY, max_retries=0)
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 40, "extra_body": {"temperature": 0}}
TOOL = {"name": "weather", "description": "The weather of a city", "input_schema": PARAMETERS}


class Bird(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=12)
    legs: int


@call("models")
def models():
    assert [m.id for m in CLIENT.models.list()]


@call("chat")
def chat():
    whole = CLIENT.messages.create(**ASKED, system="Be brief.")
    assert whole.content[0].text and whole.stop_reason in ("end_turn", "max_tokens") and whole.usage.output_tokens > 3, whole


@call("stream")
def stream():
    with CLIENT.messages.stream(**ASKED) as events:
        text = "".join(events.text_stream)
        final = events.get_final_message()
    whole = CLIENT.messages.create(**ASKED)
    assert (text, final.stop_reason, final.usage.output_tokens) == (whole.content[0].text, whole.stop_reason, whole.usage.output_tokens), final


@call("tools")
def tools():
    for choice in ({"type": "auto"}, {"type": "any", "disable_parallel_tool_use": True}, {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}):
        messages = [{"role": "user", "content": TOOL_PROMPT}]
        asked = {"model": MODEL, "messages": messages, "tools": [TOOL], "max_tokens": 60, "extra_body": {"temperature": 0}}
        said = CLIENT.messages.create(**asked, tool_choice=choice)
        called = [b for b in said.content if b.type == "tool_use"]
        assert said.stop_reason == "tool_use" and called[0].input["city"] in ("Oslo", "Paris"), said
        with CLIENT.messages.stream(**asked, tool_choice=choice) as events:
            again = [b.input for b in events.get_final_message().content if b.type == "tool_use"]
        assert again == [b.input for b in called]
        messages += [{"role": "assistant", "content": said.content}, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": called[0].id, "content": WEATHER}]}]
        answer = CLIENT.messages.create(**asked).content
        assert "rain" in answer[0].text, answer


@call("structured")
def structured():
    parsed = CLIENT.messages.parse(**ASKED | {"max_tokens": 80}, output_format=Bird).parsed_output
    assert isinstance(parsed, Bird), parsed


@call("errors")
def errors():
    unknown = expect_refused(anthropic.NotFoundError, lambda: CLIENT.messages.create(**ASKED | {"model": "nobody"}))
    assert (unknown.body["type"], unknown.body["error"]["type"]) == ("error", "not_found_error"), unknown.body
    wrong = expect_refused(anthropic.BadRequestError, lambda: CLIENT.messages.create(**ASKED | {"extra_body": {"temperature": 9}}))
    assert wrong.body["error"]["type"] == "invalid_request_error", wrong.body
    expect_refused(anthropic.BadRequestError, lambda: CLIENT.messages.create(**ASKED | {"messages": [{"role": "user", "content": "sea " * 20_000}]}), "context")


@call("cancel")
def cancel():
    with one_is_cancelled():
        with CLIENT.messages.stream(**ASKED | {"messages": [{"role": "user", "content": ENDLESS}], "max_tokens": ENDLESS_TOKENS, "extra_body": {"ignore_eos": True}}) as events:
            for _ in zip(range(5), events.text_stream):
                pass


@call("count tokens")
def count_tokens():
    counted = CLIENT.messages.count_tokens(model=MODEL, messages=ASKED["messages"], tools=[TOOL]).input_tokens
    usage = CLIENT.messages.create(**ASKED, tools=[TOOL]).usage  # what came from the cache is counted apart
    assert counted == usage.input_tokens + (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0), (counted, usage)


if __name__ == "__main__":
    main()
