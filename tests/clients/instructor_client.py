"""Instructor: objects of a Pydantic type, by each of its modes. Its answers are objects: it has no embeddings and no rounds of tools."""
import instructor
import openai
import pydantic
from calls import BASE, ENDLESS, ENDLESS_TOKENS, KEY, MODEL, PROMPT, call, main, one_is_cancelled

OPENAI = openai.OpenAI(base_url=BASE, api_key=KEY, max_retries=0)
ASKED = {"model": MODEL, "messages": [{"role": "user", "content": PROMPT}], "temperature": 0, "max_tokens": 80, "max_retries": 0}


class Bird(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=12)
    legs: int = pydantic.Field(ge=0, le=9)


def client(mode):
    return instructor.from_openai(OPENAI, mode=mode)


@call("chat")
def chat():
    assert client(instructor.Mode.TOOLS).create(response_model=None, **ASKED).choices[0].message.content


@call("tools")
def tools():
    for mode in (instructor.Mode.TOOLS, instructor.Mode.TOOLS_STRICT):
        assert isinstance(client(mode).create(response_model=Bird, **ASKED), Bird), mode


@call("structured")
def structured():
    bird, whole = client(instructor.Mode.JSON_SCHEMA).create_with_completion(response_model=Bird, **ASKED)
    assert isinstance(bird, Bird) and whole.usage.completion_tokens > 3, whole


@call("stream")
def stream():
    for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
        parts = list(client(mode).create_partial(response_model=Bird, **ASKED))
        assert len(parts) > 1 and isinstance(Bird(**parts[-1].model_dump()), Bird), parts


@call("errors")
def errors():
    for asked in ({"model": "nobody"}, {"temperature": 9}):
        try:
            client(instructor.Mode.TOOLS).create(response_model=Bird, **ASKED | asked)
        except Exception as error:  # noqa: BLE001  # it wraps the SDK's exception in one of its own
            assert "nobody" in str(asked) and "model" in str(error) or "temperature" in str(error), error
        else:
            raise AssertionError(f"{asked} was not refused")


@call("cancel")
def cancel():
    with one_is_cancelled():
        chunks = client(instructor.Mode.TOOLS).create(response_model=None, **ASKED | {"messages": [{"role": "user", "content": ENDLESS}], "max_tokens": ENDLESS_TOKENS}, extra_body={"ignore_eos": True}, stream=True)
        for _ in zip(range(5), chunks):
            pass
        chunks.close()


if __name__ == "__main__":
    main()
