"""LangChain's ChatOpenAI and OpenAIEmbeddings, and an agent of LangGraph over them."""
import openai
import pydantic
from calls import BASE, ENDLESS, ENDLESS_TOKENS, KEY, MODEL, PROMPT, TOOL_PROMPT, VECTOR_BASE, VECTOR_MODEL, VECTOR_TEXTS, WEATHER, call, expect_refused, expect_vectors, main, one_is_cancelled
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings


def model(**more):
    return ChatOpenAI(**{"model": MODEL, "base_url": BASE, "api_key": KEY, "temperature": 0, "max_tokens": 60, "max_retries": 0} | more)


class Bird(pydantic.BaseModel):
    """A bird."""

    name: str = pydantic.Field(max_length=12)
    legs: int = pydantic.Field(ge=0, le=9)


@tool
def weather(city: str) -> str:
    """The weather of a city"""
    return WEATHER


@call("chat")
def chat():
    whole = model().invoke(PROMPT)
    assert whole.content and whole.usage_metadata["output_tokens"] > 3, whole


@call("stream")
def stream():
    chunks = list(model(stream_usage=True).stream(PROMPT))
    whole = model().invoke(PROMPT)
    assert "".join(c.content for c in chunks) == whole.content
    assert sum((c.usage_metadata or {}).get("output_tokens", 0) for c in chunks) == whole.usage_metadata["output_tokens"]


@call("tools")
def tools():
    for choice in ("auto", "any", "weather"):
        messages = [HumanMessage(TOOL_PROMPT)]
        said = model().bind_tools([weather], tool_choice=choice, parallel_tool_calls=False).invoke(messages)
        assert len(said.tool_calls) == 1 and isinstance(said.tool_calls[0]["args"]["city"], str), said
        messages += [said, ToolMessage(weather.invoke(said.tool_calls[0]["args"]), tool_call_id=said.tool_calls[0]["id"])]
        assert "rain" in model().bind_tools([weather]).invoke(messages).content


@call("structured")
def structured():
    for method in ("json_schema", "function_calling"):
        assert isinstance(model(max_tokens=80).with_structured_output(Bird, method=method).invoke(PROMPT), Bird), method


@call("embeddings")
def embeddings():
    # Token ids of another model's tokenizer would be sent without check_embedding_ctx_length.
    vectors = OpenAIEmbeddings(model=VECTOR_MODEL, base_url=VECTOR_BASE, api_key=KEY, check_embedding_ctx_length=False)
    expect_vectors(vectors.embed_documents(VECTOR_TEXTS))
    assert len(vectors.embed_query("sea")) > 100


@call("errors")
def errors():
    expect_refused(openai.NotFoundError, lambda: model(model="nobody").invoke(PROMPT))
    expect_refused(openai.BadRequestError, lambda: model(temperature=9).invoke(PROMPT), "temperature")
    expect_refused(openai.BadRequestError, lambda: model().invoke("sea " * 20_000), "context")


@call("cancel")
def cancel():
    with one_is_cancelled():
        chunks = model(max_tokens=ENDLESS_TOKENS, extra_body={"ignore_eos": True}).stream(ENDLESS)
        for _ in zip(range(5), chunks):
            pass
        chunks.close()


@call("agent")
def agent():
    from langgraph.prebuilt import create_react_agent

    said = create_react_agent(model(), [weather]).invoke({"messages": [("user", TOOL_PROMPT)]})["messages"]
    assert [m.type for m in said] == ["human", "ai", "tool", "ai"] and "rain" in said[-1].content, said


@call("responses")
def responses():
    assert model(use_responses_api=True).invoke(PROMPT).text


if __name__ == "__main__":
    main()
