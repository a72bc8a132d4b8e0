"""LlamaIndex: OpenAILike, OpenAILikeEmbedding and an agent over them."""
import asyncio

import openai
import pydantic
from calls import BASE, ENDLESS, ENDLESS_TOKENS, KEY, MODEL, PROMPT, TOOL_PROMPT, VECTOR_BASE, VECTOR_MODEL, VECTOR_TEXTS, WEATHER, call, expect_refused, expect_vectors, main, one_is_cancelled
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike


class Bird(pydantic.BaseModel):
    """A bird."""

    name: str = pydantic.Field(max_length=12)
    legs: int = pydantic.Field(ge=0, le=9)


def model(**more):
    return OpenAILike(**{"model": MODEL, "api_base": BASE, "api_key": KEY, "temperature": 0, "max_tokens": 60, "max_retries": 0, "is_chat_model": True, "is_function_calling_model": True, "context_window": 4096} | more)


def weather(city: str) -> str:
    """The weather of a city"""
    return WEATHER


TOOL = FunctionTool.from_defaults(fn=weather)
USER = [ChatMessage(role="user", content=PROMPT)]


@call("chat")
def chat():
    assert model().chat(USER).message.content
    assert model(is_chat_model=False).complete("The sea is").text  # /v1/completions


@call("stream")
def stream():
    assert "".join(r.delta or "" for r in model().stream_chat(USER)) == model().chat(USER).message.content


@call("tools")
def tools():
    for required in (False, True):
        said = model().chat_with_tools([TOOL], user_msg=TOOL_PROMPT, tool_required=required)
        called = model().get_tool_calls_from_response(said)
        assert called[0].tool_name == "weather" and called[0].tool_kwargs["city"], said


@call("agent")
def agent():
    async def ask():
        return str(await FunctionAgent(tools=[TOOL], llm=model(), streaming=True).run(TOOL_PROMPT))

    assert "rain" in asyncio.run(ask())


@call("structured")
def structured():
    for native in (True, False):
        assert isinstance(model(max_tokens=80, should_use_structured_outputs=native).as_structured_llm(Bird).chat(USER).raw, Bird), native


@call("embeddings")
def embeddings():
    vectors = OpenAILikeEmbedding(model_name=VECTOR_MODEL, api_base=VECTOR_BASE, api_key=KEY)
    expect_vectors(vectors.get_text_embedding_batch(VECTOR_TEXTS))


@call("errors")
def errors():
    expect_refused(openai.NotFoundError, lambda: model(model="nobody").chat(USER))
    expect_refused(openai.BadRequestError, lambda: model(additional_kwargs={"temperature": 9}).chat(USER), "temperature")


@call("cancel")
def cancel():
    with one_is_cancelled():  # by its timeout: its generators keep the connection when they are closed
        endless = model(timeout=2, max_tokens=ENDLESS_TOKENS, additional_kwargs={"extra_body": {"ignore_eos": True}})
        expect_refused(openai.APITimeoutError, lambda: endless.chat([ChatMessage(role="user", content=ENDLESS)]))


if __name__ == "__main__":
    main()
