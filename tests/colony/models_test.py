"""Models that must be fetched first: a server that speaks the Hugging Face endpoints, whole, slow, cut off, lying (H-20 to H-23)."""
import hashlib
import json
import os
import pathlib
import shutil
import sqlite3
import tempfile
import threading
import time
import unittest

import gguf

from colony import BIN, SANITIZED, STORIES, Colony, free_port, listens, main, narrations, not_run, parse_sse, wait_for
from hub import COMMIT, Hub

MODEL = STORIES.read_bytes() if STORIES.exists() else b""


if not MODEL:
    print(f"not run: downloads need {STORIES}, which is not there")


def split_gguf(path, count, template=None):
    """The file as the bytes of so many, written by the `gguf` package as the ecosystem splits them: tensors in turn, keys in the first."""
    reader = gguf.GGUFReader(path)
    tensors, parts = list(reader.tensors), []
    for number in range(count):
        with tempfile.TemporaryDirectory() as d:
            writer = gguf.GGUFWriter(pathlib.Path(d) / "part.gguf", reader.get_field("general.architecture").contents())
            for key, field in reader.fields.items():
                if number == 0 and not key.startswith("GGUF.") and key != "general.architecture":
                    kind, item = field.types[0], field.types[-1] if len(field.types) > 1 else None
                    writer.add_key_value(key, field.contents(), kind, item)
            if template:
                writer.add_chat_template(template)
            writer.add_uint16("split.no", number)
            writer.add_uint16("split.count", count)
            writer.add_int32("split.tensors.count", len(tensors))
            for t in tensors[number * len(tensors) // count : (number + 1) * len(tensors) // count]:
                writer.add_tensor(t.name, t.data, raw_dtype=t.tensor_type)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
            parts.append((pathlib.Path(d) / "part.gguf").read_bytes())
    return parts


@unittest.skipUnless(MODEL, "the test data is not there")
class Models(unittest.TestCase):
    def colony(self, hub, **more):
        return Colony(HF_ENDPOINT=hub.url, HF_TOKEN="hf-secret-token-canary", **more)

    def setUp(self):
        self.hub = Hub({"tiny-q4_0.gguf": MODEL, "tiny-f16.gguf": b"other"})
        self.addCleanup(self.hub.close)

    def cached(self, c):
        return c.home / ".cache/huggingface/hub/models--org--tiny"

    def test_what_a_model_is_for_is_known_before_it_is_loaded(self):
        self.hub.files["chat-q4_0.gguf"] = split_gguf(STORIES, 1, template="{% for m in messages %}{{ m.content }}{% endfor %}")[0]
        expected = {"hf:org/tiny@main:tiny-q4_0.gguf": ["text-gen", "embedding"], "hf:org/tiny@main:chat-q4_0.gguf": ["text-gen", "chat", "embedding"]}
        told = lambda c: {m["id"]: m["meta"].get("capabilities") for m in c.call("GET", "/v1/status")[2]["models"] if m["id"] in expected}
        with self.colony(self.hub) as c:
            queen = c.queen()
            for model in expected:
                self.assertEqual(c.job({"operation": "model_download", "model": model})[-1][1], "end")
            wait_for(lambda: told(c) == expected)
            queen.terminate()
            queen.wait(20)
            c.queen()
            c.infer()  # her hive is there again
            wait_for(lambda: told(c) == expected, 10)
            encoder = pathlib.Path(".test-models/all-minilm-l6-v2").absolute()
            if not encoder.exists():
                return not_run(f"no {encoder}")
            self.assertEqual(c.job({"operation": "model_load", "model": f"file:{encoder}"})[-1][1], "end")
            loaded = [m["meta"]["capabilities"] for m in c.call("GET", "/v1/status")[2]["models"] if m["id"] == f"file:{encoder}"]
            self.assertEqual(loaded, [["embedding"]])

    def test_run_fetches_tells_and_keeps_the_cache_layout(self):
        self.hub.rate = 600_000
        with self.colony(self.hub) as c:
            r = c.keeper("run", "org/tiny", "Once upon a time", "--raw", "--max-tokens", "12", "--temperature", "0")
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertIn("there was a little girl", r.stdout)
            lines = narrations(r.stderr)
            progress = [line for line in lines if " of 1.19 MB, " in line and " %, " in line]
            self.assertTrue(progress, "total, percent, speed and seconds are told")
            self.assertTrue(any("fetching" in line for line in lines))
            base = self.cached(c)
            digest = hashlib.sha256(MODEL).hexdigest()
            self.assertEqual((base / "blobs" / digest).read_bytes(), MODEL)
            self.assertEqual((base / f"snapshots/{COMMIT}/tiny-q4_0.gguf").resolve(), (base / "blobs" / digest).resolve())
            self.assertEqual((base / "refs/main").read_text(), COMMIT)
            transfers = len(self.hub.transfers())
            # Known now, under its short name too, and not fetched again.
            r = c.keeper("run", "tiny", "Once upon a time", "--raw", "--max-tokens", "3", "--quiet")
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertEqual(len(self.hub.transfers()), transfers)
            c.assert_nothing_left()
            db = sqlite3.connect(c.home / ".local/share/llorch/hive/hive.db")
            self.assertEqual(db.execute("SELECT ref, status, sha256, size_bytes FROM models").fetchall(), [("hf:org/tiny@main", "Available", digest, len(MODEL))])
            db.close()
            for f in c.home.rglob("*"):
                if f.is_file():
                    self.assertNotIn(b"hf-secret-token-canary", f.read_bytes(), f)

    def test_a_split_model_is_fetched_whole_and_goes_whole(self):  # cases/api.md 57
        parts = split_gguf(STORIES, 3)
        names = [f"tiny-q8_0-{i + 1:05}-of-{len(parts):05}.gguf" for i in range(len(parts))]
        hub = Hub(dict(reversed(list(zip(names, parts)))))  # a listing in another order
        self.addCleanup(hub.close)
        with self.colony(hub) as c:
            r = c.keeper("run", "org/tiny:q8_0", "Once upon a time", "--raw", "--max-tokens", "12", "--temperature", "0")
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertIn("there was a little girl", r.stdout)
            base = self.cached(c)
            for name, data in zip(names, parts):
                self.assertEqual((base / f"snapshots/{COMMIT}/{name}").read_bytes(), data)
            told = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in zip(names, parts))
            c.assert_nothing_left()
            db = sqlite3.connect(c.home / ".local/share/llorch/hive/hive.db")
            self.assertEqual(db.execute("SELECT sha256, size_bytes FROM models").fetchall(), [(hashlib.sha256(told.encode()).hexdigest(), sum(map(len, parts)))])
            db.close()
            # What is there counts after a restart, too.
            fetched = len(hub.transfers())
            r = c.keeper("run", "org/tiny:q8_0", "Once upon a time", "--raw", "--max-tokens", "3", "--quiet")
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertEqual(len(hub.transfers()), fetched)
            # One changed part is noticed: the model is not served as it was, until it is fetched again.
            changed = (base / f"snapshots/{COMMIT}/{names[1]}").resolve()
            changed.write_bytes(changed.read_bytes()[:-1] + b"\x7f")
            ask = ("run", "org/tiny:q8_0", "Once upon a time", "--raw", "--max-tokens", "12", "--temperature", "0")
            self.assertEqual(c.keeper(*ask).returncode, 1)
            r = c.keeper("model", "download", "org/tiny:q8_0")
            self.assertEqual((r.returncode, len(hub.transfers())), (0, fetched + 1), r.stderr)
            r = c.keeper(*ask)
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertIn("there was a little girl", r.stdout)
            r = c.keeper("model", "delete", "org/tiny:q8_0")
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertEqual([p.name for p in base.rglob("*") if p.is_file() and p.name != "main"], [])

    def test_a_family_that_is_not_supported_is_told_before_it_is_fetched(self):
        data = MODEL.replace(b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0llama", b"general.architecture\x08\0\0\0\x05\0\0\0\0\0\0\0mamba")
        self.assertNotEqual(data, MODEL)
        hub = Hub({"tiny-q4_0.gguf": data})
        self.addCleanup(hub.close)
        with self.colony(hub) as c:
            r = c.keeper("run", "org/tiny", "Once")
            self.assertEqual(r.returncode, 1, r.stderr)
            self.assertIn("MODEL_LOAD_FAILED", r.stderr)
            self.assertIn("'mamba' is not supported", r.stderr)
            self.assertEqual(hub.transfers(), [])

    def test_a_part_that_the_server_lacks_is_told(self):
        parts = split_gguf(STORIES, 2)
        hub = Hub({"tiny-q8_0-00001-of-00002.gguf": parts[0]})
        self.addCleanup(hub.close)
        with self.colony(hub) as c:
            r = c.keeper("run", "org/tiny:q8_0", "Once")
            self.assertEqual(r.returncode, 1, r.stderr)
            self.assertIn("lacks part 2 of the 2 parts", r.stderr)
            self.assertEqual(hub.transfers(), [])

    def test_a_transfer_is_watched_beside_its_job(self):
        self.hub.rate = 400_000
        with self.colony(self.hub) as c:
            c.queen()
            c.infer()
            ref = "hf:org/tiny@main:Q4_0"
            self.assertEqual(c.call("GET", f"/v1/models/download/progress?id={ref}", None, None, c.hive_port)[0], 404)
            made = c.call("POST", "/v1/jobs", {"operation": "model_download", "model": ref})[2]
            wait_for(lambda: self.hub.transfers())
            watched = []
            watcher = threading.Thread(target=lambda: watched.append(c.call("GET", f"/v1/models/download/progress?id={ref}", None, None, c.hive_port)[2]))
            watcher.start()
            events, done = parse_sse(c.call("GET", made["sse_url"])[2])
            self.assertEqual((done, events[-1][1]), (True, "end"))
            watcher.join(10)
            seen = [json.loads(line[6:]) for line in watched[0].splitlines() if line.startswith("data: {")]
            self.assertTrue(watched[0].rstrip().endswith("data: [DONE]"), watched)
            self.assertEqual(seen[-1]["stage"], "complete")
            self.assertEqual(os.path.getsize(seen[-1]["local_path"]), len(MODEL))
            counts = [s["bytes_downloaded"] for s in seen[:-1]]
            self.assertTrue(counts and counts == sorted(counts), seen)
            self.assertEqual({s["bytes_total"] for s in seen[:-1]}, {len(MODEL)})

    def test_many_askers_one_transfer_and_a_cut_transfer_is_resumed(self):
        self.hub.cut_after = [200_000, 300_000]
        self.hub.rate = 2_000_000
        with self.colony(self.hub) as c:
            c.queen()
            c.infer()
            results = []
            askers = [threading.Thread(target=lambda: results.append(c.job({"operation": "model_download", "model": "org/tiny:Q4_0"}))) for _ in range(4)]
            for t in askers:
                t.start()
            for t in askers:
                t.join()
            for events in results:
                self.assertEqual(events[-1][1], "end", events[-1])
                self.assertEqual([e for e in events if e[1] == "result"][0][2]["result"]["size_bytes"], len(MODEL))
            ranges = [r for _, _, r, _, _ in self.hub.transfers()]
            self.assertEqual(len(ranges), 3, "one transfer, cut off twice")
            self.assertIsNone(ranges[0])
            self.assertTrue(all(r and r.startswith("bytes=") and r != "bytes=0-" for r in ranges[1:]), ranges)

    def test_other_bytes_than_promised_are_refused(self):
        self.hub.lie = True
        with self.colony(self.hub) as c:
            c.queen()
            c.infer()
            events = c.job({"operation": "model_download", "model": "org/tiny"})
            self.assertEqual((events[-1][1], events[-1][2]["code"]), ("error", "DOWNLOAD_FAILED"))
            self.assertFalse(list(self.cached(c).glob("blobs/*")))
            self.assertNotIn("Available", json.dumps([m for m in c.call("GET", "/v1/status")[2]["models"] if "tiny" in m["id"]]))

    def test_a_fetched_file_that_was_changed_is_not_served(self):
        with self.colony(self.hub) as c:
            c.queen()
            c.infer()
            self.assertEqual(c.job({"operation": "model_download", "model": "org/tiny"})[-1][1], "end")
            ask = {"operation": "infer", "model": "org/tiny", "prompt": "Once", "raw": True, "max_tokens": 2}
            self.assertEqual(c.job(ask)[-1][1], "end")
            args = lambda: [p for p in pathlib.Path("/proc").glob("[0-9]*/cmdline") if b"tiny-q4_0.gguf" in p.read_bytes()]
            self.assertNotIn(b"--manifest", args()[0].read_bytes(), "untouched since its hash was found: not hashed again")
            stop = lambda: [c.job({"operation": "worker_process_delete", "pid": w["pid"]}) for w in c.call("GET", "/v1/status")[2]["workers"] if "tiny" in w["model_ref"]]
            stop()
            blob = self.cached(c) / "blobs" / hashlib.sha256(MODEL).hexdigest()
            blob.write_bytes(MODEL)  # touched, but the same
            self.assertEqual(c.job(ask)[-1][1], "end")
            self.assertIn(b"--manifest", args()[0].read_bytes())
            stop()
            blob.write_bytes(MODEL[:-5] + bytes([MODEL[-5] ^ 1]) + MODEL[-4:])
            events = c.job(ask)
            self.assertEqual(events[-1][1], "error", events[-1])
            logs = "".join(f.read_text() for f in (c.home / ".local").rglob("*.log"))
            self.assertIn("is not what it should be", logs)
            # Fetched once more, it is whole again.
            self.assertEqual(c.job({"operation": "model_download", "model": "org/tiny"})[-1][1], "end")
            self.assertEqual(blob.read_bytes(), MODEL)
            self.assertEqual(c.job(ask)[-1][1], "end")

    def test_a_transfer_of_ninety_seconds_arrives(self):  # T-61: nothing but silence ends one
        if SANITIZED:
            return not_run("a minute and a half, once is enough")
        self.hub.rate = len(MODEL) / 92
        with self.colony(self.hub) as c:
            c.queen()
            c.infer()
            started = time.monotonic()
            events = c.job({"operation": "model_download", "model": "org/tiny"})
            self.assertEqual(events[-1][1], "end", events[-1])
            self.assertGreater(time.monotonic() - started, 88)
            self.assertEqual((self.cached(c) / "blobs" / hashlib.sha256(MODEL).hexdigest()).read_bytes(), MODEL)

    def two_hives(self, c):
        """Of one cache."""
        c.queen()
        hives = {name: c.hive(name, free_port()) for name in ("ant", "bee")}
        wait_for(lambda: {h["id"] for h in c.call("GET", "/v1/status")[2]["hives"] if h["known"]} == set(hives), 15)
        return hives

    def fetch(self, c, hive, ends):
        ends[hive] = c.job({"operation": "model_download", "model": "org/tiny:tiny-q4_0.gguf", "hive_id": hive})[-1]

    def fetches(self):
        """Where the transfers of the file's bytes began."""
        return [r for method, path, r, *_ in self.hub.transfers() if path.endswith("tiny-q4_0.gguf")]

    def assert_cached(self, c):
        blobs = self.cached(c) / "blobs"
        self.assertEqual({p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in blobs.iterdir()}, {hashlib.sha256(MODEL).hexdigest(): hashlib.sha256(MODEL).hexdigest()})

    def test_two_hives_of_one_cache_fetch_a_file_once(self):
        self.hub.rate = 600_000
        with self.colony(self.hub) as c:
            self.two_hives(c)
            ends = {}
            threads = [threading.Thread(target=self.fetch, args=(c, hive, ends)) for hive in ("ant", "bee")]
            [t.start() for t in threads], [t.join() for t in threads]
            self.assertEqual({hive: end[1] for hive, end in ends.items()}, {"ant": "end", "bee": "end"}, ends)
            self.assertEqual(self.fetches(), [None])
            self.assert_cached(c)

    def test_who_waits_for_another_hive_goes_on_when_that_is_killed(self):
        self.hub.rate = 300_000
        with self.colony(self.hub) as c:
            hives, ends = self.two_hives(c), {}
            threads = [threading.Thread(target=self.fetch, args=(c, hive, ends)) for hive in ("ant", "bee")]
            threads[0].start()
            wait_for(lambda: any(p.stat().st_size > 100_000 for p in self.cached(c).glob("blobs/*.incomplete")))
            threads[1].start()
            c.wait_logged("bee", "fetching hf:org/tiny")
            hives["ant"].kill()
            [t.join() for t in threads]
            self.assertEqual((ends["ant"][1], ends["bee"][1]), ("error", "end"), ends)
            self.assertEqual(len(self.fetches()), 2)
            self.assertRegex(self.fetches()[1], "bytes=[1-9]")  # it went on where the first one was
            self.assert_cached(c)

    def test_redirects_go_only_where_they_may_and_without_the_token(self):
        other = Hub({"tiny-q4_0.gguf": MODEL})
        self.addCleanup(other.close)
        self.hub.redirect_to = other.url
        with self.colony(self.hub) as c:  # another address of this machine is not to be reached through a redirect
            c.queen()
            c.infer()
            events = c.job({"operation": "model_download", "model": "org/tiny"}, port=c.hive_port)
            self.assertEqual((events[-1][1], events[-1][2]["code"]), ("error", "DOWNLOAD_FAILED"))
            self.assertFalse(other.log)
        with self.colony(self.hub, LLORCH_DOWNLOAD_HOSTS=f"127.0.0.1:{other.port}") as c:
            c.queen()
            c.infer()
            events = c.job({"operation": "model_download", "model": "org/tiny"})
            self.assertEqual(events[-1][1], "end", events[-1])
            self.assertTrue(other.log)
            self.assertTrue(all(authorization is None for _, _, _, authorization, _ in other.log))
            self.assertTrue(all(authorization == "Bearer hf-secret-token-canary" for _, _, _, authorization, _ in self.hub.log))

    def test_cancel_leaves_a_part_that_is_resumed(self):
        self.hub.rate = 300_000
        with self.colony(self.hub) as c:
            c.queen()
            c.infer()
            made = c.call("POST", "/v1/jobs", {"operation": "model_download", "model": "org/tiny"})[2]
            part = lambda: [f for f in self.cached(c).glob("blobs/*.incomplete") if f.stat().st_size > 50_000]
            wait_for(part)
            self.assertEqual(c.call("DELETE", "/v1/jobs/" + made["job_id"])[2]["status"], "cancelled")
            time.sleep(0.5)
            size = part()[0].stat().st_size
            time.sleep(0.3)
            self.assertEqual(part()[0].stat().st_size, size, "the transfer goes on although nobody wants it")
            self.hub.rate = None
            self.assertEqual(c.job({"operation": "model_download", "model": "org/tiny"})[-1][1], "end")
            self.assertEqual(self.hub.transfers()[-1][2], f"bytes={size}-")

    def test_what_is_not_there_and_hostile_names(self):
        with self.colony(self.hub) as c:
            c.queen()
            c.infer()
            for model in ("org/none", "org/tiny:missing.gguf", "org/tiny:Q6_K"):
                events = c.job({"operation": "model_download", "model": model})
                self.assertEqual((events[-1][1], events[-1][2]["code"]), ("error", "model_not_found"), model)
            before = len(self.hub.log)
            for model in ("org/../x", "$(touch /tmp/pwned)", "a b", "org/tiny:../../etc/passwd", "file:rel", "x\ny"):
                status, _, body = c.call("POST", "/v1/jobs", {"operation": "model_download", "model": model})
                self.assertEqual((status, body["error"]["code"], body["error"]["param"]), (400, "INVALID_REQUEST", "model"), model)
                self.assertNotIn(model, json.dumps(body))
            self.assertEqual(len(self.hub.log), before)
            self.assertFalse(os.path.exists("/tmp/pwned"))

    def download(self, c, model="org/tiny"):
        started = time.monotonic()
        events = c.job({"operation": "model_download", "model": model}, port=c.hive_port)
        return events[-1][1], events[-1][2].get("code"), time.monotonic() - started, events[-1][2].get("message", "")

    def alone(self, hub):
        """A hive without a queen."""
        c = self.colony(hub)
        c.env.pop("LLORCH_QUEEN_URL")
        log = open(c.home / "h.log", "a")
        c.start(BIN / "llorch-hive", "--local-mode", "--port", c.hive_port, "--data-dir", c.home / "h", stdout=log, stderr=log)
        wait_for(lambda: listens(c.hive_port))
        return c

    def test_no_name_of_a_model_server_leaves_the_cache(self):  # 15.1
        with self.alone(self.hub) as c:
            victims = [c.home / name for name in ("victim.gguf", "bare", "absolute.gguf", "key")]
            for v in victims:
                v.write_text("mine")
            names = ("../../../../../../victim.gguf", "../../../../../../../victim.gguf", str(c.home / "absolute.gguf"), "../../../../../../key\0.gguf", str(c.home / "key") + "\0.gguf", "a/../../../../../../../victim.gguf", "x/./../y.gguf", "a\\b.gguf", "a\x1b[2J.gguf", "x" * 300 + ".gguf", "/".join("d" * 40) + "/x.gguf")
            etags = ("../../../../victim.gguf", str(c.home / "absolute.gguf"), "..", ".", "a/b", "A" * 300)
            outcomes = {}
            for name in names:
                self.hub.names = [name]
                outcomes[name] = self.download(c)[:2]
            self.hub.names = None
            for etag in etags:
                self.hub.etag = etag
                outcomes[etag] = self.download(c)[:2]
            changed = [v.name for v in victims if v.is_symlink() or v.read_text() != "mine"]
            self.assertEqual(changed, [], "files of the user that the server replaced")
            self.assertEqual(outcomes, dict.fromkeys([*names, *etags], ("error", "DOWNLOAD_FAILED")))
            # What somebody else put in the cache is not followed either.
            self.hub.etag = None
            base = self.cached(c)
            outside = c.home / "outside"
            outside.mkdir()
            for part in ("snapshots", "blobs", "refs"):
                shutil.rmtree(base, ignore_errors=True)
                base.mkdir(parents=True)
                (base / part).symlink_to(outside)
                self.assertEqual(self.download(c)[0], "error", part)
                self.assertEqual(list(outside.iterdir()), [], part)
            shutil.rmtree(base)
            (base / "refs").mkdir(parents=True)
            (base / "refs/main").symlink_to(c.home / "bare")
            self.assertEqual(self.download(c)[0], "end")
            self.assertEqual((c.home / "bare").read_text(), "mine")
            self.assertEqual((base / "refs/main").read_text(), COMMIT)

    def test_names_with_spaces_and_signs_are_fetched(self):  # 15.20
        name = "a b/tiny +100% #1 \u00e4-q4_0.gguf"
        self.hub.files = {name: MODEL}
        with self.alone(self.hub) as c:
            self.assertEqual(self.download(c)[:2], ("end", None))
            self.assertEqual((self.cached(c) / "snapshots" / COMMIT / name).read_bytes(), MODEL)

    def test_faults_that_last_are_not_retried_and_others_are(self):  # 15.24
        with self.alone(self.hub) as c:
            for status in (401, 403, 404, 410, 400):
                self.hub.log.clear()
                self.hub.answers = [status] * 20
                kind, code, seconds, _ = self.download(c)
                self.assertEqual((kind, len(self.hub.log)), ("error", 1), status)
                self.assertLess(seconds, 5)
            self.hub.answers = []
            deep = b'{"sha":"' + COMMIT.encode() + b'","siblings":' + b"[" * 5000 + b"]" * 5000 + b"}"
            many = json.dumps({"sha": COMMIT, "siblings": [{"rfilename": f"{i}.gguf"} for i in range(20_000)]}).encode()
            for listing in (b"{}", b"<html>", b'{"sha":"../..","siblings":[]}', deep, many, b'{"x":"' + b"a" * (9 << 20) + b'"}'):
                self.hub.log.clear()
                self.hub.listing = listing
                self.assertEqual(self.download(c)[:2], ("error", "DOWNLOAD_FAILED"), listing[:40])
                self.assertEqual(len(self.hub.log), 1, listing[:40])
            self.hub.listing = None
            self.hub.lie = True
            self.hub.log.clear()
            self.assertEqual(self.download(c)[:2], ("error", "DOWNLOAD_FAILED"))
            self.assertEqual(len(self.hub.transfers()), 1, "the same bytes would come again")
            self.hub.lie = False
            self.hub.answers = [503, 429]
            self.assertEqual(self.download(c)[:2], ("end", None))
            # Between two tries, a cancelled transfer ends at once.
            self.hub.answers = [503] * 20
            made = c.call("POST", "/v1/jobs", {"operation": "model_download", "model": "org/tiny:F16"}, port=c.hive_port)[2]
            wait_for(lambda: len(self.hub.answers) <= 16)
            left = len(self.hub.answers)
            self.assertEqual(c.call("DELETE", "/v1/jobs/" + made["job_id"], port=c.hive_port)[2]["status"], "cancelled")
            self.assertGreaterEqual(len(self.hub.answers), left - 1)

    def test_a_file_whose_path_has_spaces_and_signs(self):  # 15.20
        with self.colony(self.hub) as c:
            folder = c.home / "a b+c%41#1 \u00e4\u6587"
            folder.mkdir()
            file = folder / "m +100% #2 \u00f6?.gguf"
            file.write_bytes(STORIES.read_bytes())
            c.queen()
            r = c.keeper("run", f"file:{file}", "Once upon a time", "--raw", "--max-tokens", "8", "--temperature", "0", "--quiet")
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertIn("there was", r.stdout)
            seen = [w["model_ref"] for w in c.call("GET", "/v1/status")[2]["workers"]]
            self.assertEqual(seen, [f"file:{file}"])

    def test_a_file_of_this_machine_and_its_deletion(self):
        with self.colony(self.hub) as c:
            c.queen()
            r = c.keeper("run", STORIES, "Once upon a time", "--raw", "--max-tokens", "8", "--temperature", "0", "--quiet")
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertIn("there was", r.stdout)
            got = json.loads(c.keeper("model", "get", STORIES, "--json").stdout.splitlines()[-1])
            self.assertEqual((got["ref"], got["size_bytes"], got["status"]), (f"file:{STORIES}", STORIES.stat().st_size, "Available"))
            r = c.keeper("model", "delete", STORIES)
            self.assertIn("serves the model", r.stderr)
            self.assertEqual(c.keeper("model", "unload", STORIES).returncode, 0)
            r = c.keeper("model", "delete", STORIES)
            self.assertIn("only models that a hive has fetched are deleted by it", r.stderr)
            self.assertEqual(c.job({"operation": "model_download", "model": "org/tiny"})[-1][1], "end")
            self.assertEqual(c.job({"operation": "infer", "model": "org/tiny", "prompt": "Once", "raw": True, "max_tokens": 2})[-1][1], "end")
            events = c.job({"operation": "model_delete", "model": "org/tiny"})
            self.assertEqual((events[-1][1], events[-1][2]["code"]), ("error", "RESOURCE_IN_USE"))
            pid = [w["pid"] for w in c.call("GET", "/v1/status")[2]["workers"] if "tiny" in w["model_ref"]][0]
            self.assertEqual(c.job({"operation": "worker_process_delete", "pid": pid})[-1][1], "end")
            self.assertEqual(c.job({"operation": "model_delete", "model": "org/tiny"})[-1][1], "end")
            self.assertFalse([f for f in self.cached(c).rglob("*") if f.is_file() and f.name != "main"])

    def test_a_deletion_stays_in_the_cache_and_leaves_what_others_use(self):  # 15.1
        with self.colony(self.hub) as c:
            c.queen()
            blob = self.cached(c) / "blobs" / hashlib.sha256(MODEL).hexdigest()
            link = self.cached(c) / f"snapshots/{COMMIT}/tiny-q4_0.gguf"
            for model in ("org/tiny", "org/tiny:Q4_0"):  # one file under two names
                self.assertEqual(c.job({"operation": "model_download", "model": model})[-1][1], "end")
            self.assertEqual(c.job({"operation": "model_delete", "model": "org/tiny"})[-1][1], "end")
            self.assertTrue(link.exists(), "the other name has lost its file")
            other = self.cached(c) / ("snapshots/" + "f" * 40) / link.name
            other.parent.mkdir()
            other.symlink_to(f"../../blobs/{blob.name}")
            self.assertEqual(c.job({"operation": "model_delete", "model": "org/tiny:Q4_0"})[-1][1], "end")
            self.assertFalse(link.is_symlink())
            self.assertTrue(other.exists(), "another snapshot has lost its bytes")
            self.assertEqual(c.job({"operation": "model_download", "model": "org/tiny"})[-1][1], "end")
            victim = c.home / "victim"
            victim.write_text("mine")
            link.unlink()
            link.symlink_to(victim)
            self.assertEqual(c.job({"operation": "model_delete", "model": "org/tiny"})[-1][1], "end")
            self.assertTrue(victim.exists(), "a file outside the cache is gone")
            self.assertFalse(link.is_symlink())


if __name__ == "__main__":
    main()
