"""What models there are: listed from the first second, under all their names, with what they need; found by every name that a list gives, told where a
name is nearly right, fetched again where a file has gone, and refused with the reason where they cannot be loaded."""
import contextlib
import json
import shutil
import sqlite3
import unittest
import urllib.parse

import openai

from colony import STORIES, Colony, main, not_run, wait_for
from fleet import GIB, Machine
from hub import Hub

MODEL = STORIES.read_bytes() if STORIES.exists() else b""
TINY = "hf:org/tiny@main"


def listed(c):
    return {m["id"]: m for m in c.call("GET", "/v1/models")[2]["data"]}


class Names(unittest.TestCase):
    def test_a_name_is_given_listed_found_and_taken_back(self):
        with Colony() as c:
            c.queen()
            made = c.job({"operation": "model_alias", "name": "poet", "model": "builtin:haiku"})
            self.assertEqual(made[-1][1], "end", made)
            self.assertEqual(c.call("GET", "/v1/aliases")[2], {"aliases": {"haiku": "builtin:haiku", "poet": "builtin:haiku"}})
            self.assertEqual(listed(c)["builtin:haiku"]["aliases"], ["haiku", "poet"])
            self.assertEqual(c.call("GET", "/v1/models/poet")[2]["id"], "builtin:haiku")
            self.assertEqual([line.split() for line in c.keeper("model", "alias").stdout.splitlines()], [["name", "ref"], ["haiku", "builtin:haiku"], ["poet", "builtin:haiku"]])
            self.assertIn("poet", c.keeper("model", "list").stdout)
            told = c.job({"operation": "model_alias", "name": "poet", "model": "org/other"})
            self.assertTrue(any("poet means hf:org/other@main from now on, and no longer builtin:haiku" in d.get("human", "") for _, _, d in told), told)
            self.assertEqual(listed(c)["hf:org/other@main"]["meta"]["state"], "not_downloaded")
            status, _, body = c.call("POST", "/v1/jobs", {"operation": "model_alias", "name": "haiku", "model": "org/other"})
            self.assertEqual((status, body["error"]["param"]), (400, "name"), body)
            self.assertIn("'haiku' is the name of builtin:haiku", body["error"]["message"])
            status, _, body = c.call("DELETE", "/v1/aliases/poe")
            self.assertEqual((status, "did you mean 'poet'?" in body["error"]["message"]), (404, True), body)
            self.assertEqual(c.call("DELETE", "/v1/aliases/haiku")[0], 400)
            r = c.keeper("model", "alias", "poet", "--delete")
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertNotIn("poet", c.call("GET", "/v1/aliases")[2]["aliases"])
            self.assertEqual(c.call("GET", "/v1/models/poet")[0], 404)
            self.assertIn("did you mean", c.keeper("model", "alias", "haik").stderr)

    def test_a_name_that_cannot_be_kept_is_told(self):
        """And means what it meant before."""
        named = {"haiku": "builtin:haiku", "poet": "builtin:haiku"}
        with Colony() as c:
            c.queen()
            order = {"operation": "model_alias", "name": "poet", "model": "builtin:haiku"}
            self.assertEqual(c.job(order)[-1][1], "end")
            with contextlib.closing(sqlite3.connect(c.home / ".local/share/llorch/queen.db", timeout=20)) as db:
                db.execute("ALTER TABLE aliases RENAME TO away")
                for change in ({"name": "bard"}, {"model": "org/other"}):
                    told = c.job(order | change)
                    self.assertEqual((told[-1][1], "aliases" in told[-1][2].get("message", "")), ("error", True), told)
                    self.assertEqual(c.call("GET", "/v1/aliases")[2]["aliases"], named, change)
                self.assertEqual(c.call("DELETE", "/v1/aliases/poet")[0], 500)
                self.assertEqual(c.call("GET", "/v1/aliases")[2]["aliases"], named)
                db.execute("ALTER TABLE away RENAME TO aliases")
            self.assertEqual(c.call("DELETE", "/v1/aliases/poet")[0], 200)

    def test_a_name_that_is_nearly_right_is_told(self):
        with Colony() as c:
            c.queen()
            c.job({"operation": "model_alias", "name": "smollm2", "model": "builtin:haiku"})
            for typed, meant in (("smoll2", "smollm2"), ("SmolLM2", "smollm2"), ("haiku2", "haiku"), ("builtin:haikus", "builtin:haiku")):
                status, _, body = c.call("POST", "/v1/chat/completions", {"model": typed, "messages": [{"role": "user", "content": "x"}]})
                self.assertEqual((status, body["error"]["code"]), (404, "model_not_found"), body)
                self.assertIn(f"there is no model '{typed}': did you mean '{meant}'?", body["error"]["message"])
            r = c.keeper("run", "smoll2", "x")
            self.assertIn("did you mean 'smollm2'?", r.stderr)

    def test_every_id_of_the_list_is_found(self):
        """As clients spell it: OpenAI's escapes slashes, others do not."""
        with Colony() as c:
            c.queen()
            for model in ("org/other:Q4_K_M", "file:/models/a b+c%41.gguf"):
                c.job({"operation": "model_alias", "name": f"m{len(model)}", "model": model})
            client = openai.OpenAI(base_url=c.url + "/v1", api_key="-")
            ids = [m.id for m in client.models.list()]
            self.assertEqual(len(ids), 3, ids)
            for one in ids:
                self.assertEqual(client.models.retrieve(one).id, one)
                for spelled in (urllib.parse.quote(one, safe=""), urllib.parse.quote(one, safe="/:@"), urllib.parse.quote(one, safe="/")):
                    self.assertEqual(c.call("GET", "/v1/models/" + spelled)[2].get("id"), one, spelled)
            for bad in ("/v1%2Fmodels", "/v1/models%2Fhaiku", "/v1/models/a%2F..%2Fb", "/v1/models/a//b"):
                self.assertEqual(c.call("GET", bad)[0], 400, bad)
            c.infer(max_tokens=2)
            [worker] = c.call("GET", "/v1/status")[2]["workers"]
            own = openai.OpenAI(base_url=f"http://127.0.0.1:{worker['port']}/v1", api_key="-")
            for m in own.models.list():
                self.assertEqual(own.models.retrieve(m.id).id, m.id)


class Sized(Machine):
    """A machine of 64 GiB whose model needs so many bytes; 0: it does not say."""

    def __init__(self, name, needed):
        super().__init__(name, models=[TINY])
        self.needed = needed

    def reply(self, path):
        told = super().reply(path)
        for m in told.get("models", []) if path == "/v1/capabilities" else []:
            m |= {"needed_bytes": self.needed} if self.needed else {}
        return told


class Told(unittest.TestCase):
    def test_a_need_that_is_not_known_fits_nowhere(self):
        with Colony() as c:
            c.queen()
            for name, needed in (("a", 900 * GIB), ("b", 0)):
                machine = Sized(name, needed)
                self.addCleanup(machine.close)
                self.addCleanup(machine.lost.set)
                machine.live(c)
            m = wait_for(lambda: (m := listed(c).get(TINY)) and m["meta"]["hives"] == ["a", "b"] and m)
            self.assertEqual((m["meta"]["needed_bytes"], m["meta"]["fits"]), (900 * GIB, False))

    def test_what_has_failed_on_a_hive_that_is_offline_is_not_there(self):
        with Colony() as c:
            queen = c.queen()
            c.infer(max_tokens=2)  # its hive is known
            queen.terminate()
            queen.wait(20)
            kept = [{"id": "tiny", "ref": TINY, "name": "tiny", "size_bytes": 0, "quant": "", "status": "Failed", "error": "no"}]
            with contextlib.closing(sqlite3.connect(c.home / ".local/share/llorch/queen.db", timeout=20)) as db, db:
                self.assertEqual(db.execute("UPDATE hives SET models_json = ?", (json.dumps(kept),)).rowcount, 1)
            c.queen()
            self.assertEqual(list(listed(c)), ["builtin:haiku"])


@unittest.skipUnless(MODEL, "the test data is not there")
class Listed(unittest.TestCase):
    def setUp(self):
        self.hub = Hub({"tiny-q4_0.gguf": MODEL})
        self.addCleanup(self.hub.close)

    def test_what_is_there_is_told_from_the_first_second(self):
        with Colony(HF_ENDPOINT=self.hub.url) as c:
            queen = c.queen()
            self.assertEqual(list(listed(c)), ["builtin:haiku"])
            self.assertEqual(c.job({"operation": "infer", "model": "org/tiny", "prompt": "Once", "raw": True, "max_tokens": 2})[-1][1], "end")

            def loaded():
                m = listed(c)[TINY]
                return m if m["meta"]["state"] == "loaded" and m["meta"].get("needed_bytes") and m["meta"].get("context") else None

            m = wait_for(loaded, 15)
            self.assertEqual((m["aliases"], m["meta"]["quant"], m["meta"]["size_bytes"], m["meta"]["fits"]), (["tiny"], "Q4_0", len(MODEL), True))
            self.assertEqual(m["meta"]["context"], m["meta"]["model_context"])  # 512: the model's own
            self.assertGreater(m["meta"]["needed_bytes"], len(MODEL))
            row = next(line for line in c.keeper("model", "list").stdout.splitlines() if TINY in line)
            for word in ("tiny", "Q4_0", "loaded", "yes"):
                self.assertIn(word, row)
            c.job({"operation": "model_unload", "model": "tiny"})
            wait_for(lambda: listed(c)[TINY]["meta"]["state"] == "Available")
            self.assertIn("downloaded", c.keeper("model", "list").stdout)
            queen.terminate()
            queen.wait(20)
            c.queen()
            m = listed(c)[TINY]  # her hive sleeps
            self.assertEqual((m["meta"]["state"], m["aliases"], m["meta"]["quant"], m["meta"]["size_bytes"]), ("asleep", ["tiny"], "Q4_0", len(MODEL)))

    def test_a_name_that_a_download_gives_and_that_cannot_be_kept_is_logged(self):
        with Colony(HF_ENDPOINT=self.hub.url) as c:
            c.queen()
            self.assertEqual(c.job({"operation": "model_alias", "name": "poet", "model": "haiku"})[-1][1], "end")  # the catalog is written
            with contextlib.closing(sqlite3.connect(c.home / ".local/share/llorch/queen.db", timeout=20)) as db:
                db.execute("ALTER TABLE aliases RENAME TO away")
            self.assertEqual(c.job({"operation": "infer", "model": "org/tiny", "prompt": "Once", "raw": True, "max_tokens": 2})[-1][1], "end")
            c.wait_logged("queen", "the name tiny cannot be kept: .*aliases")
            self.assertEqual(c.call("GET", "/v1/aliases")[2]["aliases"], {"haiku": "builtin:haiku", "poet": "builtin:haiku"})

    def test_a_file_that_has_gone_is_fetched_again_or_named(self):
        ask = {"operation": "infer", "prompt": "Once", "raw": True, "max_tokens": 2}
        with Colony(HF_ENDPOINT=self.hub.url) as c:
            c.queen()
            mine = c.home / "mine.gguf"
            shutil.copy(STORIES, mine)
            for model in ("org/tiny", str(mine)):
                self.assertEqual(c.job(ask | {"model": model})[-1][1], "end")
                c.job({"operation": "model_unload", "model": model})
            wait_for(lambda: not c.call("GET", "/v1/status")[2]["workers"])
            fetched = len(self.hub.transfers())
            shutil.rmtree(c.home / ".cache/huggingface/hub/models--org--tiny")
            mine.unlink()
            events = c.job(ask | {"model": "org/tiny"})
            self.assertEqual((events[-1][1], len(self.hub.transfers())), ("end", fetched + 1), events[-1])
            events = c.job(ask | {"model": str(mine)})
            self.assertEqual((events[-1][1], events[-1][2]["code"]), ("error", "model_not_found"), events[-1])
            self.assertIn(str(mine), events[-1][2]["message"])


@unittest.skipUnless(MODEL, "the test data is not there")
class Refused(unittest.TestCase):
    """By the reason, at once, with status 400: no other machine could load them either."""

    def refusal(self, c, model):
        status, _, body = c.call("POST", "/v1/chat/completions", {"model": str(model), "messages": [{"role": "user", "content": "x"}]})
        self.assertEqual((status, body["error"]["code"]), (400, "MODEL_LOAD_FAILED"), body)
        r = c.keeper("run", model, "x")
        self.assertEqual(r.returncode, 1)
        self.assertIn("MODEL_LOAD_FAILED", r.stderr)
        self.assertIn(body["error"]["message"], r.stderr)
        return body["error"]["message"]

    def test_files_that_cannot_be_loaded_say_why(self):
        other = MODEL.replace(b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llama", b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0mamba")
        with Colony() as c:
            c.queen()
            files = {"other.gguf": other, "cut.gguf": MODEL[:-1000], "text.gguf": b"<html>not a model</html>" * 100}
            for name, data in files.items():
                (c.home / name).write_bytes(data)
            told = {name: self.refusal(c, c.home / name) for name in files}
            self.assertIn("architecture 'mamba' is not supported", told["other.gguf"])
            self.assertRegex(told["cut.gguf"], rf"the file is cut off: it has {len(MODEL) - 1000} bytes, and tensor '[\w.]+' ends at byte {len(MODEL)}")
            self.assertIn("not a GGUF file", told["text.gguf"])

    def test_one_of_a_registry_is_refused_before_it_is_fetched(self):
        other = MODEL.replace(b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llama", b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0mamba")
        hub = Hub({"tiny-q4_0.gguf": other})
        self.addCleanup(hub.close)
        with Colony(HF_ENDPOINT=hub.url) as c:
            c.queen()
            self.assertIn("architecture 'mamba' is not supported", self.refusal(c, "org/tiny"))
            self.assertEqual(hub.transfers(), [])


if not MODEL:
    not_run(f"{STORIES} is not there")
if __name__ == "__main__":
    main()
