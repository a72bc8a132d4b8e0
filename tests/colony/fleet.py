"""Machines in this process for tests of pages: hives whose workers say what a question names, and whose figures move."""
import itertools
import json
import math
import threading
import time

from actor import Actor

GIB = 1 << 30
MARKDOWN = """## A plan for the week

Some **bold**, some *emphasis*, `inline code` and a [link](https://example.org/).

1. First, the list
2. Then a table

| day | task | hours |
| --- | --- | ---: |
| Monday | read | 2 |
| Tuesday | write | 3 |

> What is quoted stands apart.

```python
def area(radius):
    return 3.14159 * radius ** 2
```
"""
HOSTILE = """Before <b>bold</b> <img src=x onerror="window.hurt=1"> <script>window.hurt=1</script>

<div onclick="window.hurt=1">a box</div>

[press](javascript:window.hurt=1) [other](JaVaScRiPt:window.hurt=1) [data](data:text/html,<script>window.hurt=1</script>) <javascript:window.hurt=1>
![picture](https://elsewhere.example/x.png) ![other](javascript:window.hurt=1)
<svg onload="window.hurt=1"></svg><style>body{display:none}</style><iframe src="https://elsewhere.example/"></iframe>
<form action="https://elsewhere.example/"><input name=q autofocus onfocus="window.hurt=1"></form>

```html
<script>window.hurt=1</script>
```
| <img src=x onerror=window.hurt=1> | b |
| --- | --- |
| <a href="javascript:window.hurt=1">x</a> | c |
"""
CALL = {"city": "<img src=x onerror=window.hurt=1>Oslo", "days": 2}
TOOLS = json.dumps([{"name": "weather", "parameters": {"type": "object"}}])
HUGE = 5_000_000


def pieces(text, size=4):
    return [text[i : i + size] for i in range(0, len(text), size)]


class Machine(Actor):
    """One hive with `workers` workers; `model_of(i)` names the model of each. What a question is decides what is answered."""

    def __init__(self, name, workers=1, model_of=lambda i: "builtin:haiku", gib=64, models=(), capabilities={}):
        super().__init__(name)
        self.capabilities = capabilities  # of models, by name
        self.count, self.model_of, self.gib, self.known = workers, model_of, gib, list(models)
        self.begun, self.stamps = time.monotonic(), False  # stamps: the load of its first worker is stamp()
        self.started = {}  # models of workers that were started later, by their number
        self.room = None  # for so many workers
        self.measured = None  # since when it measures nothing; None: it does
        self.gpu = None  # how old its GPU's figures are, in seconds; None: it has none
        self.says, self.gone, self.lost = self.answer, set(), threading.Event()
        self.pace = 0.004  # seconds for each piece
        self.aborted = 0
        self.numbers, self.orders = itertools.count(1), {}  # of jobs, by number
        self.resumed = []  # Last-Event-ID of streams that were opened again
        self.revision = 1

    def close(self):
        self.lost.set()
        super().close()

    def reply(self, path):
        if path == "/v1/capabilities":
            model = lambda ref: {"id": ref, "ref": ref, "name": ref, "quant": "Q4_K_M", "size_bytes": 4 * GIB, "status": "Available", "capabilities": self.capabilities.get(ref, [])}
            gpus = [] if self.gpu is None else [{"id": "cuda:0", "name": "a GPU", "device_type": "gpu", "memory_total_bytes": 16 * GIB, "memory_free_bytes": 16 * GIB}]
            return {"devices": [{"id": "cpu", "name": "a processor", "device_type": "cpu", "memory_total_bytes": self.gib * GIB, "memory_free_bytes": self.gib * GIB // 2}, *gpus], "models": [model(m) for m in self.known], "workers_available": [{"id": "cpu", "kind": "cpu", "version": "0"}]}
        if path.startswith("/v1/memory-check") and self.room is not None and self.count - len(self.gone) >= self.room:
            return {"error": {"code": "INSUFFICIENT_MEMORY", "message": "4000 MB are needed, 0 MB are free", "details": {"needed_bytes": 4 * GIB, "room_bytes": GIB, "capacity_bytes": self.gib * GIB}}}
        if path in ("/v1/inference", "/v1/jobs"):
            number = next(self.numbers)
            self.orders[number] = json.loads(self.asked.body)
            return {"job_id": f"job-00000000-0000-4000-8000-{number:012}", "sse_url": f"{path}/{number}/stream", "status": "queued", "queue_position": 0}
        return super().reply(path)

    def beat(self, hive=None, state="ready"):
        now = time.monotonic()
        wave = lambda i: math.sin(now / 3 + i)
        ago = now - (self.measured or now)
        workers = [{"worker_id": f"worker-cpu-{i}", "uri": self.url, "model_ref": self.started.get(i) or self.model_of(i), "device": "cpu", "kind": "cpu", "state": state, "pid": 100 + i, "port": 8601 + i, "memory_bytes": 3 * GIB, "cpu_pct": self.stamp() if self.stamps and i == 0 else 90 + 10 * wave(i), "rss_mb": 3000 + int(20 * wave(i)), "uptime_s": now - ago, "measured_s_ago": ago} for i in range(self.count) if i not in self.gone]
        node = {"cpu_pct": 45 + 40 * wave(0), "ram_total_mb": self.gib * 1024, "ram_used_mb": self.gib * 512 + int(self.gib * 60 * wave(1)), "gpus": [] if self.gpu is None else [{"id": "cuda:0", "util_pct": 40, "temp_c": 50, "vram_total_mb": 16384, "vram_used_mb": 8192, "measured_s_ago": self.gpu}], "measured_s_ago": ago}
        return {"hive_id": self.name, "url": self.url, "version": "0", "revision": str(self.revision), "node": node, "workers": workers}

    def stamp(self):
        """Hundredths of a second since it began."""
        return int((time.monotonic() - self.begun) * 100)

    def live(self, colony, every=0.5, headers=None):
        """Beats until it is lost, and shows `headers`, or the key of the queen's own machine."""
        report = lambda: colony.call("POST", "/v1/heartbeat", self.beat(), headers) if headers else colony.report(self.beat())

        def run():
            while not self.lost.wait(every):
                report()
        report()
        threading.Thread(target=run, daemon=True).start()

    def answer(self, handler):
        """What a worker sends for the question that came last."""
        native = handler.path.endswith("/stream")
        asked = self.orders.get(int(handler.path.split("/")[-2]), {}) if native else json.loads(handler.body)
        question = next((m["content"] for m in reversed(asked.get("messages", [])) if m["role"] in ("user", "tool")), "")
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Connection", "close")
        handler.end_headers()
        stream = Stream(handler, native, self.pace)
        try:
            if "operation" in asked:
                return self.operate(stream, asked)
            self.speak(stream, question, bool(asked.get("tools")))
            stream.end()
        except OSError:
            self.aborted += 1

    def operate(self, out, order):
        """An operation of a hive, as its job's stream tells it."""
        if order["operation"] == "model_download":
            for done in range(0, 101, 5):
                out.event("progress", stage="downloading", bytes_downloaded=done * GIB // 25, bytes_total=4 * GIB, speed_mbps=42.0)
                time.sleep(0.1)
            self.known.append(order["model"])
            self.revision += 1
        elif order["operation"] == "worker_spawn":
            self.started[self.count] = order["model"]
            self.count += 1
            return out.finish({"worker_id": f"worker-cpu-{self.count - 1}"})
        elif order["operation"] == "worker_process_delete":
            self.gone.add(order["pid"] - 100)
        elif order["operation"] == "worker_process_logs":
            out.event("log", worker_id="w", line="the model is loaded")
        elif order["operation"] == "model_delete":
            self.known.remove(order["model"])
            self.revision += 1
        out.finish({"status": "done"})

    def speak(self, out, question, tools):
        if "markdown" in question:
            out.text(MARKDOWN)
        elif "hostile" in question:
            out.text(HOSTILE)
        elif "line" in question:
            out.text("x" * HUGE, 50_000)
        elif "huge" in question:
            paragraph = "Some words of a long answer, which goes on and on and says little. " * 8 + "\n\n"
            out.text(paragraph * (HUGE // len(paragraph)), 50_000)
        elif "think" in question:
            out.thought("The question wants a colour. Blue is one. Is it the best one? It will do.")
            out.text("Blue.")
        elif "fail" in question:
            out.text("This begins well and then")
            out.fail("the worker ran out of memory")
        elif "bursts" in question:
            out.burst = 5
            out.text("".join(f"word{i} " for i in range(100, 500)), 8, pace=0.02)
        elif "slow" in question:
            out.text(" ".join(f"word{i}" for i in range(400)), 6, pace=0.01)
        elif tools:
            out.text("I look it up. ")
            out.call("weather", json.dumps(CALL))
        else:
            out.text("Rain on the roof\nA cat sleeps by the window\nThe kettle whistles")


class Stream:
    """A worker's stream in the words of either route."""

    def __init__(self, handler, native, pace):
        self.file, self.native, self.pace, self.seq, self.count = handler.wfile, native, pace, 0, 0
        self.burst, self.waiting = 1, []  # so many events are sent at once
        if native:
            self.event("started", model="builtin:haiku", started_at="2026-01-01T00:00:00.000Z", correlation_id="c", seed=1, params={})

    def write(self, text):
        self.waiting.append(text)
        if len(self.waiting) < self.burst and "[DONE]" not in text:
            return
        self.file.write("".join(self.waiting).encode())
        self.file.flush()
        self.waiting = []

    def event(self, kind, **data):
        self.seq += 1
        self.write(f"id: {self.seq}\nevent: {kind}\ndata: {json.dumps({'type': kind, 'seq': self.seq, **data}, separators=(',', ':'))}\n\n")

    def chunk(self, delta, **more):
        self.write(f"data: {json.dumps({'id': 'c', 'object': 'chat.completion.chunk', 'choices': [{'index': 0, 'delta': delta, 'finish_reason': None, **more}]})}\n\n")

    def delta(self, pace, **delta):
        self.count += 1
        if self.native:
            self.event("token", t="".join(delta.values()), i=self.count, token_id=1, **delta)
        else:
            self.chunk(delta)
        time.sleep(self.pace if pace is None else pace)

    def text(self, text, size=4, pace=None):
        for piece in pieces(text, size):
            self.delta(pace, content=piece)

    def thought(self, text):
        for piece in pieces(text):
            self.delta(None, content="", reasoning_content=piece)

    def call(self, name, arguments):
        self.chunk({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}}]})
        for piece in pieces(arguments):
            self.chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
            time.sleep(self.pace)

    def fail(self, message):
        error = {"code": "INFERENCE_FAILED", "message": message}
        if self.native:
            self.event("error", **error)
        else:
            self.write(f"data: {json.dumps({'error': error})}\n\n")
        self.write("data: [DONE]\n\n")
        raise OSError(message)

    def finish(self, result):
        self.event("result", result=result)
        self.event("end")
        self.write("data: [DONE]\n\n")

    def end(self):
        if self.native:
            self.event("end", tokens_out=self.count, decode_time_ms=max(1, int(self.count * 1000 * (self.pace or 0.001))), stop_reason="EOS")
        else:
            self.write("data: " + json.dumps({"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": self.count, "total_tokens": 5 + self.count}}) + "\n\n")
        self.write("data: [DONE]\n\n")
