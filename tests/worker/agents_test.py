"""What agents speak: tools in Chat Completions, OpenAI's Responses, Anthropic's Messages; by the official clients, and by the events themselves.

The model is a tiny one with a template that shows calls of tools; what it says is put into its mouth by a grammar, so that the wire is what is looked at."""
import json
import tempfile
import unittest

import anthropic
import jsonschema
import openai
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from harness import STORIES, USER, Worker, main

# A format of nobody's: what is known of it is learnt from here.
TEMPLATE = """{%- if tools %}Tools:{% for t in tools %}
{{ t | tojson }}{% endfor %}
Call: <<call>>{"name": NAME, "arguments": ARGUMENTS}<</call>>
{% endif %}
{%- for m in messages %}<|{{ m.role }}|>{{ m.content }}
{%- for c in m.tool_calls or [] %}<<call>>{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}<</call>>{% endfor %}
{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"""
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "Of a city", "parameters": PARAMETERS}}, {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}]


def says(text):
    """A grammar of exactly this text."""
    return "root ::= " + json.dumps(text)


CALL = '<<call>>{"name": "weather", "arguments": {"city": "Oslo", "days": 2}}<</call>>'


def without_descriptions(tool):
    return {"type": "function", **tool["function"]}


class Agents(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.file = tempfile.NamedTemporaryFile("w", suffix=".jinja")
        cls.file.write(TEMPLATE)
        cls.file.flush()
        if not STORIES.exists():
            print(f"not run: no {STORIES}")
            raise unittest.SkipTest("no model")
        cls.w = Worker("--chat-template", cls.file.name, "--max-tokens-out", "400", model=STORIES)
        cls.c = openai.OpenAI(base_url=cls.w.url + "/v1", api_key="unused", max_retries=0)
        cls.model = cls.c.models.list().data[0].id
        cls.a = anthropic.Anthropic(base_url=cls.w.url, api_key="unused", max_retries=0)

    @classmethod
    def tearDownClass(cls):
        cls.c.close(), cls.a.close()
        cls.w.stop()
        cls.file.close()

    def chat(self, text, **fields):
        return self.c.chat.completions.create(**({"model": self.model, "messages": USER, "tools": TOOLS, "max_tokens": 200, "extra_body": {"grammar": says(text)}} | fields))

    # Chat Completions

    def test_a_call_whole_and_streamed(self):
        for text, content, calls in (
            (CALL, None, [("weather", {"city": "Oslo", "days": 2})]),
            ("I look. " + CALL, "I look.", [("weather", {"city": "Oslo", "days": 2})]),
            (CALL + '<<call>>{"name": "clock", "arguments": {}}<</call>>', None, [("weather", {"city": "Oslo", "days": 2}), ("clock", {})]),
            ("No call: <<call>> is a word", "No call: <<call>> is a word", []),
            ('<<call>>{"name": "nobody", "arguments": {}}<</call>>', '<<call>>{"name": "nobody", "arguments": {}}<</call>>', []),
        ):
            whole = self.chat(text).choices[0]
            self.assertEqual([(c.function.name, json.loads(c.function.arguments)) for c in whole.message.tool_calls or []], calls, text)
            self.assertEqual(whole.message.content and whole.message.content.rstrip(), content, text)
            self.assertEqual(whole.finish_reason, "tool_calls" if calls else "stop")
            said, open_calls, reasons = "", [], []
            for chunk in self.chat(text, stream=True):
                choice = chunk.choices[0]
                reasons += [choice.finish_reason] if choice.finish_reason else []
                said += choice.delta.content or ""
                for c in choice.delta.tool_calls or []:
                    if c.id:
                        self.assertEqual((c.index, c.type, c.function.arguments), (len(open_calls), "function", ""))
                        open_calls.append([c.function.name, ""])
                    else:
                        self.assertEqual(c.index, len(open_calls) - 1)
                        open_calls[-1][1] += c.function.arguments
            self.assertEqual([(n, json.loads(a)) for n, a in open_calls], calls, text)
            self.assertEqual((said.rstrip() or None, reasons), (content, [whole.finish_reason]), text)

    def test_a_call_that_is_cut_off_is_text(self):
        whole = self.chat(CALL, max_tokens=8).choices[0]
        self.assertEqual((whole.message.tool_calls, whole.finish_reason), (None, "length"))
        self.assertTrue(whole.message.content and CALL.startswith(whole.message.content), whole)

    def test_a_call_comes_as_it_is_written(self):
        """The chunks of a call that its grammar holds, joined, are the whole answer: also where max_tokens cuts it off."""
        schema = {"type": "object", "properties": {"days": {"type": "integer", "minimum": 0, "maximum": 9}, "city": {"type": "string", "pattern": "^[a-zå ]{30}$"}}, "required": ["days", "city"], "additionalProperties": False}
        asked = {"model": self.model, "messages": USER, "tools": [{"type": "function", "function": {"name": "weather", "parameters": schema}}], "tool_choice": "required", "parallel_tool_calls": False, "seed": 3, "temperature": 1}
        for most, reason in ((200, "tool_calls"), (50, "length")):
            asked["max_tokens"] = most
            whole = self.c.chat.completions.create(**asked, logprobs=True).choices[0]
            call = whole.message.tool_calls[0].function
            self.assertEqual((whole.finish_reason, len(whole.message.tool_calls), whole.message.content, call.name), (reason, 1, None, "weather"))
            deltas, reasons, logprobs = [], [], 0
            for chunk in self.c.chat.completions.create(**asked, stream=True, logprobs=True):
                choice = chunk.choices[0]
                reasons += [choice.finish_reason] if choice.finish_reason else []
                logprobs += len(choice.logprobs.content) if choice.logprobs else 0
                deltas += choice.delta.tool_calls or []
                self.assertFalse(choice.delta.content)
            self.assertEqual((deltas[0].function.name, deltas[0].function.arguments, reasons, logprobs), ("weather", "", [reason], len(whole.logprobs.content)))
            self.assertEqual(({d.index for d in deltas}, [d for d in deltas[1:] if d.id or d.type or d.function.name]), ({0}, []))
            self.assertGreater(len(deltas), 10 if reason == "tool_calls" else 4)
            self.assertEqual("".join(d.function.arguments for d in deltas), call.arguments)
            if reason == "tool_calls":
                jsonschema.validate(json.loads(call.arguments), schema)
            else:
                self.assertRegex(call.arguments, r'^{\s*"days":\s*\d,\s*"city":\s*"[a-zå ]{1,29}$')
        # A stop string may cut a call anywhere: then none is begun that is not whole.
        stopped = self.c.chat.completions.create(**asked, stop=['"city"']).choices[0]
        self.assertEqual((stopped.message.tool_calls, stopped.finish_reason), (None, "stop"))
        self.assertIn("<<call>>", stopped.message.content)

    def test_the_round_trip_reaches_the_template(self):
        def tokens(messages, **fields):
            return self.c.chat.completions.create(model=self.model, messages=messages, max_tokens=1, **fields).usage.prompt_tokens

        asked = [{"role": "user", "content": "x"}]
        calls = [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}]
        answered = [*asked, {"role": "assistant", "content": None, "tool_calls": calls}, {"role": "tool", "tool_call_id": "call_1", "content": "rain"}]
        self.assertGreater(tokens(asked, tools=TOOLS), tokens(asked) + 20)
        self.assertGreater(tokens(answered, tools=TOOLS), tokens([*asked, {"role": "assistant", "content": ""}, answered[-1]], tools=TOOLS) + 5)

    def test_tools_that_are_loaded_later_are_not_shown(self):
        ours = [{"name": "clock", "input_schema": {"type": "object"}}]
        later = {"name": "later", "description": "Never call this.", "input_schema": {"type": "object"}, "defer_loading": True}
        count = [self.a.messages.count_tokens(model=self.model, messages=USER, tools=tools).input_tokens for tools in (ours, [later, *ours])]
        self.assertEqual(*count)

    def test_what_does_not_fit_is_told_in_the_words_that_clients_know(self):
        with self.assertRaises(openai.BadRequestError) as e:
            self.c.chat.completions.create(model=self.model, messages=[{"role": "user", "content": "sea " * 20000}])
        self.assertEqual(e.exception.code, "context_length_exceeded")
        self.assertIn("maximum context length is", e.exception.message)

    def test_the_native_route_renders_the_same_history(self):
        called = [{"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Bern\"}"}}]
        messages = [*USER, {"role": "assistant", "content": None, "tool_calls": called}, {"role": "tool", "tool_call_id": "call_1", "content": "rain"}]
        chat = self.w.post("/v1/chat/completions", {"messages": messages, "max_tokens": 1})[2]["usage"]["prompt_tokens"]
        started = self.w.generate(messages=messages, max_tokens=1)
        self.assertEqual(next(e[2]["tokens_in"] for e in started if e[1] == "started"), chat)
        for fields in ({"tools": TOOLS}, {"tool_choice": "auto"}):
            status, _, body = self.w.post("/v1/inference", {"messages": messages} | fields)
            self.assertEqual((status, body["error"]["param"]), (400, next(iter(fields))))
        self.assertEqual(self.w.post("/v1/inference", {"messages": messages, "tools": [], "tool_choice": "none", "max_tokens": 1})[0], 202)

    def test_choices_of_tools(self):
        self.assertEqual(self.chat(CALL, tool_choice="auto").choices[0].finish_reason, "tool_calls")
        none = self.chat(CALL, tool_choice="none").choices[0]
        self.assertEqual((none.message.content, none.finish_reason, none.message.tool_calls), (CALL, "stop", None))
        for choice in ("sometimes", {"type": "function", "function": {"name": "nobody"}}, {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}):
            with self.assertRaises(openai.BadRequestError) as e:
                self.chat(CALL, tool_choice=choice)
            self.assertEqual((e.exception.param, e.exception.code), ("tool_choice", "unsupported_value"))
        with self.assertRaises(openai.BadRequestError) as e:
            self.chat(CALL, tools=[{"type": "function", "function": {"parameters": {}}}])
        self.assertEqual(e.exception.param, "tools")
        allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "clock"}}]}}
        self.assertEqual(self.chat(CALL, tool_choice=allowed).choices[0].finish_reason, "stop", "weather may not be called")

    def test_what_is_wrong_with_tools_is_told(self):
        for fields, param, words in (
            ({"tool_choice": "required"}, "tool_choice", "tool_choice asks for a call, and the request has no tools"),
            ({"tool_choice": {"type": "function", "function": {"name": "clock"}}, "tools": []}, "tool_choice", "tool_choice asks for a call, and the request has no tools"),
            ({"tools": [TOOLS[0], {"type": "web_search"}]}, "tools", "tools[1]: tools of type web_search are not supported, only of type function"),
            ({"tools": [{"type": "custom", "custom": {"name": "clock"}}]}, "tools", "tools[0]: tools of type custom are not supported, only of type function"),
            ({"tools": [{"type": "a\nb", "name": "x"}]}, "tools", "tools[0]: tools of this type are not supported, only of type function"),
        ):
            status, _, body = self.w.post("/v1/chat/completions", {"messages": USER, "max_tokens": 2} | fields)
            self.assertEqual((status, body["error"]["param"], body["error"]["message"], body["error"]["code"]), (400, param, words, "unsupported_value"), fields)
        for path, fields, words in (
            ("/v1/responses", {"input": "x", "tool_choice": "required"}, "tool_choice asks for a call"),
            ("/v1/responses", {"input": "x", "tools": [{"type": "web_search"}]}, "tools of type web_search are not supported"),
            ("/v1/messages", {"messages": USER, "max_tokens": 2, "tool_choice": {"type": "any"}}, "tool_choice asks for a call"),
            ("/v1/messages", {"messages": USER, "max_tokens": 2, "tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools of type bash_20250124 are not supported"),
        ):
            status, _, body = self.w.post(path, fields)
            self.assertEqual(status, 400, path)
            self.assertIn(words, body["error"]["message"])

    def test_calls_that_must_come_are_valid(self):
        whole = 0
        for seed in range(14):
            for choice, names in (("required", ("weather", "clock")), ({"type": "function", "function": {"name": "clock"}}, ("clock",)), ({"type": "function", "function": {"name": "forecast"}}, ("forecast",))):
                forecast = {"type": "function", "function": {"name": "forecast", "strict": True, "parameters": {"type": "object", "properties": {"day": {"enum": ["today", "tomorrow"]}, "hours": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 23}, "minItems": 1, "maxItems": 3}}, "required": ["day", "hours"], "additionalProperties": False}}}
                tools = [forecast] if names == ("forecast",) else TOOLS
                r = self.c.chat.completions.create(model=self.model, messages=USER, tools=tools, tool_choice=choice, max_tokens=150, seed=seed, temperature=1, **({"parallel_tool_calls": False} if choice == "required" else {}))  # a name means one call
                calls = r.choices[0].message.tool_calls
                if r.choices[0].finish_reason == "length":
                    continue
                self.assertEqual((r.choices[0].finish_reason, len(calls)), ("tool_calls", 1), r)
                self.assertIn(calls[0].function.name, names)
                schema = next(t["function"]["parameters"] for t in tools if t["function"]["name"] == calls[0].function.name)
                jsonschema.validate(json.loads(calls[0].function.arguments), schema)
                whole += 1
        self.assertGreaterEqual(whole, 12, "those of forecast are bounded, so that they end")

    def test_what_clients_leave_out_templates_find(self):
        with tempfile.NamedTemporaryFile("w", suffix=".jinja") as f:
            f.write("{% for t in tools or [] %}{{ t.function.description + '!' }}{% for p in t.function.parameters.properties %}{{ p }}{% endfor %}{% endfor %}" + TEMPLATE)
            f.flush()
            with Worker("--chat-template", f.name, model=STORIES) as w:
                for function in ({"name": "clock"}, {"name": "clock", "description": None, "parameters": None}, {"name": "clock", "strict": True}):
                    status, _, body = w.post("/v1/chat/completions", {"messages": USER, "tools": [{"type": "function", "function": function}], "tool_choice": "required", "max_tokens": 100})
                    self.assertEqual(status, 200, body)

    def test_schemas_that_cannot_be_enforced(self):
        unheld = [{"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {"zones": {"type": "array", "uniqueItems": True}}}}}]
        strict = [{"type": "function", "function": {**unheld[0]["function"], "strict": True}}]
        for tools, choice in ((unheld, "required"), (strict, "auto")):
            with self.assertRaises(openai.BadRequestError) as e:
                self.c.chat.completions.create(model=self.model, messages=USER, tools=tools, tool_choice=choice, max_tokens=2)
            self.assertEqual(e.exception.param, "tools")
            self.assertIn("uniqueItems", e.exception.message)
        for kind in ("array", "null", ["string", "null"]):  # arguments are an object
            with self.assertRaises(openai.BadRequestError) as e:
                self.c.chat.completions.create(model=self.model, messages=USER, tools=[{"type": "function", "function": {"name": "f", "parameters": {"type": kind}}}], tool_choice="required", max_tokens=2)
            self.assertIn("tools[0]", e.exception.message)
        self.assertEqual(self.c.chat.completions.create(model=self.model, messages=USER, tools=unheld, max_tokens=2).usage.completion_tokens, 2)

    def test_a_model_without_calls_says_so(self):
        with Worker() as w:
            status, _, body = w.post("/v1/chat/completions", {"messages": USER, "tools": TOOLS})
            self.assertEqual((status, body["error"]["param"]), (400, "tools"))
            self.assertIn("template", body["error"]["message"])
            self.assertEqual(w.post("/v1/chat/completions", {"messages": USER, "tools": [], "max_tokens": 2})[0], 200)

    # Responses

    def respond(self, text=None, **fields):
        extra = {"extra_body": {"grammar": says(text)}} if text else {}
        return self.c.responses.create(**({"model": self.model, "input": "x", "max_output_tokens": 200, **extra} | fields))

    def test_a_response(self):
        r = self.respond("Rain, said the crow.", metadata={"a": "b"}, instructions="Be brief.")
        self.assertEqual((r.output_text, r.status, r.object, r.metadata, r.instructions), ("Rain, said the crow.", "completed", "response", {"a": "b"}, "Be brief."))
        self.assertEqual(r.usage.total_tokens, r.usage.input_tokens + r.usage.output_tokens)
        cut = self.respond("Rain, said the crow.", max_output_tokens=2)
        self.assertEqual((cut.status, cut.incomplete_details.reason), ("incomplete", "max_output_tokens"))

    def test_a_response_calls_and_goes_on(self):
        tools = [without_descriptions(t) for t in TOOLS]
        first = self.respond("I look. " + CALL, tools=tools)
        self.assertEqual([o.type for o in first.output], ["message", "function_call"])
        call = first.output[1]
        self.assertEqual((call.name, json.loads(call.arguments), call.status), ("weather", {"city": "Oslo", "days": 2}, "completed"))
        answer = [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
        second = self.respond("It rains.", tools=tools, input=answer, previous_response_id=first.id)
        self.assertEqual((second.output_text, second.previous_response_id), ("It rains.", first.id))
        again = self.respond("It rains.", tools=tools, input=[{"role": "user", "content": "x"}, *[o.model_dump(exclude_none=True) for o in first.output], *answer])
        self.assertEqual(again.usage.input_tokens, second.usage.input_tokens, "what is stored is what could have been sent")
        self.assertEqual(self.c.responses.retrieve(second.id).output_text, "It rains.")
        self.assertEqual([i.type for i in self.c.responses.input_items.list(second.id).data], ["function_call_output"])
        self.c.responses.delete(second.id)
        for missing in (lambda: self.c.responses.retrieve(second.id), lambda: self.respond("x", previous_response_id="resp_nobody")):
            with self.assertRaises(openai.NotFoundError):
                missing()
        unstored = self.respond("x", store=False)
        with self.assertRaises(openai.NotFoundError):
            self.c.responses.retrieve(unstored.id)

    def test_pages_of_what_a_response_was_asked(self):
        r = self.respond("It rains.", input=[{"role": "user", "content": text} for text in "abcde"])

        def texts(**fields):
            return [i.content if isinstance(i.content, str) else i.content[0].text for i in self.c.responses.input_items.list(r.id, **fields)]

        for fields, order in (({}, "edcba"), ({"limit": 2}, "edcba"), ({"order": "asc", "limit": 1}, "abcde")):  # the client asks for page after page
            self.assertEqual("".join(texts(**fields)), order, fields)
        page = self.c.responses.input_items.list(r.id, limit=2, order="asc")
        self.assertEqual((len(page.data), page.has_more, page.first_id, page.last_id), (2, True, page.data[0].id, page.data[1].id))
        page = self.c.responses.input_items.list(r.id, limit=3, order="asc", after=page.last_id)
        self.assertEqual(([i.content for i in page.data], page.has_more), (["c", "d", "e"], False))
        for query in ("limit=0", "limit=101", "limit=x", "order=up", "after=item_9", "after="):
            status, _, body = self.w.get(f"/v1/responses/{r.id}/input_items?{query}")
            self.assertEqual((status, body["error"]["param"]), (400, query.split("=")[0]), query)

    def test_events_of_a_response(self):
        events = list(self.respond("I look. " + CALL, tools=[without_descriptions(t) for t in TOOLS], stream=True))
        self.assertEqual([e.sequence_number for e in events], list(range(len(events))))
        adapter = TypeAdapter(ResponseStreamEvent)
        for e in events:
            adapter.validate_python(e.model_dump())
        kinds = [e.type for e in events]
        squeezed = [k for i, k in enumerate(kinds) if i == 0 or k != kinds[i - 1]]
        message = ["response.output_item.added", "response.content_part.added", "response.output_text.delta", "response.output_text.done", "response.content_part.done", "response.output_item.done"]
        call = ["response.output_item.added", "response.function_call_arguments.delta", "response.function_call_arguments.done", "response.output_item.done"]
        self.assertEqual(squeezed, ["response.created", "response.in_progress", *message, *call, "response.completed"])
        final = events[-1].response
        self.assertEqual("".join(e.delta for e in events if e.type == "response.output_text.delta"), final.output_text)
        self.assertEqual("".join(e.delta for e in events if e.type == "response.function_call_arguments.delta"), final.output[1].arguments)
        done = [e.item for e in events if e.type == "response.output_item.done"]
        self.assertEqual([d.model_dump() for d in done], [o.model_dump() for o in final.output])

    def test_a_response_by_schema(self):
        schema = {"type": "object", "properties": {"legs": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["legs"], "additionalProperties": False}
        r = self.c.responses.create(model=self.model, input="x", max_output_tokens=60, text={"format": {"type": "json_schema", "name": "bird", "schema": schema, "strict": True}})
        self.assertIn(json.loads(r.output_text)["legs"], range(10))
        self.assertEqual(r.text.format.name, "bird")

    def test_what_responses_refuse(self):
        for fields, param in (({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]}, "input[0].content"), ({"tools": [{"type": "web_search"}]}, "tools[0]"), ({"background": True}, "background"), ({"text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "array", "uniqueItems": True}}}}, "response_format")):
            with self.assertRaises(openai.BadRequestError) as e:
                self.respond(**fields)
            self.assertTrue(e.exception.param.startswith(param) or param == "response_format", (fields, e.exception.body))

    # Messages

    def message(self, text=None, **fields):
        extra = {"extra_body": {"grammar": says(text)}} if text else {}
        return self.a.messages.create(**({"model": self.model, "max_tokens": 200, "messages": [{"role": "user", "content": "x"}], **extra} | fields))

    TOOLS = [{"name": "weather", "description": "Of a city", "input_schema": PARAMETERS}]

    def test_a_message(self):
        m = self.message("Rain, said the crow.", system="Be brief.")
        self.assertEqual((m.content[0].text, m.stop_reason, m.role, m.type), ("Rain, said the crow.", "end_turn", "assistant", "message"))
        self.assertEqual(self.message("Rain, said the crow.", max_tokens=2).stop_reason, "max_tokens")
        stopped = self.message("Rain, said the crow.", stop_sequences=[" said"])
        self.assertEqual((stopped.content[0].text, stopped.stop_reason, stopped.stop_sequence), ("Rain,", "stop_sequence", " said"))
        count = self.a.messages.count_tokens(model=self.model, system="Be brief.", messages=[{"role": "user", "content": "x"}])
        self.assertEqual(count.input_tokens, m.usage.input_tokens + m.usage.cache_read_input_tokens)

    def test_a_message_calls_and_goes_on(self):
        m = self.message("I look. " + CALL, tools=self.TOOLS)
        self.assertEqual(([b.type for b in m.content], m.stop_reason), (["text", "tool_use"], "tool_use"))
        self.assertEqual((m.content[1].name, m.content[1].input), ("weather", {"city": "Oslo", "days": 2}))
        history = [{"role": "user", "content": "x"}, {"role": "assistant", "content": [b.model_dump() for b in m.content]}, {"role": "user", "content": [{"type": "tool_result", "tool_use_id": m.content[1].id, "content": [{"type": "text", "text": "rain"}]}, {"type": "text", "text": "And?"}]}]
        self.assertEqual(self.message("It rains.", tools=self.TOOLS, messages=history).content[0].text, "It rains.")
        self.assertGreater(self.a.messages.count_tokens(model=self.model, messages=history, tools=self.TOOLS).input_tokens, self.a.messages.count_tokens(model=self.model, messages=history[:1], tools=self.TOOLS).input_tokens + 10)

    def test_budgets_that_differ_are_refused_by_name(self):
        for name in ("thinking_budget", "reasoning_budget", "thinking_budget_tokens"):
            for budget, status in ((64, 400), (32, 200)):
                found, _, body = self.w.post("/v1/messages", {"messages": USER, "max_tokens": 2, "thinking": {"type": "enabled", "budget_tokens": 32}, name: budget})
                self.assertEqual(found, status, body)
                if status == 400:
                    self.assertEqual(body["error"]["message"], f"{name} and thinking.budget_tokens differ")

    def test_events_of_a_message(self):
        with self.a.messages.stream(model=self.model, max_tokens=90, messages=[{"role": "user", "content": "x"}], tools=self.TOOLS, extra_body={"grammar": says("I look. " + CALL)}) as stream:
            kinds = [e.type for e in stream]
            final = stream.get_final_message()
        raw = [k for k in kinds if k not in ("text", "input_json")]  # the client's own
        squeezed = [k for i, k in enumerate(raw) if i == 0 or k != raw[i - 1]]
        block = ["content_block_start", "content_block_delta", "content_block_stop"]
        self.assertEqual(squeezed, ["message_start", *block, *block, "message_delta", "message_stop"])
        self.assertEqual((final.content[0].text.rstrip(), final.content[1].input, final.stop_reason), ("I look.", {"city": "Oslo", "days": 2}, "tool_use"))
        self.assertGreater(final.usage.output_tokens, 3)

    def test_errors_have_the_api_s_own_shape(self):
        for fields, status in (({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, 400), ({"max_tokens": 0}, 400), ({"extra_body": {"temperature": 9}}, 400), ({"messages": [{"role": "user", "content": "word " * 3000}]}, 400)):
            with self.assertRaises(anthropic.APIStatusError) as e:
                self.message(**fields)
            body = e.exception.body
            self.assertEqual((e.exception.status_code, body["type"]), (status, "error"), fields)
            self.assertIn(body["error"]["type"], ("invalid_request_error", "not_found_error"))
            self.assertTrue(body["error"]["message"] and body["request_id"])
        self.assertEqual(self.w.get("/v1/messages")[2]["type"], "error")
        self.assertIn("error", self.w.get("/v1/responses/none")[2])


if __name__ == "__main__":
    main()
