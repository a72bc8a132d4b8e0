"""What one key may not learn of another, nor have done: prompt caches, files, fetching, names (issue 15, numbers 7 and 8)."""
import json
import subprocess
import unittest

from colony import BIN, STORIES, Colony, listens, main, wait_for
from hub import Hub

TOKEN = "operator-token-0123456789"
ADMIN = {"Authorization": "Bearer " + TOKEN}


def key(c, name):
    made = subprocess.run([BIN / "llorch", "key", "create", "--json", "--name", name], capture_output=True, text=True, env=c.env, check=True).stdout
    return {"Authorization": "Bearer " + json.loads(made)["key"]}


def start(c, *flags):
    """A queen with an operator's token; two keys that may infer."""
    (c.home / "token").write_text(TOKEN)
    (c.home / "token").chmod(0o600)
    keys = key(c, "ann"), key(c, "bob")
    c.queen("--token-file", c.home / "token", "--keys-file", c.home / ".config/llorch/keys", *flags, local=False)
    return keys


class Keys(unittest.TestCase):
    def test_keys_and_the_audit_log_are_an_administrator_s(self):
        with Colony() as c:
            ann, _ = start(c, "--audit-log", str(c.home / "audit"))
            error = lambda answer: (answer[0], answer[2]["error"].get("param"))
            for method, path, body in (("GET", "/v1/keys", None), ("POST", "/v1/keys", {"name": "x"}), ("DELETE", "/v1/keys/bob", None), ("GET", "/v1/audit", None)):
                self.assertEqual(c.call(method, path, body, ann)[0], 403, path)
            self.assertEqual([k["name"] for k in c.call("GET", "/v1/keys", None, ADMIN)[2]["keys"]], ["ann", "bob"])
            made = c.call("POST", "/v1/keys", {"name": "cat", "scope": "infer,metrics"}, ADMIN)[2]
            self.assertEqual(set(made["scopes"].split(",")), {"infer", "metrics"})
            cat = {"Authorization": "Bearer " + made["key"]}
            self.assertEqual([c.call("GET", path, None, cat)[0] for path in ("/v1/status", "/metrics", "/v1/keys")], [200, 200, 403])
            self.assertNotIn(made["key"], json.dumps(c.call("GET", "/v1/keys", None, ADMIN)[2]))
            self.assertEqual(error(c.call("POST", "/v1/keys", {"name": "d", "scope": "root"}, ADMIN)), (400, "scope"))
            self.assertEqual(error(c.call("POST", "/v1/keys", {"name": "d", "colour": "red"}, ADMIN)), (400, "colour"))
            self.assertEqual(c.call("POST", "/v1/keys", {"name": "d\ne"}, ADMIN)[0], 400)
            self.assertEqual(c.call("DELETE", "/v1/keys/nobody", None, ADMIN)[0], 400)
            self.assertEqual(c.call("DELETE", "/v1/keys/cat", None, ADMIN)[2]["name"], "cat")
            self.assertEqual(c.call("GET", "/v1/status", None, cat)[0], 401)
            records = lambda: c.call("GET", "/v1/audit?lines=1000", None, ADMIN)[2]["records"]
            wait_for(lambda: {"token_created", "token_revoked"} <= {r["event"]["event_type"] for r in records()})  # they are written behind the answer's back
            self.assertNotIn(made["key"], json.dumps(records()))
            self.assertEqual(len(c.call("GET", "/v1/audit?lines=2", None, ADMIN)[2]["records"]), 2)
            for lines in ("0", "1001", "x", ""):
                self.assertEqual(error(c.call("GET", f"/v1/audit?lines={lines}", None, ADMIN)), (400, "lines"), lines)

    def test_a_queen_without_keys_says_so(self):
        with Colony() as c:
            c.queen("--no-own-hive")
            self.assertIn("--keys-file", c.call("GET", "/v1/keys")[2]["note"])
            self.assertIn("--audit-log", c.call("GET", "/v1/audit")[2]["note"])
            self.assertEqual([c.call(*call)[0] for call in (("POST", "/v1/keys", {"name": "x"}), ("DELETE", "/v1/keys/x"))], [404, 404])


class Caches(unittest.TestCase):
    def test_a_prompt_cache_is_never_shared_between_keys(self):
        text = " ".join(f"word{i}" for i in range(40))

        def native(who, **more):
            events = c.job({"operation": "infer", "model": "haiku", "prompt": text, "max_tokens": 1, **more}, who)
            self.assertEqual(events[-1][1], "end", events[-1])
            return events[-1][2]["cached_tokens"]

        def openai(path, **body):
            def ask(who, **more):
                status, _, answer = c.call("POST", path, {"model": "builtin:haiku", "max_tokens": 1, **body, **more}, who)
                self.assertEqual(status, 200, answer)
                return answer["usage"]["prompt_tokens_details"]["cached_tokens"]
            return ask

        with Colony() as c:
            ann, bob = start(c)
            c.job({"operation": "infer", "model": "haiku", "prompt": "x", "max_tokens": 1}, ADMIN)
            worker = c.call("GET", "/v1/status", None, ADMIN)[2]["workers"][0]["port"]
            routes = [native, openai("/v1/chat/completions", messages=[{"role": "user", "content": "chat " + text}]), openai("/v1/completions", prompt="completion " + text),
                      openai("/chat/completions", messages=[{"role": "user", "content": "too " + text}])]
            for ask in routes:
                self.assertEqual(ask(ann), 0)
                self.assertGreater(ask(ann), 0, "a key's own cache is used")
                self.assertEqual(ask(bob), 0, "what one key asked is told to another by its cache")
                self.assertGreater(ask(bob), 0)
                # What a client asks for parts its own caches further, and joins it to nobody's.
                self.assertEqual(ask(ann, cache_salt="s"), 0)
                self.assertEqual(ask(bob, cache_salt="s"), 0)
                self.assertGreater(ask(ann, cache_salt="s"), 0)
            for ask in routes[1:]:
                self.assertEqual(ask(ann, prompt_cache_key="k"), 0)
                self.assertEqual(ask(ann, prompt_cache_key="k", cache_salt="s"), 0, "one of them replaced the other")
                self.assertEqual(ask(bob, prompt_cache_key="k"), 0)
                self.assertGreater(ask(bob, prompt_cache_key="k"), 0)

            def hits():
                return next(line for line in c.call("GET", "/metrics", None, ADMIN, worker)[2].splitlines() if line.startswith("llorch_worker_prefix_cache_hits_total"))

            before = hits()
            embedded = "embedded " + text
            for _ in range(2):
                self.assertEqual(c.call("POST", "/v1/embeddings", {"model": "builtin:haiku", "input": embedded}, ann)[0], 200)
            self.assertEqual(hits(), before, "an embedding computes every state")
            self.assertEqual(openai("/v1/completions", prompt=embedded)(bob), 0, "what one key had embedded is told to another by its cache")
            for path, body in (("/v1/jobs", {"operation": "infer", "model": "haiku", "prompt": "x"}), ("/v1/completions", {"model": "builtin:haiku", "prompt": "x"})):
                status, _, answer = c.call("POST", path, body | {"cache_salt": 1}, ann)
                self.assertEqual((status, answer["error"]["code"]), (400, "INVALID_REQUEST"))


class Models(unittest.TestCase):
    def ask(self, c, model, who):
        """How asking for a model ends on every route: the same everywhere."""
        status, _, made = c.call("POST", "/v1/jobs", {"operation": "infer", "model": model, "prompt": "x", "raw": True, "max_tokens": 2}, who)
        ends = [made["error"] if status != 202 else None]
        for path, body in (("/v1/completions", {"prompt": "x"}), ("/v1/embeddings", {"input": "x"}), ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]})):
            status, _, answer = c.call("POST", path, {"model": model, **body}, who)
            ends.append(answer["error"] if status != 200 else None)
        return [e and (e["code"].upper(), e["message"], e.get("param")) for e in ends]

    def test_a_key_for_inference_opens_no_file_and_fetches_nothing(self):
        hub = Hub({"tiny-q4_0.gguf": STORIES.read_bytes() if STORIES.exists() else b"GGUF"})
        self.addCleanup(hub.close)
        with Colony(HF_ENDPOINT=hub.url) as c:
            ann, _ = start(c)
            self.assertEqual(c.job({"operation": "infer", "model": "haiku", "prompt": "x", "max_tokens": 2}, ann)[-1][1], "end")
            (c.home / "there.gguf").write_text("FIRST-BYTES-CANARY")
            answers = set()
            for model in ("file:/etc/shadow", f"file:{c.home}/there.gguf", f"file:{c.home}/not-there.gguf", f"{c.home}", "file:/dev/zero", "org/tiny", "hf:org/nothing@main", "no-such-alias", "builtin:nobody"):
                for answer in self.ask(c, model, ann):
                    self.assertIsNotNone(answer, model)
                    answers.add(answer)
            self.assertEqual(len(answers), 1, answers)
            self.assertEqual(next(iter(answers))[0], "MODEL_NOT_FOUND")
            self.assertEqual(hub.log, [], "a hub was asked for a key that may not fetch")
            for order in ({"operation": "model_download", "model": "org/tiny"}, {"operation": "model_alias", "name": "mine", "model": "org/tiny"}, {"operation": "model_load", "model": "org/tiny"}):
                self.assertEqual(c.call("POST", "/v1/jobs", order, ann)[0], 403)
            status, _, text = c.call("GET", f"/v1/memory-check?model=file:{c.home}/there.gguf&device=cpu&allow=none", None, ADMIN, c.hive_port)
            self.assertEqual((status, text["error"]["code"].upper()), (404, "MODEL_NOT_FOUND"), "the hive opens what the queen did not allow")
            end = c.job({"operation": "worker_spawn", "model": f"file:{c.home}/there.gguf", "allow": "none"}, ADMIN, c.hive_port)[-1][2]
            self.assertEqual(end["code"].upper(), "MODEL_NOT_FOUND")

    def test_a_memory_check_gives_figures_to_the_operator_alone(self):
        with Colony() as c:
            c.env.pop("LLORCH_QUEEN_URL", None)
            (c.home / "token").write_text(TOKEN)
            (c.home / "token").chmod(0o600)
            ann = key(c, "ann")
            c.start(BIN / "llorch-hive", "--token-file", c.home / "token", "--keys-file", c.home / ".config/llorch/keys", "--port", c.hive_port, "--data-dir", c.home / "h", "--memory-limit-mb", "1")
            wait_for(lambda: listens(c.hive_port))
            check = lambda who: c.call("GET", "/v1/memory-check?model=builtin:haiku", None, who, c.hive_port)
            status, _, body = check(ADMIN)
            self.assertEqual((status, body["error"]["code"]), (503, "INSUFFICIENT_MEMORY"))
            self.assertGreater(body["error"]["details"]["room_bytes"], 0)
            status, _, body = check(ann)
            self.assertEqual((status, body["error"]["code"]), (503, "INSUFFICIENT_MEMORY"))
            self.assertFalse(body["error"].get("details"))
            self.assertNotRegex(body["error"]["message"], r"\d")

    @unittest.skipUnless(STORIES.exists(), "not run: needs shared/models")
    def test_what_is_there_may_be_used(self):
        hub = Hub({"tiny-q4_0.gguf": STORIES.read_bytes()})
        self.addCleanup(hub.close)
        ok = [None, None, None]

        with Colony(HF_ENDPOINT=hub.url) as c:
            ann, _ = start(c)

            def usable(model):  # not chat: the model has no template
                return self.ask(c, model, ann)[:3]

            c.job({"operation": "infer", "model": "haiku", "prompt": "x", "max_tokens": 2}, ADMIN)
            self.assertEqual(c.job({"operation": "model_download", "model": "org/tiny"}, ADMIN)[-1][1], "end")
            transfers = len(hub.transfers())
            self.assertEqual(wait_for(lambda: (u := usable("org/tiny")) == ok and u), ok)
            self.assertEqual(len(hub.transfers()), transfers)
            self.assertEqual(usable("tiny")[0][0], "MODEL_NOT_FOUND", "a key for inference has left a name behind")
            self.assertEqual(c.job({"operation": "infer", "model": "org/tiny", "prompt": "x", "raw": True, "max_tokens": 2}, ADMIN)[-1][1], "end")
            self.assertEqual(usable("tiny"), ok)
            path = f"file:{STORIES.resolve()}"
            self.assertEqual(usable(path)[0][0], "MODEL_NOT_FOUND")
            self.assertEqual(c.job({"operation": "model_alias", "name": "stories", "model": path}, ADMIN)[-1][1], "end")
            self.assertEqual((usable("stories"), usable(path)), (ok, ok), "the operator has named it")

        with Colony(HF_ENDPOINT=hub.url) as c:
            ann, _ = start(c, "--infer-may-fetch")
            self.assertEqual(usable("org/tiny"), ok)
            self.assertEqual(usable(path)[0][0], "MODEL_NOT_FOUND", "the setting is for fetching")


if __name__ == "__main__":
    main()
