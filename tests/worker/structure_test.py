"""Answers that a schema, a pattern or a grammar holds, through every route; and 100 generations of a real model under real schemas.

LLORCH_GENERATIONS: how many (100); their model is .test-models/smollm2-135m-q4_1.gguf (`./dev models`)."""
import collections
import json
import math
import os
import subprocess
import tempfile
import threading
import unittest

import jsonschema
import openai
import pydantic
from harness import BINARY, DATA, ROOT, SANITIZED, USER, Worker, main, text_of

CORPUS = DATA / "jsonschema/maskbench.jsonl"
MODEL = ROOT / ".test-models/smollm2-135m-q4_1.gguf"
GENERATIONS = int(os.environ.get("LLORCH_GENERATIONS", 100))
BIRD = {"type": "object", "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 9}, "legs": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["name", "legs"], "additionalProperties": False}
FORMAT = {"type": "json_schema", "json_schema": {"name": "bird", "strict": True, "schema": BIRD}}
GBNF = 'root ::= ("la" | "lo") (" " root)?'
SAYINGS = ({"response_format": FORMAT}, {"structured_outputs": {"json": BIRD}}, {"guided_json": BIRD}, {"guided_json": json.dumps(BIRD)}, {"json_schema": BIRD}, {"response_format": {"type": "json_object", "schema": BIRD}})


def forced_thought(prompt_end):
    """A chat template whose answers begin in a thought."""
    return "{% for m in messages %}{{ m.content }}{% endfor %}<|assistant|>" + prompt_end + "{# </think> #}"


class Structure(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.w = Worker()
        cls.c = openai.OpenAI(base_url=cls.w.url + "/v1", api_key="unused", max_retries=0)

    @classmethod
    def tearDownClass(cls):
        cls.c.close()
        cls.w.stop()

    def chat(self, **fields):
        status, _, body = self.w.post("/v1/chat/completions", {"messages": USER, "max_tokens": 100, "seed": 4, **fields})
        self.assertEqual(status, 200, body)
        return body["choices"][0]

    def tokens(self, text):
        """Ids of tokens that are one of these characters."""
        out = subprocess.run([BINARY, "tokenize", "-m", "builtin:haiku", "--json", "--text", text], capture_output=True, text=True, check=True)
        return json.loads(out.stdout)["ids"]

    def expect_bird(self, choice, text=None):
        text = choice["message"]["content"] if text is None else text
        if choice["finish_reason"] == "stop":
            jsonschema.validate(json.loads(text), BIRD)
        return choice["finish_reason"]

    def test_every_spelling_holds(self):
        texts = {self.chat(**saying)["message"]["content"] for saying in SAYINGS}
        self.assertEqual(len(texts), 1, texts)
        jsonschema.validate(json.loads(texts.pop()), BIRD)
        choice = self.chat(response_format={"type": "json_object"}, structured_outputs=None, logit_bias={str(n): 20 for n in self.tokens('"}')})
        self.assertEqual((type(json.loads(choice["message"]["content"])), choice["finish_reason"]), (dict, "stop"))

    def test_patterns_grammars_and_choices(self):
        date = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
        for saying in ({"regex": date}, {"guided_regex": date}, {"structured_outputs": {"regex": date}}, {"response_format": {"type": "regex", "pattern": date}}):
            self.assertRegex(self.chat(**saying)["message"]["content"], f"^{date}$")
        for saying in ({"grammar": GBNF}, {"guided_grammar": GBNF}, {"ebnf": GBNF}, {"response_format": {"type": "grammar", "grammar": GBNF}}, {"structured_outputs": {"grammar": GBNF}}):
            self.assertRegex(self.chat(**saying)["message"]["content"], "^l[ao]( l[ao])*$")
        for saying in ({"guided_choice": ["no", "not yet", "yes"]}, {"structured_outputs": {"choice": ["no", "not yet", "yes"]}}):
            said = {self.chat(**saying, seed=n, temperature=2)["message"]["content"] for n in range(40)}
            self.assertLessEqual(said, {"no", "not yet", "yes"})
            self.assertGreater(len(said), 1)

    def test_seeds_give_different_answers_that_all_hold(self):
        reasons, texts = collections.Counter(), set()
        for seed in range(30):
            choice = self.chat(response_format=FORMAT, seed=seed, temperature=1.5)
            reasons[self.expect_bird(choice)] += 1
            texts.add(choice["message"]["content"])
        self.assertGreaterEqual(reasons["stop"], 28, reasons)
        self.assertGreater(len(texts), 20)

    def test_streams_completions_and_jobs_say_the_same(self):
        whole = self.chat(response_format=FORMAT)["message"]["content"]
        chunks = self.c.chat.completions.create(model="builtin:haiku", messages=USER, max_tokens=100, seed=4, response_format=FORMAT, stream=True)
        self.assertEqual("".join(c.choices[0].delta.content or "" for c in chunks), whole)
        status, _, body = self.w.post("/v1/completions", {"prompt": "A bird", "max_tokens": 100, "seed": 4, "response_format": FORMAT, "n": 3})
        self.assertEqual(status, 200, body)
        for choice in body["choices"]:
            self.expect_bird(choice, choice["text"])
        events = self.w.generate(prompt="A bird", max_tokens=100, seed=4, response_format=FORMAT)
        self.assertEqual(events[0][2]["params"]["structure"], "json_schema")
        self.assertEqual(text_of(events), body["choices"][0]["text"])
        self.assertEqual(text_of(self.w.generate(messages=USER, max_tokens=100, seed=4, guided_json=BIRD)), whole)

    def test_the_client_parses(self):
        class Bird(pydantic.BaseModel):
            name: str = pydantic.Field(max_length=8)
            legs: int = pydantic.Field(ge=0, le=9)

        parsed = self.c.chat.completions.parse(model="builtin:haiku", messages=USER, max_tokens=120, seed=2, response_format=Bird)
        self.assertIsInstance(parsed.choices[0].message.parsed, Bird)

    def test_what_is_refused_is_named(self):
        def refused(param, code, *words, **fields):
            for path, more in (("/v1/chat/completions", {"messages": USER}), ("/v1/completions", {"prompt": "x"}), ("/v1/inference", {"prompt": "x"})):
                status, _, body = self.w.post(path, {"max_tokens": 5, **more, **fields})
                error = body["error"]
                self.assertEqual((status, error.get("param"), error["code"].upper()), (400, param, code), (path, fields, body))
                for word in words:
                    self.assertIn(word, error["message"], path)

        schema = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
        refused("response_format", "UNSUPPORTED_VALUE", "uniqueItems", "/properties/tags", response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "properties": {"tags": schema}}}})
        refused("regex", "UNSUPPORTED_VALUE", "byte", regex="a(?=b)")
        refused("grammar", "UNSUPPORTED_VALUE", "nothing_here", grammar="root ::= nothing_here")
        refused("guided_json", "UNSUPPORTED_VALUE", guided_json="{not json")
        refused("guided_json", "UNSUPPORTED_VALUE", "no text can satisfy", guided_json={"type": "integer", "minimum": 3, "maximum": 2})
        refused("response_format", "INVALID_REQUEST", response_format="json")
        refused("response_format", "UNSUPPORTED_VALUE", response_format={"type": "structural_tag"})
        refused("response_format.json_schema.schema", "INVALID_REQUEST", response_format={"type": "json_schema", "json_schema": {"name": "x"}})
        refused("regex", "INVALID_REQUEST", "both", response_format=FORMAT, regex="a")
        refused("guided_choice", "INVALID_REQUEST", guided_choice=[])
        refused("structured_outputs.whitespace_pattern", "UNSUPPORTED_VALUE", structured_outputs={"json": BIRD, "whitespace_pattern": " "})
        refused("guided_regex", "INVALID_REQUEST", guided_regex=7)
        self.assertEqual(self.chat(response_format={"type": "text"}, max_tokens=3)["finish_reason"], "length")

    def test_hostile_grammars_end_within_their_time(self):
        deep = {"type": "string"}
        for _ in range(60):
            deep = {"type": "array", "items": deep}
        for fields in ({"regex": "(((a{1,1000}){1,1000}){1,1000}){1,1000}"}, {"regex": "(a|aa)+" * 300}, {"guided_choice": [f"{i}" * 40 for i in range(5000)]}, {"guided_json": deep}, {"guided_json": {"$ref": "#"}}, {"grammar": "root ::= root \"a\""}, {"guided_json": {"enum": [f"value {i}" for i in range(50_000)]}}):
            status, _, body = self.w.post("/v1/chat/completions", {"messages": USER, "max_tokens": 5, **fields})
            self.assertIn(status, (200, 400), body)
        self.assertEqual(self.w.get("/health")[0], 200)

    def test_log_probabilities_are_of_the_allowed_tokens(self):
        choice = self.chat(guided_choice=["no", "yes"], logprobs=True, top_logprobs=20, temperature=0)
        first = choice["logprobs"]["content"][0]
        self.assertAlmostEqual(sum(math.exp(t["logprob"]) for t in first["top_logprobs"]), 1, places=6)
        self.assertLessEqual({t["token"] for t in first["top_logprobs"]}, {"n", "no", "y", "ye", "yes"})
        free = self.chat(logprobs=True, top_logprobs=20, temperature=0)["logprobs"]["content"][0]
        self.assertLess(sum(math.exp(t["logprob"]) for t in free["top_logprobs"]), 1)

    def test_company_changes_nothing(self):
        alone = [self.chat(response_format=FORMAT, seed=n, temperature=1)["message"]["content"] for n in range(6)]
        together = {}
        threads = [threading.Thread(target=lambda n=n: together.update({n: self.chat(**({"response_format": FORMAT} if n < 6 else {"regex": "[a-z ]+"}), seed=n, temperature=1)["message"]["content"]})) for n in range(9)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual([together[n] for n in range(6)], alone)

    def test_the_answer_is_held_and_not_the_thought_before_it(self):
        with tempfile.NamedTemporaryFile("w", suffix=".jinja") as f:
            f.write(forced_thought("<think>\n"))
            f.flush()
            with Worker("--chat-template", f.name) as w:
                body = w.post("/v1/chat/completions", {"messages": USER, "max_tokens": 30, "seed": 1, "response_format": FORMAT})[2]
                message = body["choices"][0]["message"]
                self.assertEqual((message["content"], body["choices"][0]["finish_reason"]), ("", "length"), "this model never ends a thought")
                self.assertTrue(message["reasoning_content"])
                body = w.post("/v1/chat/completions", {"messages": USER, "max_tokens": 120, "seed": 4, "response_format": FORMAT, "thinking_budget": 7})[2]
                self.expect_bird(body["choices"][0])
                self.assertTrue(body["choices"][0]["message"]["reasoning_content"], "a thought that ends by its budget")
            f.seek(0)
            f.truncate()
            f.write(forced_thought("<think>\n</think>\n\n"))
            f.flush()
            with Worker("--chat-template", f.name) as w:
                body = w.post("/v1/chat/completions", {"messages": USER, "max_tokens": 100, "seed": 4, "response_format": FORMAT})[2]
                self.expect_bird(body["choices"][0])
                self.assertNotIn("reasoning_content", body["choices"][0]["message"])


class Generations(unittest.TestCase):
    def test_a_real_model_under_real_schemas(self):
        for needed in (CORPUS, MODEL):
            if not needed.exists():
                print(f"not run: no {needed}")
                return
        if SANITIZED:
            print("not run: too slow under sanitizers")
            return
        schemas = [(number, json.loads(line)["schema"]) for number, line in enumerate(CORPUS.open()) if number % 7 == 3]
        ended, refused, cut, wrong, lock, todo = 0, 0, 0, [], threading.Lock(), []
        with Worker("--max-batch", "8", "--ctx", "2048", model=MODEL) as w:
            for number, schema in schemas[:200]:
                todo += [(number, schema, seed) for seed in range(max(1, GENERATIONS // 100))]

            def generate():
                nonlocal ended, refused, cut
                while True:
                    with lock:
                        if not todo or ended + cut >= GENERATIONS:
                            return
                        number, schema, seed = todo.pop(0)
                    status, _, body = w.call("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "Write an example as short JSON."}], "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}, "temperature": 1, "seed": seed, "max_tokens": 100}, timeout=600)
                    with lock:
                        if status != 200:
                            refused += 1
                            if body["error"]["code"] not in ("unsupported_value", "UNSUPPORTED_VALUE"):
                                wrong.append((number, seed, body))
                            continue
                        choice = body["choices"][0]
                        if choice["finish_reason"] != "stop":
                            cut += 1
                            continue
                        ended += 1
                    validator = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
                    try:
                        if not validator(schema).is_valid(json.loads(choice["message"]["content"])):
                            wrong.append((number, seed, choice["message"]["content"][:300]))
                    except ValueError as e:
                        wrong.append((number, seed, str(e), choice["message"]["content"][:300]))

            threads = [threading.Thread(target=generate) for _ in range(8)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
        print(f"structure: {ended} ended by themselves, {cut} at their limit, {refused} schemas refused, {len(wrong)} wrong")
        self.assertEqual(wrong, [])
        self.assertGreater(ended, GENERATIONS * 0.3)


if __name__ == "__main__":
    main()
