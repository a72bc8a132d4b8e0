#!/usr/bin/env python3
"""Open WebUI from its package against a queen, as a newcomer connects it: by OpenAI's API, and by Ollama's.

Its server runs without accounts on this machine alone; it is driven by its own HTTP API: models are listed through it, and an answer is
streamed. A line for each check; ends with 1 where one failed. Needs the models of `./dev models` and, the first time, PyPI: about 7 GB in
build/clients. What the server printed is in build/clients/logs/open-webui.log."""
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "tests/worker"), str(ROOT / "tests/colony")]
from colony import Colony  # noqa: E402
from harness import free_port, wait_for  # noqa: E402

FOLDER = ROOT / "build/clients"
PACKAGE = "open-webui==0.12.4"
MODEL = ROOT / ".test-models/smollm2-135m-q4_1.gguf"
START_SECONDS_MAX = 600  # it migrates its database and loads PyTorch
SERVE = "import sys; from open_webui import app; sys.argv[0] = 'open-webui'; app()"


def installed():
    """Its own Python."""
    folder = FOLDER / "open-webui"
    python, stamp = folder / "bin/python", folder / "packages"
    if not (stamp.exists() and stamp.read_text() == PACKAGE):
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-compile", PACKAGE], check=True)
        stamp.write_text(PACKAGE)
    return python


class WebUi:
    """A server with the queen's two addresses, and one session at it."""

    def __init__(self, python, queen, home, log):
        self.url, self.token, port = "", "", free_port()
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "OLLAMA_", "LLORCH_", "XDG_", "PYTHONPATH"))}
        # What a person sets is the first line; the rest keeps the test on this machine.
        env = kept | {"OPENAI_API_BASE_URL": queen + "/v1", "OPENAI_API_KEY": "none", "OLLAMA_BASE_URL": queen, "WEBUI_AUTH": "False"} | {
            "HOME": home, "DATA_DIR": home, "WEBUI_SECRET_KEY": "0" * 64, "HF_HUB_OFFLINE": "1", "OFFLINE_MODE": "True", "ANONYMIZED_TELEMETRY": "False", "DO_NOT_TRACK": "True", "SCARF_NO_ANALYTICS": "True"}
        self.process = subprocess.Popen([python, "-c", SERVE, "serve", "--host", "127.0.0.1", "--port", str(port)], env=env, cwd=home, stdout=log, stderr=log)
        self.url = f"http://127.0.0.1:{port}"

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def open(self, path, body=None):
        request = urllib.request.Request(self.url + path, None if body is None else json.dumps(body).encode(), {"Content-Type": "application/json"} | ({"Authorization": "Bearer " + self.token} if self.token else {}))
        return urllib.request.urlopen(request, timeout=300)

    def get(self, path, body=None):
        with self.open(path, body) as answer:
            return json.load(answer)

    def is_up(self):
        assert self.process.poll() is None, f"the server ended with {self.process.returncode}"
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            return self.get("/health").get("status")

    def sign_in(self):
        wait_for(self.is_up, START_SECONDS_MAX)
        self.token = self.get("/api/v1/auths/signin", {"email": "", "password": ""})["token"]


def streamed(answer):
    """The texts of a stream of OpenAI's chunks, each as it came."""
    lines = [line.decode().strip() for line in answer]
    assert lines and [line for line in lines if line][-1] == "data: [DONE]", lines[-3:]
    chunks = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    return [c["choices"][0]["delta"].get("content") for c in chunks if c.get("choices") and c["choices"][0]["delta"].get("content")]


def checks(ui):
    listed = [m["id"] for m in ui.get("/api/models")["data"]]
    yield "models", any("smollm2" in name for name in listed), listed
    name = next(name for name in listed if "smollm2" in name)
    ask = {"model": name, "stream": True, "max_tokens": 24, "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    tags = ui.get("/ollama/api/tags")["models"]
    yield "tags by Ollama's API", any("smollm2" in m["model"] and m["size"] > 0 for m in tags), tags
    yield "version by Ollama's API", bool(ui.get("/ollama/api/version")["version"]), ""
    with ui.open("/api/chat/completions", ask) as answer:
        pieces = streamed(answer)
    yield "chat, streamed", len(pieces) > 3, "".join(pieces)
    with ui.open("/openai/chat/completions", ask) as answer:
        pieces = streamed(answer)
    yield "chat by OpenAI's API", len(pieces) > 3, "".join(pieces)
    with ui.open("/ollama/api/chat", {"model": name, "stream": True, "options": {"num_predict": 24}, "messages": ask["messages"]}) as answer:
        lines = [json.loads(line) for line in answer if line.strip()]
    yield "chat by Ollama's API", len(lines) > 3 and lines[-1]["done"], "".join(line["message"]["content"] for line in lines)
    whole = ui.get("/api/chat/completions", ask | {"stream": False})
    yield "chat, whole", bool(whole["choices"][0]["message"]["content"]), whole["choices"][0]["message"]["content"]


def main():
    python = installed()
    (FOLDER / "logs").mkdir(parents=True, exist_ok=True)
    failed = 0
    with Colony(tls=False) as c, tempfile.TemporaryDirectory(prefix="llorch-webui-") as home, open(FOLDER / "logs/open-webui.log", "w") as log:
        c.queen()
        for order in ({"operation": "model_alias", "name": "smollm2", "model": f"file:{MODEL}"}, {"operation": "model_load", "model": "smollm2"}):
            end = c.job(order)[-1]
            assert end[1] == "end", end
        ui = WebUi(python, c.url, home, log)
        try:
            ui.sign_in()
            for what, good, seen in checks(ui):
                failed += not good
                print(f"{what}: {'ok' if good else 'FAILED'}: {seen}", flush=True)
        finally:
            ui.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
