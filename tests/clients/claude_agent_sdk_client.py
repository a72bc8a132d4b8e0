"""Claude Agent SDK and the program in its package, over our Messages route: the one that sends the longest prompts. It has no embeddings."""
import asyncio
import json
import time

from calls import KEY, LONG_MODEL, LONG_URL, MODEL, PROMPT, SERVER, TOOL_PROMPT, URL, WEATHER, NotRun, call, main, one_is_cancelled
from claude_agent_sdk import AssistantMessage, ClaudeAgentOptions, ClaudeSDKClient, ResultMessage, StreamEvent, TextBlock, ToolResultBlock, ToolUseBlock, UserMessage, create_sdk_mcp_server, query, tool


def options(url=URL, model=MODEL, tokens=200, grammar=None, **more):
    extra = {"temperature": 0} | ({"grammar": grammar} if grammar else {})
    env = {"CLAUDE_CODE_EXTRA_BODY": json.dumps(extra), "ANTHROPIC_BASE_URL": url, "ANTHROPIC_AUTH_TOKEN": KEY, "ANTHROPIC_MODEL": model, "ANTHROPIC_SMALL_FAST_MODEL": model, "ANTHROPIC_DEFAULT_HAIKU_MODEL": model, "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(tokens), "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_TELEMETRY": "1", "DISABLE_AUTOUPDATER": "1", "MAX_THINKING_TOKENS": "0", "API_TIMEOUT_MS": "600000", "IS_SANDBOX": "1"}
    return ClaudeAgentOptions(**{"model": model, "env": env, "tools": [], "system_prompt": "Be brief.", "setting_sources": [], "max_turns": 4} | more)


async def asked(prompt, chosen):
    return [m async for m in query(prompt=prompt, options=chosen)]


def ask(prompt, chosen):
    return asyncio.run(asked(prompt, chosen))


def text_of(messages):
    return "".join(b.text for m in messages if isinstance(m, AssistantMessage) for b in m.content if isinstance(b, TextBlock))


def result_of(messages):
    return next(m for m in messages if isinstance(m, ResultMessage))


@tool("weather", "The weather of a city", {"city": str})
async def weather(arguments):
    return {"content": [{"type": "text", "text": WEATHER}]}


@call("chat")
def chat():
    said = ask(PROMPT, options())
    assert text_of(said) and not result_of(said).is_error and result_of(said).usage["output_tokens"] > 3, said


@call("stream")
def stream():
    said = ask(PROMPT, options(include_partial_messages=True))
    pieces = [m.event["delta"]["text"] for m in said if isinstance(m, StreamEvent) and m.event["type"] == "content_block_delta" and "text" in m.event["delta"]]
    assert len(pieces) > 3 and "".join(pieces) == text_of(said), said


@call("tools")
def tools():
    server = create_sdk_mcp_server("house", tools=[weather])
    said = ask(TOOL_PROMPT.replace("weather", "mcp__house__weather"), options(mcp_servers={"house": server}, allowed_tools=["mcp__house__weather"]))
    called = [b for m in said if isinstance(m, AssistantMessage) for b in m.content if isinstance(b, ToolUseBlock)]
    if not called:
        raise NotRun("this small model did not call the tool, and the program has no way to require a call")
    assert called[0].input["city"], said
    results = [b for m in said if isinstance(m, UserMessage) and isinstance(m.content, list) for b in m.content if isinstance(b, ToolResultBlock)]
    assert WEATHER in str(results[0].content) and text_of(said), said


@call("errors")
def errors():
    try:
        said = ask(PROMPT, options(model="nobody"))
    except Exception as error:  # noqa: BLE001  # it raises what the program said at its end
        assert "model" in str(error), error
    else:
        assert result_of(said).is_error and "model" in (text_of(said) or str(result_of(said).result)), said


@call("cancel")
def cancel():
    async def leave():
        async with ClaudeSDKClient(options(tokens=3000, include_partial_messages=True)) as client:
            await client.query("Write a long story about a ship. Do not stop.")
            async for m in client.receive_messages():
                if isinstance(m, StreamEvent) and m.event["type"] == "content_block_delta":
                    break
            await client.interrupt()

    with one_is_cancelled():
        asyncio.run(leave())


@call("whole prompt")
def whole_prompt():
    """The program's own system prompt and all of its tools. The grammar leaves a choice: an answer that is forced as a whole needs no prompt."""
    if SERVER == "queen":
        raise NotRun("a colony's workers have a context of 4,096 tokens at most")
    if not LONG_MODEL:
        raise NotRun("no model with a long context is served")
    start = time.monotonic()
    preset = {"type": "preset", "preset": "claude_code"}
    said = ask("Say hello.", options(LONG_URL, LONG_MODEL, grammar='root ::= "Hello." | "Good day."', tools=preset, system_prompt=preset, max_turns=1))
    used = result_of(said).usage
    assert text_of(said) in ("Hello.", "Good day."), said
    print(f"  usage {used} in {time.monotonic() - start:.0f} s")
    assert used["input_tokens"] + used.get("cache_read_input_tokens", 0) > 5000, said


if __name__ == "__main__":
    main()
