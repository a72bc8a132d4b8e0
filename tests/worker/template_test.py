"""`template`: whole turns with calls of tools, rendered byte for byte as Jinja does (set up as transformers has it), and taken apart again."""
import json
import pathlib
import subprocess
import tempfile
import unittest

from harness import BINARY, DATA, ROOT, main

TEMPLATES = DATA / "templates"
NONE = {"google-gemma-2-2b-it", "HuggingFaceTB-SmolLM3-3B", "LFM2.5-Instruct", "microsoft-Phi-3.5-mini-instruct"}
NOT_RENDERED = {"Kimi-K2-Thinking"}  # changes a list while it renders: sandboxed Jinja refuses that
NOW = 1753000000  # what the oracle's strftime_now tells
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather in a place", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "description": "The city"}, "days": {"type": "integer", "description": "How many"}}, "required": ["city"]}}},
    {"type": "function", "function": {"name": "note", "description": "Keeps a note", "parameters": {
        "type": "object", "properties": {"text": {"type": "string", "description": "What"}, "exact": {"type": "boolean", "description": "Whether"}}, "required": ["text"]}}}]
WEATHER = ("get_weather", {"city": 'Köln "am" Rhein\n日本 🚀 <b>', "days": 3})
NOTE = ("note", {"text": "a\nb", "exact": True})


def run(*arguments, code=0):
    out = subprocess.run([BINARY, "template", *map(str, arguments)], capture_output=True, text=True)
    assert out.returncode == code, (arguments, out.returncode, out.stderr)
    return out.stdout if code == 0 else out.stderr


def written(value):
    file = tempfile.NamedTemporaryFile("w", suffix=".json")
    file.write(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    file.flush()
    return file


def turn(calls, text=""):
    """A question, calls, their answers, and a text: as a client of Chat Completions sends it."""
    made = [{"id": f"abcdefgh{i}", "type": "function", "function": {"name": n, "arguments": json.dumps(a, ensure_ascii=False)}} for i, (n, a) in enumerate(calls)]
    return [{"role": "user", "content": "And now?"}, {"role": "assistant", "content": text or None, "tool_calls": made},
            *({"role": "tool", "tool_call_id": c["id"], "content": "{\"ok\": 1}"} for c in made), {"role": "assistant", "content": "So it is."}]


def as_template_wants(messages, history):
    """The same by the format's own words: what the reference is given."""
    names, out = {}, json.loads(json.dumps(messages))
    for m in out:
        for c in m.get("tool_calls", []):
            names[c["id"]] = c["function"]["name"]
            if history["arguments"] == "object":
                c["function"]["arguments"] = json.loads(c["function"]["arguments"])
        if m.get("tool_calls") and not m["content"]:
            m["content"] = {"empty": "", "null": None}[history["content"]]
        if m["role"] == "tool":
            m["name"] = names[m["tool_call_id"]]
    return out


def reference(cases):
    with written(cases) as file:
        return json.loads(subprocess.run([ROOT / "tools/parity/jinja_oracle", file.name], capture_output=True, text=True, check=True).stdout)


class Templates(unittest.TestCase):
    def setUp(self):
        self.paths = sorted(TEMPLATES.glob("*.jinja"))
        if not self.paths:
            self.skipTest(f"not run: no {TEMPLATES}")

    def test_formats(self):
        for path in self.paths:
            found = json.loads(run("--file", path, "--json"))["tool_format"]
            self.assertEqual(found["format"] == "none", path.stem in NONE, path.stem)
            self.assertEqual("reason" in found, path.stem in NONE)

    def test_whole_turns_render_as_the_reference(self):
        rendered, cases = [], []
        for path in self.paths:
            if path.stem in NONE | NOT_RENDERED:
                continue
            form = json.loads(run("--file", path, "--json"))["tool_format"]
            for calls in [WEATHER], [("note", {"text": ""})], [WEATHER, NOTE]:
                if len(calls) > 1 and not form["parallel"]:
                    continue
                extra = {"functions": "F", "datetime": "D"}
                conversation = {"messages": turn(calls), "tools": TOOLS, "add_generation_prompt": False, "chat_template_kwargs": extra, "now": NOW}
                with written(conversation) as file:
                    rendered.append((path.stem, json.loads(run("--file", path, "--render", file.name, "--json"))["text"]))
                cases.append({"source": path.read_text(), "variables": {
                    "messages": as_template_wants(turn(calls), form["history"]), "tools": TOOLS, "add_generation_prompt": False, **extra}})
        for (name, text), want in zip(rendered, reference(cases), strict=True):
            self.assertEqual(text, want.get("text"), f"{name}: {want.get('error')}")
        self.assertGreater(len(rendered), 60)
        print(f"template: {len(rendered)} whole turns equal the reference's")

    def test_calls_come_back(self):
        for path in self.paths:
            form = json.loads(run("--file", path, "--json"))["tool_format"]
            if path.stem in NONE | NOT_RENDERED or form["begin"].startswith("{"):  # the latter: only at an answer's beginning
                continue
            conversation = {"messages": turn([WEATHER])[:2], "tools": TOOLS, "add_generation_prompt": False, "chat_template_kwargs": {"functions": "F", "datetime": "D"}}
            with written(conversation) as file:
                text = json.loads(run("--file", path, "--render", file.name, "--json"))["text"]
                with written(text[text.rindex("And now?"):]) as own:
                    items = json.loads(run("--file", path, "--render", file.name, "--parse", own.name, "--json"))["items"]
            self.assertEqual([i["call"] for i in items if "call" in i], ["get_weather"], path.stem)
            arguments = "".join(i["arguments"] for i in items if "arguments" in i)
            self.assertEqual(json.loads(arguments), WEATHER[1], path.stem)
            self.assertTrue(all(i["complete"] for i in items if "end" in i))


class Refusals(unittest.TestCase):
    def test_what_no_template_can_say(self):
        with written({"messages": turn([WEATHER]), "tools": TOOLS}) as file, written("{% for m in messages %}{{ m.content }}{% endfor %}") as chat:
            self.assertIn("messages[1].tool_calls", run("--file", chat.name, "--render", file.name, code=1))
        with written("{% for m in") as chat:
            self.assertIn("chat template: line 1", run("--file", chat.name, code=1))
        with written("{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}") as chat:
            self.assertIn("more work", run("--file", chat.name, code=2))
        self.assertIn("--model or --file", run(code=2))
        self.assertIn("cannot open", run("--file", "/nonexistent", code=1))
        with written("[1]") as file, written("x") as chat:
            self.assertIn("messages", run("--file", chat.name, "--render", file.name, code=2))

    def test_a_model(self):
        found = json.loads(run("-m", "builtin:haiku", "--json"))["tool_format"]
        self.assertEqual(found["format"], "none")
        with written("One <two> three") as file:
            self.assertEqual(json.loads(run("-m", "builtin:haiku", "--parse", file.name, "--json"))["items"], [{"text": "One <two> three"}])

    def test_a_folder_with_several_templates(self):
        origin = DATA / "models/zoo/qwen3/hf"
        if not origin.exists():
            self.skipTest(f"not run: no {origin}")
        plain, calls = "plain {{ messages[-1].content }}", "calls {{ messages[-1].content }}"
        asked = {"messages": [{"role": "user", "content": "Hi"}]}
        with tempfile.TemporaryDirectory() as folder, written(asked) as chat, written(asked | {"tools": TOOLS}) as tools:
            folder = pathlib.Path(folder)
            for file in origin.iterdir():
                if "template" not in file.name and file.name != "tokenizer_config.json":
                    (folder / file.name).symlink_to(file)
            config = json.loads((origin / "tokenizer_config.json").read_text())

            def rendered(template):
                (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": template}))
                return run("-m", folder, "--render", chat.name), run("-m", folder, "--render", tools.name)
            self.assertEqual(rendered(plain), ("plain Hi", "plain Hi"))
            both = [{"name": "tool_use", "template": calls}, {"name": "rag", "template": "rag"}, {"name": "default", "template": plain}]
            self.assertEqual(rendered(both), ("plain Hi", "calls Hi"))
            self.assertEqual(rendered(both[:1]), ("calls Hi", "calls Hi"))
            (folder / "chat_template.jinja").write_text("file {{ messages[-1].content }}")
            self.assertEqual(rendered(both), ("file Hi", "file Hi"), "a file goes before what the configuration says")
            (folder / "additional_chat_templates").mkdir()
            (folder / "additional_chat_templates/tool_use.jinja").write_text(calls)
            self.assertEqual(rendered(plain), ("file Hi", "calls Hi"))


if __name__ == "__main__":
    main()
