"""Pydantic AI: an agent over Chat Completions, Responses and Anthropic's Messages."""
import asyncio

import pydantic
from calls import BASE, ENDLESS, ENDLESS_TOKENS, KEY, MODEL, PROMPT, TOOL_PROMPT, URL, VECTOR_BASE, VECTOR_MODEL, VECTOR_TEXTS, WEATHER, call, expect_refused, expect_vectors, main, one_is_cancelled
from pydantic_ai import Agent, ModelHTTPError, NativeOutput, ToolOutput
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

PROVIDER = OpenAIProvider(base_url=BASE, api_key=KEY)
SETTINGS = {"temperature": 0, "max_tokens": 60}


class Bird(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=12)
    legs: int = pydantic.Field(ge=0, le=9)


def agent(model=None, **more):
    return Agent(model or OpenAIChatModel(MODEL, provider=PROVIDER), **{"model_settings": SETTINGS} | more)


def weather(city: str) -> str:
    """The weather of a city"""
    return WEATHER


@call("chat")
def chat():
    whole = agent().run_sync(PROMPT)
    assert whole.output and len(whole.all_messages()) == 2, whole


async def streamed(a):
    async with a.run_stream(PROMPT) as result:
        return "".join([piece async for piece in result.stream_text(delta=True, debounce_by=None)])


@call("stream")
def stream():
    assert asyncio.run(streamed(agent())) == agent().run_sync(PROMPT).output


@call("tools")
def tools():
    said = agent(tools=[weather]).run_sync(TOOL_PROMPT)
    kinds = [p.part_kind for m in said.all_messages() for p in m.parts]
    assert kinds == ["user-prompt", "tool-call", "tool-return", "text"] and "rain" in said.output, said.all_messages()


@call("structured")
def structured():
    for output in (NativeOutput(Bird), ToolOutput(Bird)):
        assert isinstance(agent(output_type=output).run_sync(PROMPT).output, Bird), output


@call("embeddings")
def embeddings():
    from pydantic_ai.embeddings import Embedder
    from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel

    embedder = Embedder(OpenAIEmbeddingModel(VECTOR_MODEL, provider=OpenAIProvider(base_url=VECTOR_BASE, api_key=KEY)))
    expect_vectors(embedder.embed_documents_sync(VECTOR_TEXTS).embeddings)


@call("errors")
def errors():
    unknown = expect_refused(ModelHTTPError, lambda: agent(OpenAIChatModel("nobody", provider=PROVIDER)).run_sync(PROMPT))
    assert unknown.status_code == 404, unknown
    expect_refused(ModelHTTPError, lambda: agent().run_sync(PROMPT, model_settings={"temperature": 9}), "temperature")


@call("cancel")
def cancel():
    async def leave():
        async with agent(model_settings={"max_tokens": ENDLESS_TOKENS, "extra_body": {"ignore_eos": True}}).run_stream(ENDLESS) as result:
            async for _ in result.stream_text(delta=True, debounce_by=None):
                break
            if hasattr(result, "cancel"):
                await result.cancel()

    with one_is_cancelled():
        asyncio.run(leave())


@call("responses")
def responses():
    model = OpenAIResponsesModel(MODEL, provider=PROVIDER)
    said = agent(model, tools=[weather]).run_sync(TOOL_PROMPT)
    assert "rain" in said.output, said.all_messages()
    assert asyncio.run(streamed(agent(model))) == agent(model).run_sync(PROMPT).output


@call("messages")
def messages():
    model = AnthropicModel(MODEL, provider=AnthropicProvider(base_url=URL, api_key=KEY))
    said = agent(model, tools=[weather]).run_sync(TOOL_PROMPT)
    assert "rain" in said.output, said.all_messages()
    assert asyncio.run(streamed(agent(model))) == agent(model).run_sync(PROMPT).output


if __name__ == "__main__":
    main()
