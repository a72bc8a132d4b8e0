"""smolagents: its model and its agent that calls tools. It has no embeddings."""
import openai
from calls import BASE, BIRD, ENDLESS, ENDLESS_TOKENS, KEY, MODEL, PROMPT, TOOL_PROMPT, WEATHER, call, expect_refused, main, one_is_cancelled
from smolagents import ChatMessage, OpenAIModel, ToolCallingAgent, tool


def model(**more):
    return OpenAIModel(**{"model_id": MODEL, "api_base": BASE, "api_key": KEY, "temperature": 0, "max_tokens": 60, "client_kwargs": {"max_retries": 0}} | more)


def user(text):
    return [ChatMessage(role="user", content=[{"type": "text", "text": text}])]


@tool
def weather(city: str) -> str:
    """The weather of a city.

    Args:
        city: its name
    """
    return WEATHER


@call("chat")
def chat():
    whole = model().generate(user(PROMPT))
    assert whole.content and whole.token_usage.output_tokens > 3, whole


@call("stream")
def stream():
    assert "".join(d.content or "" for d in model().generate_stream(user(PROMPT))) == model().generate(user(PROMPT)).content


@call("tools")
def tools():
    said = model().generate(user(TOOL_PROMPT), tools_to_call_from=[weather])  # with tool_choice "required"
    assert said.tool_calls[0].function.name == "weather" and said.tool_calls[0].function.arguments, said


@call("agent")
def agent():
    """One step: the call, and the tool's result in the agent's memory. The agent's own prompt is long, and asks more of a model than this one can do."""
    steps = []
    ToolCallingAgent(tools=[weather], model=model(), max_steps=1, verbosity_level=0, step_callbacks=[steps.append]).run(TOOL_PROMPT)
    assert steps[0].tool_calls and steps[0].error is None, steps


@call("structured")
def structured():
    said = model(max_tokens=80).generate(user(PROMPT), response_format={"type": "json_schema", "json_schema": {"name": "bird", "strict": True, "schema": BIRD}})
    assert '"legs"' in said.content, said


@call("errors")
def errors():
    expect_refused(openai.NotFoundError, lambda: model(model_id="nobody").generate(user(PROMPT)))
    expect_refused(openai.BadRequestError, lambda: model(temperature=9).generate(user(PROMPT)), "temperature")


@call("cancel")
def cancel():
    with one_is_cancelled():
        asked = model(max_tokens=ENDLESS_TOKENS, extra_body={"ignore_eos": True})
        for _ in zip(range(5), asked.generate_stream(user(ENDLESS))):
            pass
        asked.client.close()  # its generator keeps the connection when it is closed


if __name__ == "__main__":
    main()
