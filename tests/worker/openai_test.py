"""OpenAI's own Python client against a live worker (J-50 to J-67, J-70)."""
import json
import math
import tempfile
import unittest

import gguf
import numpy
import openai

from harness import DATA, ROOT, STORIES, TURN_MS_MAX, USER, Worker, main, not_run, parse_sse, wait_for


class Client(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.w = Worker()
        cls.c = openai.OpenAI(base_url=cls.w.url + "/v1", api_key="unused", max_retries=0)

    @classmethod
    def tearDownClass(cls):
        cls.c.close()
        cls.w.stop()

    def chat(self, **fields):
        return self.c.chat.completions.create(**(dict(model="builtin:haiku", messages=USER, max_tokens=30, seed=1) | fields))

    def test_models(self):
        models = self.c.models.list().data
        self.assertEqual([m.id for m in models], ["builtin:haiku"])
        meta = wait_for(lambda: (m := self.c.models.retrieve("builtin:haiku").model_extra["meta"])["hash"] and m)
        self.assertEqual((meta["context"], meta["quant"], len(meta["hash"])), (256, "Q8_0", 64))
        self.assertEqual(self.chat(model="gpt-9", max_tokens=1).model, "builtin:haiku")
        with self.assertRaises(openai.NotFoundError) as e:
            self.c.models.retrieve("nope")
        self.assertEqual(e.exception.code, "model_not_found")

    def test_chat(self):
        r = self.chat()
        self.assertRegex(r.id, "^chatcmpl-")
        self.assertEqual((r.object, r.model, r.choices[0].message.role), ("chat.completion", "builtin:haiku", "assistant"))
        self.assertTrue(r.choices[0].message.content)
        self.assertIn(r.choices[0].finish_reason, ("stop", "length"))
        self.assertEqual(r.usage.total_tokens, r.usage.prompt_tokens + r.usage.completion_tokens)
        self.assertEqual(r.usage.completion_tokens_details.reasoning_tokens, 0)
        self.assertTrue(r._request_id)

    def test_the_fingerprint_is_known_from_the_first_answer_on(self):
        def told(w):
            status, _, answer = w.post("/v1/completions", {"prompt": "x", "max_tokens": 1})
            self.assertEqual(status, 200, answer)
            return answer["system_fingerprint"]

        large = ROOT / ".test-models/gemma3-270m-q4_k_m.gguf"  # whose hash takes a while
        if not large.exists():
            not_run(f"no {large}")
        found, models = set(), ["builtin:haiku", *(m for m in (STORIES, large) if m.exists())]
        for model in models:
            with Worker("--ctx", "256", model=model) as w:
                first = told(w)
                self.assertRegex(first, r"^llorch-[\d.]+-[0-9a-f]{8}$")
                wait_for(lambda: w.get("/v1/info")[2]["model_hash"])
                self.assertEqual(told(w), first)
                found.add(first)
        self.assertEqual(len(found), len(models), "models differ")

    def test_embeddings(self):
        """The client asks for base64 by itself; plain floats are the same numbers, of length 1, whatever stands beside them."""
        texts = ["a cold morning", "the river", "a cold morning by the river in winter"]
        packed = self.c.embeddings.create(model="builtin:haiku", input=texts)
        plain = self.c.embeddings.create(model="builtin:haiku", input=texts, encoding_format="float")
        self.assertEqual([d.index for d in packed.data], [0, 1, 2])
        self.assertEqual(packed.usage.prompt_tokens, packed.usage.total_tokens)
        for a, b, text in zip(packed.data, plain.data, texts):
            self.assertEqual([float(x) for x in a.embedding], [float(x) for x in b.embedding])
            self.assertAlmostEqual(sum(x * x for x in a.embedding), 1, places=5)
            alone = self.c.embeddings.create(model="builtin:haiku", input=text).data[0].embedding
            self.assertEqual(alone, a.embedding, "neighbours do not matter")
        self.assertNotEqual(packed.data[0].embedding, packed.data[1].embedding)
        self.assertEqual(self.w.post("/v1/embeddings", {"input": [5, 6, 7]})[2]["usage"]["prompt_tokens"], 3)
        for body, param in (({}, "input"), ({"input": ""}, "input"), ({"input": "x", "dimensions": 8}, "dimensions"), ({"input": "x", "encoding_format": "int8"}, "encoding_format"),
                            ({"input": [10**9]}, "input"), ({"input": "word " * 3000}, "input")):
            status, _, answer = self.w.post("/embeddings", body)
            self.assertEqual((status, answer["error"]["param"]), (400, param), body)

    def test_an_abandoned_request_may_be_asked_again_under_its_key(self):
        body = json.dumps({"input": [list(range(5, 250))] * 64})
        head = {"Content-Type": "application/json", "Idempotency-Key": "left-alone"}
        c = self.w.connection()
        c.request("POST", "/v1/embeddings", body, head)
        wait_for(lambda: self.w.get("/v1/inference")[2]["jobs"])
        c.sock.close()
        c.close()
        again = wait_for(lambda: (r := self.w.call("POST", "/v1/embeddings", body, head))[0] == 200 and r)
        self.assertEqual(len(again[2]["data"]), 64)

    def test_reasoning_is_apart_from_content(self):
        with tempfile.NamedTemporaryFile("w", suffix=".jinja") as template:
            template.write("{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}")
            template.flush()
            with Worker("--chat-template", template.name) as w:
                c = openai.OpenAI(base_url=w.url + "/v1", api_key="unused", max_retries=0)
                fields = dict(model="builtin:haiku", messages=USER, max_tokens=20, seed=1)
                whole = c.chat.completions.create(**fields)
                message = whole.choices[0].message
                self.assertTrue(message.model_extra["reasoning_content"])
                self.assertEqual(message.content, "")
                self.assertEqual(whole.usage.completion_tokens_details.reasoning_tokens, whole.usage.completion_tokens)
                thoughts = ""
                for chunk in c.chat.completions.create(stream=True, **fields):
                    delta = chunk.choices[0].delta
                    self.assertFalse(delta.content)
                    thoughts += (delta.model_extra or {}).get("reasoning_content", "")
                self.assertEqual(thoughts, message.model_extra["reasoning_content"])
                # A budget ends the thought with the template's own mark, and the answer follows.
                fields |= dict(extra_body={"thinking_budget": 6}, max_tokens=40)
                short = c.chat.completions.create(**fields)
                thought = short.choices[0].message.model_extra["reasoning_content"]
                self.assertTrue(thought.endswith("\n") and thoughts.startswith(thought[:-1]), (thought, thoughts))
                self.assertTrue(short.choices[0].message.content)
                self.assertLess(short.usage.completion_tokens_details.reasoning_tokens, 20)
                pieces = [chunk.choices[0].delta for chunk in c.chat.completions.create(stream=True, **fields)]
                self.assertEqual("".join(d.content or "" for d in pieces), short.choices[0].message.content)
                self.assertEqual("".join((d.model_extra or {}).get("reasoning_content", "") for d in pieces), thought)
                other = c.chat.completions.create(**fields | dict(extra_body={"thinking_budget": 200}, max_tokens=20))
                self.assertEqual(other.choices[0].message.model_extra["reasoning_content"], thoughts, "within the budget nothing changes")
                body = w.post("/v1/messages", {"messages": USER, "max_tokens": 40, "thinking": {"type": "enabled", "budget_tokens": 6}, "seed": 1})[2]
                self.assertEqual([b["type"] for b in body["content"]], ["thinking", "text"])
                # Stop strings are for the answer: neither in the thought nor in the mark that ends it do they match.
                answer = short.choices[0].message.content
                inside = next(w for w in thought.split() if len(w) > 2 and w not in answer)
                stopped = c.chat.completions.create(**fields | dict(stop=[inside, "think>"]))
                self.assertEqual((stopped.choices[0].message.content, stopped.choices[0].finish_reason), (answer, short.choices[0].finish_reason))
                self.assertEqual(stopped.choices[0].message.model_extra["reasoning_content"], thought)
                word = answer.split()[1]
                stopped = c.chat.completions.create(**fields | dict(stop=[word])).choices[0]
                self.assertEqual((stopped.message.content, stopped.finish_reason), (answer[: answer.index(word)], "stop"))
                # A mark that max_tokens cuts is shown to nobody.
                for most in range(6, 14):
                    cut = c.chat.completions.create(**fields | dict(max_tokens=most)).choices[0].message
                    self.assertTrue((cut.model_extra["reasoning_content"] + "\n").startswith(thought[: most]) and "<" not in cut.model_extra["reasoning_content"] + (cut.content or ""), (most, cut))
                # No thought at all, where the template begins one all the same.
                none = c.chat.completions.with_raw_response.create(**fields | dict(extra_body={"thinking_budget": 0}))
                self.assertNotIn("x-llorch-ignored", none.headers)
                message = none.parse().choices[0].message
                self.assertFalse((message.model_extra or {}).get("reasoning_content"), message)
                self.assertTrue(message.content)
                # The same field on the other routes.
                status, headers, body = w.post("/v1/responses", {"input": USER[0]["content"], "max_output_tokens": 40, "thinking_budget": 6, "top_k": 20, "ignore_eos": True, "seed": 1})
                self.assertEqual([item["type"] for item in body["output"]], ["reasoning", "message"], body)
                self.assertNotIn("x-llorch-ignored", {k.lower() for k in headers})
                status, _, body = w.post("/v1/messages", {"messages": USER, "max_tokens": 4, "thinking": {"type": "enabled", "budget_tokens": "6"}})
                self.assertEqual((status, "thinking.budget_tokens" in body["error"]["message"]), (400, True), body)
                with self.assertRaises(openai.BadRequestError) as e:
                    c.chat.completions.create(**fields | dict(extra_body={"thinking_budget": 5, "reasoning_budget": 6}))
                self.assertEqual(e.exception.param, "reasoning_budget")
                for budget in (-2, "7", 1.5):
                    with self.assertRaises(openai.BadRequestError) as e:
                        c.chat.completions.create(**fields | dict(extra_body={"thinking_budget": budget}))
                    self.assertEqual(e.exception.param, "thinking_budget")
                c.close()
            w_none = self.w.post("/v1/chat/completions", {"messages": USER, "max_tokens": 1, "thinking_budget": 5})
            self.assertIn("thinking_budget", {k.lower(): v for k, v in w_none[1].items()}.get("x-llorch-ignored", ""), "a model that does not think is told apart")

    def test_effort_reaches_the_template(self):
        with tempfile.NamedTemporaryFile("w", suffix=".jinja") as template:
            template.write("{% for m in messages %}{{ m.content }}{% endfor %}{% if enable_thinking is defined %}{{ ' on' if enable_thinking else ' off' }}{% endif %}{{ ' ' ~ reasoning_effort if reasoning_effort is defined }}")
            template.flush()
            with Worker("--chat-template", template.name) as w:
                def tokens(**fields):
                    return w.post("/v1/chat/completions", {"messages": USER, "max_tokens": 1} | fields)[2]["usage"]["prompt_tokens"]

                def text(end):
                    return tokens(messages=[{"role": "user", "content": USER[0]["content"] + end}])
                self.assertEqual(tokens(reasoning_effort="none"), text(" off none"))
                self.assertEqual(tokens(reasoning_effort="high"), text(" on high"))
                self.assertEqual(tokens(thinking_budget=0), text(" off"))
                self.assertEqual(tokens(thinking_budget=9), text(""))
                self.assertEqual(tokens(reasoning_effort="high", chat_template_kwargs={"enable_thinking": False}), text(" off high"), "what is given by name stands")

    def test_stream_equals_whole(self):
        for fields in (dict(), dict(n=3, temperature=1.2), dict(stop=["the"]), dict(logprobs=True, top_logprobs=3), dict(max_tokens=1), dict(max_tokens=60, temperature=2.0, ignore=None)):
            fields.pop("ignore", None)
            whole = self.chat(**fields)
            texts, finish, logprobs, usage, roles = {}, {}, {}, None, {}
            ids = set()
            for chunk in self.chat(stream=True, stream_options={"include_usage": True}, **fields):
                ids.add((chunk.id, chunk.created, chunk.model, chunk.object))
                if not chunk.choices:
                    self.assertIsNone(usage)
                    usage = chunk.usage
                    continue
                self.assertIsNone(chunk.usage)
                self.assertIsNone(usage, "a choice after the usage")
                x = chunk.choices[0]
                if x.delta.role:
                    self.assertNotIn(x.index, roles)
                    roles[x.index] = x.delta.role
                texts[x.index] = texts.get(x.index, "") + (x.delta.content or "")
                if x.logprobs:
                    logprobs.setdefault(x.index, []).extend(x.logprobs.content)
                if x.finish_reason:
                    self.assertNotIn(x.index, finish)
                    finish[x.index] = x.finish_reason
            self.assertEqual(len(ids), 1)
            self.assertEqual(texts, {x.index: x.message.content for x in whole.choices})
            self.assertEqual(finish, {x.index: x.finish_reason for x in whole.choices})
            self.assertEqual((usage.prompt_tokens, usage.completion_tokens), (whole.usage.prompt_tokens, whole.usage.completion_tokens))
            if "logprobs" in fields:
                self.assertEqual(logprobs[0], whole.choices[0].logprobs.content)
        self.assertEqual(len({x.message.content for x in self.chat(n=3, temperature=1.2).choices}), 3, "choices are the same text")

    def test_logprobs(self):
        content = self.chat(logprobs=True, top_logprobs=5, temperature=0).choices[0].logprobs.content
        self.assertTrue(content)
        for t in content:
            self.assertLessEqual(t.logprob, 0)
            self.assertEqual(len(t.top_logprobs), 5)
            values = [x.logprob for x in t.top_logprobs]
            self.assertEqual(values, sorted(values, reverse=True))
            self.assertAlmostEqual(t.logprob, values[0])  # greedy
            self.assertLess(sum(math.exp(v) for v in values), 1.0001)
        said = self.chat(temperature=0).choices[0].message.content
        self.assertEqual(b"".join(bytes(t.bytes) for t in content).decode(), said)

    def test_stop_seed_and_penalties(self):
        plain = self.chat(temperature=0).choices[0].message.content
        word = plain.split()[2]
        cut = self.chat(temperature=0, stop=word)
        self.assertEqual(cut.choices[0].message.content, plain[: plain.index(word)])
        self.assertEqual(cut.choices[0].finish_reason, "stop")
        self.assertEqual(self.chat(seed=7, temperature=1).choices[0].message.content, self.chat(seed=7, temperature=1).choices[0].message.content)
        self.assertNotEqual(self.chat(seed=7, temperature=1).choices[0].message.content, self.chat(seed=8, temperature=1).choices[0].message.content)
        self.assertNotEqual(self.chat(temperature=0, extra_body={"repetition_penalty": 2.0}).choices[0].message.content, plain)
        self.assertEqual(self.chat(temperature=1, extra_body={"top_k": 1}).choices[0].message.content, plain)
        self.assertEqual(self.chat(temperature=1, extra_body={"min_p": 1.0}).choices[0].message.content, plain)
        first = self.c.chat.completions.create(model="builtin:haiku", messages=USER, max_completion_tokens=1, temperature=0, logprobs=True)
        self.assertEqual(first.usage.completion_tokens, 1)
        self.assertNotEqual(self.chat(temperature=0, logit_bias={"273": -100}).choices[0].message.content, plain)

    def test_completions(self):
        r = self.c.completions.create(model="builtin:haiku", prompt="<|user|>Write a haiku about rain<|assistant|>", max_tokens=12, temperature=0, logprobs=2)
        self.assertRegex(r.id, "^cmpl-")
        self.assertEqual(r.object, "text_completion")
        self.assertEqual(len(r.choices[0].logprobs.tokens), r.usage.completion_tokens)
        self.assertEqual("".join(r.choices[0].logprobs.tokens), r.choices[0].text)
        self.assertEqual(len(r.choices[0].logprobs.top_logprobs[0]), 2)
        self.assertEqual(self.c.completions.create(model="builtin:haiku", prompt="a", extra_body={"ignore_eos": True}).usage.completion_tokens, 16)
        several = self.c.completions.create(model="builtin:haiku", prompt=["a", "b"], n=2, max_tokens=3, temperature=1, seed=1)
        self.assertEqual([x.index for x in several.choices], [0, 1, 2, 3])
        ids = self.c.completions.create(model="builtin:haiku", prompt=[273, 1206], max_tokens=3, temperature=0, echo=True)
        tokens = gguf.GGUFReader(str(ROOT / "models/haiku.gguf")).fields["tokenizer.ggml.tokens"].contents()  # by another reader
        self.assertTrue(ids.choices[0].text.startswith((tokens[273] + tokens[1206]).replace("\u0120", " ")), ids.choices[0].text)
        streamed = "".join(x.choices[0].text for x in self.c.completions.create(model="builtin:haiku", prompt=[273, 1206], max_tokens=3, temperature=0, echo=True, stream=True))
        self.assertEqual(streamed, ids.choices[0].text)

    def score(self, prompt, **fields):
        r = self.w.post("/v1/completions", {"prompt": prompt, "max_tokens": 0, "echo": True, "logprobs": 2, "temperature": 0} | fields)
        self.assertEqual(r[0], 200, r)
        return r[2]

    def test_the_probabilities_of_a_prompt(self):
        prompt = "<|user|>Write a haiku about rain<|assistant|>soft wind, the café"
        ids = self.w.post("/tokenize", {"prompt": prompt})[2]["tokens"]
        answer = self.score(prompt)
        choice, usage = answer["choices"][0], answer["usage"]
        lists = choice["logprobs"]
        self.assertEqual((choice["text"], choice["finish_reason"], usage["prompt_tokens"], usage["completion_tokens"]), (prompt, "length", len(ids), 0))
        self.assertEqual({len(v) for v in lists.values()}, {len(ids)})
        self.assertEqual((lists["token_logprobs"][0], lists["top_logprobs"][0]), (None, None))
        # One token after the other, forced: a bias changes what is drawn, not what is told.
        for k in range(1, len(ids)):
            _, _, one = self.w.post("/v1/completions", {"prompt": ids[:k], "max_tokens": 1, "temperature": 0, "logit_bias": {str(ids[k]): 100}, "logprobs": 2, "ignore_eos": True})
            forced = one["choices"][0]["logprobs"]
            self.assertEqual((forced["tokens"], forced["top_logprobs"][0].keys()), ([lists["tokens"][k]], lists["top_logprobs"][k].keys()))
            self.assertAlmostEqual(forced["token_logprobs"][0], lists["token_logprobs"][k], 4)
        # Where each token stands; a character of several tokens begins where they do.
        for k, (token, at) in enumerate(zip(lists["tokens"], lists["text_offset"])):
            if "\\x" not in token:
                self.assertEqual(prompt[at : at + len(token)], token, k)
        again = self.score(prompt)
        self.assertEqual((again["choices"], again["usage"]["prompt_tokens_details"]["cached_tokens"]), (answer["choices"], 0), "nothing comes from the cache")

    def test_the_probabilities_of_a_prompt_and_of_what_follows(self):
        """As lm-eval asks: ids, several at once, one token more, which it cuts off."""
        prompts = [[273, 1206, 5, 77, 300], [5], [9] * 200]
        plain = self.score(prompts, max_tokens=3, echo=False)["choices"]
        both = self.score(prompts, max_tokens=3)["choices"]
        for choice, alone, ids in zip(both, plain, prompts):
            lists, own = choice["logprobs"], alone["logprobs"]
            self.assertEqual(len(lists["token_logprobs"]), len(ids) + 3)
            self.assertTrue(choice["text"].endswith(alone["text"]))
            self.assertEqual((lists["tokens"][len(ids):], lists["token_logprobs"][len(ids):]), (own["tokens"], own["token_logprobs"]))
            self.assertEqual(lists["text_offset"][len(ids)], len(choice["text"]) - len(alone["text"]))
            self.assertEqual(lists["token_logprobs"][:len(ids)], self.score(ids)["choices"][0]["logprobs"]["token_logprobs"])
        # A stream says the same, in parts.
        _, _, text = self.w.post("/v1/completions", {"prompt": prompts[2], "max_tokens": 3, "echo": True, "logprobs": 2, "temperature": 0, "stream": True})
        chunks = [d["choices"][0] for _, _, d in parse_sse(text)[0]]
        self.assertEqual("".join(c["text"] for c in chunks), both[2]["text"])
        for name, whole in both[2]["logprobs"].items():
            self.assertEqual([x for c in chunks if c["logprobs"] for x in c["logprobs"][name]], whole, name)
        for bad, fields in (("echo", {"response_format": {"type": "json_object"}}), ("echo", {"truncation": "auto"}), ("logprobs", {"logprobs": 21}), ("max_tokens", {"max_tokens": -2}), ("n", {"n": 9})):
            status, _, body = self.w.post("/v1/completions", {"prompt": "a", "max_tokens": 0, "echo": True, "logprobs": 2} | fields)
            self.assertEqual((status, body["error"]["param"]), (400, bad))

    def test_tokens(self):
        for given, more in ({"content": "the sea"}, {}), ({"prompt": "the sea", "add_special_tokens": False}, {}), ({"text": "the sea", "add_special": False, "parse_special": False}, {}):
            status, _, body = self.w.post("/v1/tokenize", given | more)
            self.assertEqual((status, body["count"], body["max_model_len"]), (200, len(body["tokens"]), 256))
            self.assertEqual(self.w.post("/detokenize", {"tokens": body["tokens"]})[2], {"content": "the sea", "prompt": "the sea"})
        control = [self.w.post("/tokenize", {"content": "<|user|>", "parse_special": p})[2]["count"] for p in (True, False)]
        self.assertEqual(control[0], 1)
        self.assertGreater(control[1], 1)
        pieces = self.w.post("/tokenize", {"content": "the \u20ac 🐝", "with_pieces": True, "return_token_strs": True})[2]
        bytes_of = lambda p: bytes(p) if isinstance(p, list) else p.encode()
        self.assertEqual(b"".join(bytes_of(t["piece"]) for t in pieces["tokens"]).decode(), "the \u20ac 🐝")
        self.assertEqual(len(pieces["token_strs"]), pieces["count"])
        partial = [t["id"] for t in pieces["tokens"] if isinstance(t["piece"], list)]
        self.assertTrue(partial)
        self.assertIn("\ufffd", self.w.post("/detokenize", {"tokens": partial[:1]})[2]["content"])
        echoed = self.w.post("/v1/completions", {"prompt": partial[:1], "max_tokens": 1, "echo": True})
        self.assertIn("\ufffd", echoed[2]["choices"][0]["text"])
        asked = {"messages": USER}
        ids = self.w.post("/tokenize", asked | {"add_generation_prompt": True})[2]
        self.assertEqual(ids["count"], self.w.post("/v1/chat/completions", asked | {"max_tokens": 1})[2]["usage"]["prompt_tokens"])
        self.assertEqual(self.w.post("/detokenize", {"tokens": ids["tokens"]})[2]["content"], "<|user|>" + USER[0]["content"] + "<|assistant|>")
        for path, bad, place in (("/tokenize", {}, "content"), ("/tokenize", {"content": "a", "prompt": "b"}, "content"), ("/tokenize", {"content": 5}, "content"), ("/tokenize", {"messages": USER, "add_generation_prompt": 5}, "add_generation_prompt"), ("/tokenize", {"messages": []}, "messages"), ("/detokenize", {}, "tokens"), ("/detokenize", {"tokens": [-1]}, "tokens"), ("/detokenize", {"tokens": [99999]}, "tokens"), ("/detokenize", {"tokens": ["a"]}, "tokens"),
                                 ("/v1/rerank", {"query": "a", "documents": ["b", {"text": "c"}], "top_n": 1}, "model"), ("/v1/rerank", {"query": "a", "documents": []}, "documents"), ("/v1/rerank", {"query": "a", "documents": [5]}, "documents[0]"), ("/v1/rerank", {"documents": ["b"]}, "query"), ("/v1/rerank", {"query": "a", "documents": ["b"], "top_n": 0}, "top_n")):
            status, _, body = self.w.post(path, bad)
            self.assertEqual((status, body["error"]["param"]), (400, place), bad)
        self.assertEqual(self.w.post("/tokenize", {"content": ""})[2]["tokens"], [])

    def test_a_large_answer_comes_whole_and_again_under_its_key(self):
        """1.6 MB of echo, which is serialised beside the event loop."""
        prompt = "the sea and the wind and " * 8_000
        body = {"model": "builtin:haiku", "prompt": prompt, "truncation": "auto", "echo": True, "n": 8, "max_tokens": 2, "ignore_eos": True}
        for replayed in (None, "true"):
            status, headers, answer = self.w.post("/v1/completions", body, {"Idempotency-Key": "large"})
            self.assertEqual((status, headers["Idempotent-Replayed"]), (200, replayed))
            self.assertEqual([(c["index"], c["text"].startswith(prompt), c["finish_reason"]) for c in answer["choices"]], [(i, True, "length") for i in range(8)])
        status, _, answer = self.w.post("/v1/completions", body | {"prompt": [273] * 20_000, "n": 1})
        self.assertEqual(status, 200)
        self.assertGreater(len(answer["choices"][0]["text"]), 20_000)

    def test_large_answers_are_not_written_on_the_event_loop(self):  # 15.3
        """Marks that JSON escapes: writing them takes several times what copying the answer takes."""
        with Worker() as w:
            body = {"model": "builtin:haiku", "prompt": '" ' * 300_000, "truncation": "auto", "echo": True, "n": 8, "max_tokens": 1, "ignore_eos": True}
            for _ in range(5):
                self.assertEqual(w.post("/v1/completions", body)[0], 200)
            self.assertLess(w.metric("llorch_worker_loop_turns_slow_total"), 3, f"of five answers; slow is a turn above {TURN_MS_MAX} ms")

    def test_cached_tokens(self):
        long = [{"role": "user", "content": "Write a haiku about the " + "sea and the wind " * 30}]
        first = self.chat(messages=long, max_tokens=2, temperature=0)
        again = self.chat(messages=long, max_tokens=2, temperature=0)
        self.assertGreater(again.usage.prompt_tokens_details.cached_tokens, 0)
        self.assertEqual(first.choices[0].message.content, again.choices[0].message.content)
        other = self.chat(messages=long, max_tokens=2, temperature=0, prompt_cache_key="another")
        self.assertEqual(other.usage.prompt_tokens_details.cached_tokens, 0)

    def test_errors(self):
        for kind, code, fields in ((openai.BadRequestError, "context_length_exceeded", dict(messages=[{"role": "user", "content": "word " * 300}])), (openai.BadRequestError, "INVALID_REQUEST", dict(temperature=3)), (openai.BadRequestError, "INVALID_REQUEST", dict(n=33)), (openai.BadRequestError, "INVALID_REQUEST", dict(messages=[])),
                                   (openai.BadRequestError, "unsupported_value", dict(tools=[{"type": "function", "function": {"name": "x"}}])), (openai.BadRequestError, "unsupported_value", dict(response_format={"type": "yaml"})), (openai.BadRequestError, "unsupported_value", dict(store=True)), (openai.BadRequestError, "unsupported_value", dict(messages=[{"role": "narrator", "content": "x"}])),
                                   (openai.BadRequestError, "unsupported_value", dict(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/"}}]}])), (openai.BadRequestError, "INVALID_REQUEST", dict(logit_bias={"99999": 1})), (openai.BadRequestError, "INVALID_REQUEST", dict(top_logprobs=2)), (openai.BadRequestError, "INVALID_REQUEST", dict(extra_body={"chat_template_kwargs": {"messages": 1}}))):
            for stream in (False, True):
                with self.assertRaises(kind, msg=str(fields)) as e:
                    self.chat(stream=stream, **fields)
                self.assertEqual(e.exception.code, code, fields)
        self.assertEqual(self.chat(response_format={"type": "text"}, tools=[], tool_choice="none", service_tier="auto", user="me", metadata={"a": "b"}).object, "chat.completion")
        raw = self.c.chat.completions.with_raw_response.create(model="builtin:haiku", messages=USER, max_tokens=2, extra_body={"no_such_field": 1})
        self.assertEqual(raw.headers["X-Llorch-Ignored"], "no_such_field")
        over = self.c.completions.create(model="builtin:haiku", prompt="sea " * 300, max_tokens=5, extra_body={"truncation": "auto"})
        self.assertGreater(over.model_extra["truncation"]["dropped_tokens"], 0)

    def test_content_parts_and_no_prefix(self):
        parts = self.chat(temperature=0, messages=[{"role": "user", "content": [{"type": "text", "text": USER[0]["content"]}]}])
        self.assertEqual(parts.choices[0].message.content, self.chat(temperature=0).choices[0].message.content)
        with openai.OpenAI(base_url=self.w.url, api_key="x") as bare:
            self.assertTrue(bare.chat.completions.create(model="builtin:haiku", messages=USER, max_tokens=3).choices)

    def test_resumable_stream(self):
        _, headers, whole = self.w.post("/v1/chat/completions", dict(model="builtin:haiku", messages=USER, max_tokens=40, ignore_eos=True, seed=1, stream=True), {"X-Resumable": "1"})
        self.assertTrue(whole.endswith("data: [DONE]\n\n"))
        self.assertEqual(self.w.get(headers["X-Sse-Url"], {"Last-Event-ID": "7"})[2], whole[whole.index("id: 8\n"):])

    def test_a_limit_that_does_not_fit_is_what_fits(self):  # J-64
        for fields in ({"max_tokens": 100_000}, {"max_completion_tokens": 100_000}):
            choice = self.w.post("/v1/chat/completions", {"messages": USER, "ignore_eos": True, **fields})[2]
            self.assertEqual((choice["choices"][0]["finish_reason"], choice["usage"]["total_tokens"]), ("length", 256))
        end = self.w.generate(messages=USER, ignore_eos=True, max_tokens=2000)[-1][2]
        self.assertEqual((end["stop_reason"], end["tokens_in"] + end["tokens_out"], end["context"]), ("MAX_TOKENS", 256, 256))

    def test_idempotency(self):
        for stream in (False, True):
            ask = dict(model="builtin:haiku", messages=USER, max_tokens=20, temperature=1, stream=stream)  # no seed: a second run would differ
            key = {"Idempotency-Key": f"key-{stream}"}
            before = self.w.metric("llorch_worker_tokens_in_total")
            one, two = (self.w.post("/v1/chat/completions", ask, key) for _ in range(2))
            self.assertEqual(one[2], two[2])
            self.assertEqual(two[1]["Idempotent-Replayed"], "true")
            self.assertEqual(self.w.metric("llorch_worker_tokens_in_total") - before, 8)
            self.assertEqual(self.w.post("/v1/chat/completions", ask | {"max_tokens": 21}, key)[2]["error"]["code"], "IDEMPOTENCY_MISMATCH")
            refused = self.w.post("/v1/chat/completions", ask | {"n": 1000}, {"Idempotency-Key": f"other-{stream}"})
            self.assertEqual(refused[0], 400)
            self.assertEqual(self.w.post("/v1/chat/completions", ask, {"Idempotency-Key": f"other-{stream}"})[0], 200)

    def test_timeouts_and_retries(self):
        with Worker("--max-batch", "1", "--queue-capacity", "0") as w, openai.OpenAI(base_url=w.url + "/v1", api_key="x", max_retries=0) as c:
            ask = dict(model="builtin:haiku", messages=USER, max_tokens=200, extra_body={"ignore_eos": True})
            with self.assertRaises(openai.APITimeoutError):
                c.with_options(timeout=0.001).chat.completions.create(**ask)
            # The one place is free again when the worker has seen that this client left.
            wait_for(lambda: w.post("/v1/chat/completions", {"messages": USER, "max_tokens": 1})[0] == 200)
            busy = c.chat.completions.create(stream=True, **ask)
            try:
                c.chat.completions.create(**ask)
                refused = False  # the first was faster
            except openai.RateLimitError as e:
                refused = e.code == "QUEUE_FULL" and int(e.response.headers["Retry-After"]) >= 1
            self.assertTrue(refused)
            self.assertTrue(c.with_options(max_retries=5).chat.completions.create(**ask).choices)
            busy.close()

    def test_wrong_key(self):
        with Worker(local=False, env={"LLORCH_API_TOKEN": "0123456789abcdef"}) as w:
            pass  # healthy without a key
        w = Worker(local=False, env={"LLORCH_API_TOKEN": "0123456789abcdef"})
        with openai.OpenAI(base_url=w.url + "/v1", api_key="wrong-key", max_retries=0) as c, self.assertRaises(openai.AuthenticationError):
            c.models.list()
        with openai.OpenAI(base_url=w.url + "/v1", api_key="0123456789abcdef", max_retries=0) as c:
            self.assertTrue(c.models.list().data)
        w.stop()

    def test_a_model_without_template(self):
        if not STORIES.exists():
            self.skipTest(f"not run: {STORIES} is not there")
        with Worker(model=STORIES) as w, openai.OpenAI(base_url=w.url + "/v1", api_key="x", max_retries=0) as c:
            with self.assertRaises(openai.BadRequestError) as e:
                c.chat.completions.create(model=STORIES.name, messages=USER)
            self.assertEqual(e.exception.code, "CHAT_TEMPLATE_MISSING")
            self.assertTrue(c.completions.create(model=STORIES.name, prompt="Once upon a time", max_tokens=8, temperature=0).choices[0].text.startswith(", there was"))

ENCODER = DATA / "models/zoo/modernbert"


@unittest.skipUnless(ENCODER.exists(), "not run: needs shared/models/zoo")
class Encoder(unittest.TestCase):
    def test_a_model_that_gives_no_text_gives_the_mean_of_its_true_states(self):
        ids = json.loads((ENCODER / "ids.json").read_text())["40"]
        states = numpy.load(ENCODER / "logits-40.npy").astype(numpy.float64).mean(axis=0)
        for form in ("hf", "model-f32.gguf"):
            with self.subTest(form), Worker(model=ENCODER / form) as w:
                model = w.get("/v1/models")[2]["data"][0]["id"]
                status, _, answer = w.post("/v1/embeddings", {"model": model, "input": ids})
                self.assertEqual(status, 200, answer)
                numpy.testing.assert_allclose(answer["data"][0]["embedding"], states / numpy.linalg.norm(states), atol=1e-3)  # its cache is F16
                status, _, answer = w.post("/v1/completions", {"model": model, "prompt": "a", "max_tokens": 2})
                self.assertEqual((status, answer["error"]["type"]), (400, "invalid_request_error"))



if __name__ == "__main__":
    main()
