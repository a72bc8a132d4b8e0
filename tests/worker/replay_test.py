"""Streams of Responses and Messages, recorded byte for byte from a real worker and replayed through the parsers of the official Python packages.

What is known of events is what the packages' own types say. `flaws_of` judges a recording; every mutation of one must be told."""
import copy
import itertools
import json
import random
import signal
import tempfile
import unittest
from typing import get_args

import anthropic
import httpx2
import openai
import pydantic
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.shared import ErrorResponse
from openai.types.responses import Response, ResponseStreamEvent

from event_order import MessagesOrder, ResponsesOrder
from harness import ROOT, STORIES, Worker, main, new_seed, not_run, parse_sse, wait_for

# Calls are learnt from here, and of the second one that an answer begins in a thought.
TEMPLATE = """{%- if tools %}Tools:{% for t in tools %}
{{ t | tojson }}{% endfor %}
Call: <<call>>{"name": NAME, "arguments": ARGUMENTS}<</call>>
{% endif %}
{%- for m in messages %}{{ m.role }}: {{ m.content }}
{%- for c in m.tool_calls or [] %}<<call>>{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}<</call>>{% endfor %}
{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"""
THINKING = TEMPLATE.replace("assistant: ", "assistant: <think>\n{# </think> #}")
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}
# A call's arguments that the model chooses, as the schema holds it: they come in pieces.
HELD = {"type": "object", "properties": {"days": {"type": "integer", "minimum": 0, "maximum": 9}, "city": {"type": "string", "pattern": "^[a-zå ]{30}$"}}, "required": ["days", "city"], "additionalProperties": False}
TEXT = 'Grüße, "日本" 🙂'
CALLS = '<<call>>{"name": "weather", "arguments": {"city": "Åre"}}<</call>><<call>>{"name": "weather", "arguments": {"city": "Oslo", "days": 2}}<</call>>'
LONG = {"regex": "[a-z ]{900}"}  # so that something can happen while it goes on
# A thought that ends by itself, of a model that repeats what it reads (at temperature 0). Where it is missing, these are not recorded.
THINKER, THOUGHT = ROOT / ".test-models/smollm2-135m-q4_1.gguf", "<think>\nLily was sad.\n</think>\n\nThe sun.\n" * 5


def models_by_type(union):
    """The models of a package's union of events, by the type that each names."""
    return {name: pydantic.TypeAdapter(model) for model in get_args(get_args(union)[0]) for name in get_args(model.model_fields["type"].annotation)}


def unknown_fields(value, where=""):
    """Fields that a package's model does not declare, at any depth."""
    if isinstance(value, pydantic.BaseModel):
        yield from (f"{where}.{name}" for name in value.model_extra or {})
        for name in type(value).model_fields:
            yield from unknown_fields(getattr(value, name), f"{where}.{name}")
    elif isinstance(value, (list, dict)):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from unknown_fields(each, f"{where}[{key}]")


def same_ids(value, names=None):
    """A copy whose ids and times are those of any answer: each id is its number by first use."""
    names = {} if names is None else names
    if isinstance(value, list):
        return [same_ids(v, names) for v in value]
    if not isinstance(value, dict):
        return value
    out = {k: same_ids(v, names) for k, v in value.items() if k not in ("created_at", "parsed", "parsed_arguments", "parsed_output") and v is not None}
    return {k: names.setdefault(v, len(names)) if k in ("id", "call_id") else v for k, v in out.items()}


def without_cache(usage):
    """How many tokens were read and written, wherever the first came from."""
    cached = usage.pop("cache_read_input_tokens", None)
    usage.get("input_tokens_details", {}).pop("cached_tokens", None)
    return {**usage, "input_tokens": usage["input_tokens"] + (cached or 0)}


class Api:
    """What one API is recorded, replayed and judged by."""

    def mock(self, chunks):
        stream = httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(200, headers={"Content-Type": "text/event-stream"}, content=iter(chunks))))
        return dict(api_key="unused", base_url="http://mock", max_retries=0, http_client=stream)

    def flaws_of_types(self, events):
        for number, (_, name, data) in enumerate(events):
            model = self.errors.get(data.get("type")) or self.known.get(data.get("type"))
            if name != data.get("type"):
                yield f"event {number} is called {name}, and its type is {data.get('type')}"
            elif not model:
                yield f"event {number}: nobody knows {name}"
            else:
                try:
                    value = model.validate_json(json.dumps(data), strict=True)
                    yield from (f"event {number}, {name}: nobody knows {field}" for field in unknown_fields(value) if field not in self.ours)
                except pydantic.ValidationError as e:
                    yield f"event {number}, {name}: {e.errors()[0]['loc']}: {e.errors()[0]['msg']}"

    def flaws_of(self, recorded, whole):
        """What is wrong with a stream's bytes, whose answer should be `whole` (None: it ends with an error)."""
        events, done = parse_sse(recorded.decode())
        yield from self.flaws_of_types(events)
        if done:
            yield "[DONE] is not a part of this API"
        yield from self.order().flaws_of([data for _, _, data in events], whole is None)
        try:
            final = self.comparable(self.final(self.replay([recorded])))
            if whole is not None and final != self.comparable(whole):
                yield f"the client ends with {final}, and not with {self.comparable(whole)}"
            if whole is None:
                yield "the client knows of no error"
        except self.raised as e:
            if whole is not None:
                yield f"the client raises {e!r}"
        except Exception as e:  # noqa: BLE001  # parsers fail in their own ways on what is out of order
            yield f"the client fails: {e!r}"

    def comparable(self, answer):
        value = same_ids(self.model.model_validate(answer).to_dict())
        return {**value, "usage": without_cache(copy.deepcopy(value["usage"]))}


class ResponsesApi(Api):
    path, model, order = "/v1/responses", Response, ResponsesOrder
    # OpenAI's own answers have `store`, and its reference the `name`; this package declares neither.
    known, errors, ours = models_by_type(ResponseStreamEvent), {}, (".response.store", ".name")
    delta, piece = b"response.output_text.delta", b"event: response.function_call_arguments.delta"

    class raised(Exception):
        pass

    @staticmethod
    def request(**fields):
        if schema := fields.pop("tools", None):
            fields["tools"] = [{"type": "function", "name": "weather", "parameters": schema}]
        if fields.pop("must", None):
            fields |= {"tool_choice": "required", "parallel_tool_calls": False}
        if fields.pop("thinks", None):
            fields |= {"input": THOUGHT, "reasoning": {"effort": "low"}, "temperature": 0}
        return {"input": "x", "max_output_tokens": fields.pop("most", 200), "seed": 3, "store": False, **fields}

    def replay(self, chunks):
        with openai.OpenAI(**self.mock(chunks)) as client, client.responses.stream(model="m", input="x") as stream:
            return list(stream)

    def final(self, events):
        if events[-1].type == "error":
            raise self.raised(events[-1].message)
        return events[-1].response.to_dict()


class MessagesApi(Api):
    path, model, order = "/v1/messages", Message, MessagesOrder
    # A stream's error is an event that is in no union: the package raises it. `code` is our own.
    known, errors, ours = models_by_type(RawMessageStreamEvent), {"error": pydantic.TypeAdapter(ErrorResponse)}, (".error.code",)
    delta, piece, raised = b"text_delta", b'"input_json_delta"', anthropic.APIStatusError

    @staticmethod
    def request(**fields):
        if schema := fields.pop("tools", None):
            fields["tools"] = [{"name": "weather", "input_schema": schema}]
        if fields.pop("must", None):
            fields["tool_choice"] = {"type": "any", "disable_parallel_tool_use": True}
        if fields.pop("thinks", None):
            fields |= {"messages": [{"role": "user", "content": THOUGHT}], "thinking": {"type": "enabled"}, "temperature": 0}
        return {"messages": [{"role": "user", "content": "x"}], "max_tokens": fields.pop("most", 200), "seed": 3, **fields}

    def replay(self, chunks):
        with anthropic.Anthropic(**self.mock(chunks)) as client, client.messages.stream(model="m", max_tokens=1, messages=[]) as stream:
            return [*stream, stream.get_final_message()]

    def final(self, events):
        return events[-1].to_dict()


def says(text):
    """A grammar of exactly this text."""
    return {"grammar": "root ::= " + json.dumps(text, ensure_ascii=False)}


APIS = (ResponsesApi(), MessagesApi())
ANSWERS = {
    "text": says(TEXT),
    "cut": {"most": 4},
    "calls": {**says("I look. " + CALLS), "tools": PARAMETERS},
    "call in pieces": {"tools": HELD, "must": True},
    "call cut": {"tools": HELD, "must": True, "most": 50},
    "thought": {"thinks": True, **says("The sun.")},
    "thought and call": {"thinks": True, **says(CALLS), "tools": PARAMETERS},
    "thought alone": {"thinks": True, "most": 3},
}


def stream_of(w, api, **fields):
    c = w.connection()
    c.request("POST", api.path, json.dumps(api.request(**fields) | {"stream": True}), {"Content-Type": "application/json"})
    return c, c.getresponse()


def record(w, api, meanwhile=None, **fields):
    """All bytes of a stream; `meanwhile`: what happens once text has come."""
    c, r = stream_of(w, api, **fields)
    recorded = b""
    assert r.status == 200, r.read()
    while piece := r.read1(1 << 16):
        recorded += piece
        if meanwhile and api.delta in recorded:
            meanwhile = meanwhile()
    c.close()
    return recorded


def written(events):
    return b"".join(f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode() for _, name, data in events)


def mutations(events):
    """(what was done, events): each event left out, exchanged with its neighbour, doubled, under a name of another's and of nobody's."""
    names = sorted({name for _, name, _ in events})
    for n, (number, name, data) in enumerate(events):
        yield f"{n} ({name}) is left out", events[:n] + events[n + 1:]
        yield f"{n} ({name}) is doubled", events[:n + 1] + events[n:]
        if n + 1 < len(events) and events[n] != events[n + 1]:
            yield f"{n} ({name}) comes late", [*events[:n], events[n + 1], events[n], *events[n + 2:]]
        for other in ("response.nobody", names[(names.index(name) + 1) % len(names)]):
            yield f"{n} ({name}) is called {other}", [*events[:n], (number, other, {**data, "type": other}), *events[n + 1:]]
        for field in data:
            yield f"{n} ({name}) has no {field}", [*events[:n], (number, name, {k: v for k, v in data.items() if k != field}), *events[n + 1:]]


def numbered(events):
    """With sequence numbers as they should be, so that they do not give the mutation away."""
    return [(i, name, {**data, "sequence_number": n} if "sequence_number" in data else data) for n, (i, name, data) in enumerate(events)]


def without_blanks(events):
    """Without pieces of a call's arguments that are white space: Messages give an object, in which they leave no trace."""
    return [e for e in events if not (e[1] == "content_block_delta" and set(e[2]) == {"type", "index", "delta"} and e[2]["delta"].get("partial_json", "x").isspace())]


class Replay(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not STORIES.exists():
            print(f"not run: no {STORIES}")
            raise unittest.SkipTest("no model")
        cls.file = tempfile.NamedTemporaryFile("w", suffix=".jinja")
        cls.file.write(TEMPLATE)
        cls.file.flush()
        cls.answers = []
        cls.record_answers(TEMPLATE, STORIES, [n for n, f in ANSWERS.items() if "thinks" not in f])
        if THINKER.exists():
            cls.record_answers(THINKING, THINKER, [n for n, f in ANSWERS.items() if "thinks" in f])
        else:
            not_run(f"thoughts: no {THINKER}")

    @classmethod
    def record_answers(cls, template, model, names):
        with tempfile.NamedTemporaryFile("w", suffix=".jinja") as file:
            file.write(template)
            file.flush()
            with Worker("--chat-template", file.name, model=model) as w:
                for api in APIS:
                    for name in names:
                        status, _, whole = w.post(api.path, api.request(**ANSWERS[name]))
                        assert status == 200, whole
                        cls.answers.append((api, name, record(w, api, **ANSWERS[name]), whole))

    @classmethod
    def tearDownClass(cls):
        cls.file.close()

    def slow_worker(self, *flags):
        """On the reference device, which computes slowly: there is time while an answer goes on."""
        return Worker("--chat-template", self.file.name, "--isa", "reference", "--ctx", "512", *flags, model=STORIES)

    def test_recordings_have_no_flaw(self):
        kinds = {api.path: set() for api in APIS}
        for api, name, recorded, whole in self.answers:
            self.assertEqual(list(api.flaws_of(recorded, whole)), [], (api.path, name))
            kinds[api.path] |= {kind for _, kind, _ in parse_sse(recorded.decode())[0]}
        for path, seen in kinds.items():
            print(f"{path}: {len(self.answers) // 2} answers, {len(seen)} kinds of events: {', '.join(sorted(seen))}")
        self.assertGreaterEqual(len(kinds["/v1/responses"]), 14)
        self.assertEqual(kinds["/v1/messages"], set(MessagesApi.known), "all that the package knows")

    def test_answers_are_what_was_asked_for(self):
        """The recordings have in them what they are for."""
        whole = {(api.path, name): body for api, name, _, body in self.answers}
        shape = {key: [item["type"] for item in body.get("output", body.get("content"))] for key, body in whole.items()}
        call, text, thought = ({"/v1/responses": a, "/v1/messages": b} for a, b in (("function_call", "tool_use"), ("message", "text"), ("reasoning", "thinking")))
        wanted = {"text": (text,), "cut": (text,), "calls": (text, call, call), "call in pieces": (call,), "call cut": (call,), "thought": (thought, text), "thought and call": (thought, call, call), "thought alone": (thought,)}
        for (path, name), types in shape.items():
            self.assertEqual(types, [kind[path] for kind in wanted[name]], (path, name))
        self.assertEqual(whole["/v1/messages", "text"]["content"][0]["text"], TEXT)
        self.assertEqual(whole["/v1/responses", "text"]["output"][0]["content"][0]["text"], TEXT)
        for name in ("cut", "call cut", "thought alone"):
            if ("/v1/responses", name) in whole:
                cut = whole["/v1/responses", name]
                self.assertEqual((cut["status"], cut["output"][-1]["status"], whole["/v1/messages", name]["stop_reason"]), ("incomplete", "incomplete", "max_tokens"), name)
        self.assertRegex(whole["/v1/responses", "call cut"]["output"][0]["arguments"], r'^{\s*"days":\s*\d,\s*"city":\s*"[a-zå ]{0,29}$')
        self.assertEqual(list(whole["/v1/messages", "call cut"]["content"][0]["input"]), ["days"], "what has come whole")
        for api, name, recorded, _ in self.answers:
            if name == "call in pieces":
                self.assertGreater(recorded.count(api.piece), 10, api.path)

    def test_any_split_of_the_bytes(self):
        draw = random.Random(new_seed())
        for api, name, recorded, _ in self.answers:
            whole = [e.to_dict() for e in api.replay([recorded])]
            places = sorted(draw.sample(range(1, len(recorded)), min(40, len(recorded) // 9)))
            for chunks in ([recorded[n:n + 1] for n in range(len(recorded))], [recorded[a:b] for a, b in zip([0, *places], [*places, None])]):
                self.assertEqual(b"".join(chunks), recorded)
                self.assertEqual([e.to_dict() for e in api.replay(chunks)], whole, (api.path, name))

    def test_every_mutation_is_told(self):
        count, silent = 0, []
        for api, name, recorded, whole in self.answers:
            if name == "call cut":  # a piece more or less of a value that is not whole changes no answer
                continue
            events = parse_sse(recorded.decode())[0]
            self.assertEqual(list(api.flaws_of(written(events), whole)), [], "written again, nothing changes")
            for what, changed in itertools.chain(mutations(events), ((what + ", numbered", numbered(changed)) for what, changed in mutations(events) if "sequence" not in what and api.path == "/v1/responses")):
                if without_blanks(changed) == without_blanks(events):  # or two pieces alike have changed places
                    continue
                count += 1
                if not any(True for _ in api.flaws_of(written(changed), whole)):
                    silent.append((api.path, name, what))
        print(f"{count} mutations of {len(self.answers)} recordings")
        self.assertGreater(count, 500)
        self.assertEqual(silent, [])

    def cut(self, api, record_one, attempts):
        """The first recording with text that is cut: on a busy machine an answer may end before anything happens to it, or have no text yet."""
        for attempt in attempts:
            recorded = record_one(attempt)
            if api.delta in recorded and parse_sse(recorded.decode())[0][-1][1] not in ("response.completed", "response.incomplete", "message_stop"):
                break
        return recorded

    def late(self, w, api):
        return self.cut(api, lambda ms: record(w, api, **LONG, deadline_ms=ms, most=480), [int(20 * 1.4 ** n) for n in range(18)])

    def cancelled(self, w, api):
        def cancel():
            for job in w.get("/v1/inference")[2]["jobs"]:
                if job["status"] not in ("completed", "failed", "cancelled"):
                    self.assertIn(w.call("DELETE", "/v1/inference/" + job["job_id"])[0], (200, 202, 204, 404, 409))

        return self.cut(api, lambda _: record(w, api, cancel, **LONG, most=480), range(5))

    def stopped(self, api):
        def stop(_):
            with self.slow_worker("--graceful-shutdown-timeout-ms", "0") as w:
                return record(w, api, lambda: w.process.send_signal(signal.SIGTERM), **LONG, most=480)

        return self.cut(api, stop, range(5))

    def broken(self, api, recorded):
        """A stream that should end with an error, judged; the error's own object."""
        self.assertEqual(list(api.flaws_of(recorded, None)), [], recorded[-400:])
        events = parse_sse(recorded.decode())[0]
        self.assertTrue(api.delta in recorded and events[-1][1] == "error", events[-1])
        for n in range(len(events)):
            changed = numbered(events[:n] + events[n + 1:])
            if events[n][1] not in (api.delta.decode(), "content_block_delta"):  # one more piece of an answer that is not known
                self.assertTrue(any(True for _ in api.flaws_of(written(changed), None)), n)
        return events[-1][2]

    def test_streams_that_end_with_an_error(self):
        for api in APIS:
            with self.slow_worker() as w:
                late, cancelled = self.broken(api, self.late(w, api)), self.broken(api, self.cancelled(w, api))
            stopped = self.broken(api, self.stopped(api))
            for error, code in ((late, "DEADLINE_EXCEEDED"), (cancelled, "CANCELLED"), (stopped, "SHUTTING_DOWN")):
                told = error if api.path == "/v1/responses" else error["error"]
                print(f"{api.path}: {json.dumps(error)}")
                self.assertTrue(told["message"], error)
                self.assertEqual(told["code"], code, error)

    def test_a_client_that_leaves(self):
        """Its job is cancelled; what it had read is the begin of a stream without flaws, which its client tells from a whole one."""
        for api in APIS:
            with self.slow_worker() as w:
                c, r = stream_of(w, api, **LONG, most=480)
                recorded = b""
                while api.delta not in recorded:
                    recorded += r.read1(1 << 16)
                r.close(), c.close()
                wait_for(lambda: {"cancelled"} == {j["status"] for j in w.get("/v1/inference")[2]["jobs"]})
            events = parse_sse(recorded[:recorded.rindex(b"\n\n") + 2].decode())[0]
            self.assertEqual(list(api.flaws_of_types(events)), [])
            flaws = list(api.order().flaws_of([data for _, _, data in events], False))
            self.assertEqual((len(flaws), flaws[0].startswith("it ends")), (1, True), flaws)

    def test_refusals_before_a_stream(self):
        """They are no stream, but an answer in the API's own shape, which its client raises."""
        with Worker("--chat-template", self.file.name, model=STORIES) as w:
            openai_client = openai.OpenAI(base_url=w.url + "/v1", api_key="unused", max_retries=0)
            client = anthropic.Anthropic(base_url=w.url, api_key="unused", max_retries=0)
            with self.assertRaises(openai.BadRequestError) as e:
                openai_client.responses.create(model="stories260k-f32.gguf", input="x", stream=True, temperature=9)
            self.assertEqual(e.exception.param, "temperature")
            with self.assertRaises(anthropic.BadRequestError) as e:
                client.messages.create(model="stories260k-f32.gguf", max_tokens=5, messages=[{"role": "user", "content": "x"}], stream=True, extra_body={"temperature": 9})
            ErrorResponse.model_validate(e.exception.body, strict=True)
            openai_client.close(), client.close()


if __name__ == "__main__":
    main()
