"""OpenAI's Agents SDK over Chat Completions and over Responses. It has no embeddings."""
import asyncio

import agents
import openai
import pydantic
from calls import BASE, ENDLESS, ENDLESS_TOKENS, KEY, MODEL, PROMPT, TOOL_PROMPT, WEATHER, call, expect_refused, main, one_is_cancelled

agents.set_tracing_disabled(True)


class Bird(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    name: str = pydantic.Field(max_length=12)
    legs: int = pydantic.Field(ge=0, le=9)


@agents.function_tool
def weather(city: str) -> str:
    """The weather of a city"""
    return WEATHER


def agent(kind=agents.OpenAIChatCompletionsModel, name=MODEL, settings=None, **more):
    client = openai.AsyncOpenAI(base_url=BASE, api_key=KEY, max_retries=0)
    return agents.Agent(name="agent", model=kind(model=name, openai_client=client), model_settings=agents.ModelSettings(**{"temperature": 0, "max_tokens": 60} | (settings or {})), **more)


def run(agent, prompt=PROMPT):
    return asyncio.run(agents.Runner.run(agent, prompt))


async def streamed(agent, prompt=PROMPT, at_most=None):
    result, deltas = agents.Runner.run_streamed(agent, prompt), []
    async for event in result.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            deltas.append(event.data.delta)
            if at_most and len(deltas) == at_most:
                result.cancel()
                break
    return "".join(deltas)


@call("chat")
def chat():
    whole = run(agent())
    assert whole.final_output and whole.context_wrapper.usage.output_tokens > 3, whole


@call("stream")
def stream():
    assert asyncio.run(streamed(agent())) == run(agent()).final_output


def round_trip(kind):
    said = run(agent(kind, tools=[weather]), TOOL_PROMPT)
    assert [i.type for i in said.new_items] == ["tool_call_item", "tool_call_output_item", "message_output_item"] and "rain" in said.final_output, said.new_items


@call("tools")
def tools():
    round_trip(agents.OpenAIChatCompletionsModel)
    assert "rain" in asyncio.run(streamed(agent(tools=[weather]), TOOL_PROMPT))


@call("structured")
def structured():
    for kind in (agents.OpenAIChatCompletionsModel, agents.OpenAIResponsesModel):
        assert isinstance(run(agent(kind, output_type=Bird, settings={"max_tokens": 80})).final_output, Bird), kind


@call("errors")
def errors():
    expect_refused(openai.NotFoundError, lambda: run(agent(name="nobody")))
    expect_refused(openai.BadRequestError, lambda: run(agent(settings={"temperature": 9})), "temperature")


@call("cancel")
def cancel():
    with one_is_cancelled():
        asyncio.run(streamed(agent(settings={"max_tokens": ENDLESS_TOKENS, "extra_body": {"ignore_eos": True}}), ENDLESS, 5))


@call("responses")
def responses():
    round_trip(agents.OpenAIResponsesModel)
    assert asyncio.run(streamed(agent(agents.OpenAIResponsesModel))) == run(agent(agents.OpenAIResponsesModel)).final_output


if __name__ == "__main__":
    main()
