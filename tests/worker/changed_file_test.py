"""A worker whose model file is cut, overwritten or replaced while it serves: it ends in order and says so (15.4)."""
import json
import os
import pathlib
import subprocess
import tempfile
import unittest

from harness import BINARY, Worker, main, parse_sse, wait_for

GGUF = pathlib.Path(BINARY).with_name("llorch-gguf")
ASK = {"prompt": "Once upon a time", "max_tokens": 200, "ignore_eos": True, "temperature": 0}


def change(path, how):
    before = path.stat()
    if how == "replaced":
        (new := path.with_suffix(".new")).write_bytes(b"another file")
        return os.rename(new, path)
    while path.stat().st_mtime_ns == before.st_mtime_ns:
        if how == "cut":
            os.truncate(path, before.st_size // 2)
        else:
            with path.open("r+b") as f:
                f.write(b"\x55" * before.st_size)


def tokens_while(worker, then):
    """Streams an answer; `then` is called after some tokens. (tokens, error codes, whether [DONE] came)"""
    url = worker.infer(**ASK)["sse_url"]
    c = worker.connection()
    c.request("GET", url)
    r, text = c.getresponse(), ""
    while chunk := r.read1(65536):
        text += chunk.decode()
        if then and text.count("event: token") > 5:
            then()
            then = None
    events, done = parse_sse(text)
    return [d["i"] if "i" in d else d["t"] for _, kind, d in events if kind == "token"], [d["code"] for _, kind, d in events if kind == "error"], done


class ChangedFile(unittest.TestCase):
    def serve(self, how, type_, cached):
        with tempfile.TemporaryDirectory() as d:
            folder = pathlib.Path(d)
            model, cache = folder / "m.gguf", folder / "cache"
            subprocess.run([GGUF, "synth", "--shape", "tiny-llama", "--type", type_, model], check=True, stdout=subprocess.DEVNULL)
            flags = ["--packed-cache", str(cache)] if cached else []
            if cached:
                with Worker(*flags, model=model) as w:
                    wait_for(lambda: '"weights_packed"' in w.logs())
            w = Worker(*flags, model=model)
            try:
                right = tokens_while(w, None)
                self.assertEqual((len(right[0]), right[1:]), (ASK["max_tokens"], ([], True)))
                target = next(cache.iterdir()) if cached else model
                tokens, errors, done = tokens_while(w, lambda: change(target, how))
                self.assertEqual(tokens, right[0][:len(tokens)], "other text")
                if how == "replaced":  # the open file keeps its bytes
                    self.assertEqual((len(tokens), errors), (ASK["max_tokens"], []))
                    return w.stop()
                if not errors:  # it was done before the change was seen: the next one is told
                    status, _, body = w.post("/v1/inference", ASK)
                    errors = [e for e in [body.get("error", {}).get("code")] if e] or tokens_while(w, None)[1]
                self.assertEqual(errors, ["MODEL_CHANGED"])
                self.assertEqual(w.process.wait(20), 1, w.logs())
                line = next(json.loads(l) for l in w.logs().splitlines() if '"model_changed"' in l)
                self.assertEqual((line["level"], line["code"]), ("error", "MODEL_CHANGED"))
            finally:
                w.process.kill()
                w.process.wait()

    def test_the_models_own_file(self):
        for type_ in ("F16", "Q8_0", "Q4_K_M"):
            for how in ("cut", "overwritten", "replaced"):
                with self.subTest(type=type_, how=how):
                    self.serve(how, type_, False)

    def test_packed_weights(self):
        for how in ("cut", "overwritten", "replaced"):
            with self.subTest(how=how):
                self.serve(how, "Q8_0", True)

    def test_what_is_no_file_is_refused_at_once(self):
        with tempfile.TemporaryDirectory() as d:
            folder = pathlib.Path(d)
            os.mkfifo(folder / "fifo")
            for flags, kind in (([folder / "fifo"], "a FIFO"), (["/dev/zero"], "a device"), (["builtin:haiku", "--tokenizer", folder / "fifo"], "a FIFO")):
                r = subprocess.run([BINARY, "generate", "-p", "x", "-m", *map(str, flags)], capture_output=True, text=True, timeout=20)
                self.assertNotEqual(r.returncode, 0)
                self.assertIn(f"is {kind}, not a regular file", r.stderr)


if __name__ == "__main__":
    main()
