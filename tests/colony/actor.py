"""A hive and its workers in this process, which do what a test tells them: also to hang at a given point."""
import http.server
import json
import threading


class Actor:
    """`hangs`: from when on nothing is answered any more: None, "at once", "after a token", "after a token, but lives"."""

    def __init__(self, name, hangs=None):
        self.name, self.hangs = name, hangs
        self.reached, self.over = threading.Event(), threading.Event()  # over: whoever hangs goes away
        self.hung = False
        self.paths = []
        self.asked = threading.local()  # body: of the last request of this thread's connection
        self.says = None  # called with the handler of a request for an answer, or of its stream, which it answers
        actor = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def hang(self):
                actor.hung = True
                actor.reached.set()
                actor.over.wait(120)
                self.close_connection = True

            def answer(self):
                self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                actor.paths.append(f"{self.command} {self.path}")
                if self.body:
                    actor.asked.body = self.body
                work = self.path.startswith(("/v1/chat", "/api/chat")) or self.path.endswith("/stream")
                if actor.hung or (actor.hangs == "at once" and (work or self.path == "/v1/inference")):
                    return self.hang()
                if work and actor.says:
                    self.close_connection = True
                    return actor.says(self)
                if not work:
                    said = actor.reply(self.path)
                    return self.send(503 if "error" in said else 202 if self.command == "POST" else 200, json.dumps(said).encode())
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Connection", "close")
                self.end_headers()
                self.close_connection = True
                native = self.path.endswith("/stream")
                self.wfile.write(actor.native(0) if native else actor.chat("one"))
                self.wfile.flush()
                if actor.hangs == "after a token":
                    return self.hang()
                if actor.hangs == "after a token, but lives":
                    actor.reached.set()
                    actor.over.wait(120)
                self.wfile.write((actor.native(1) if native else actor.chat("two")) + b"data: [DONE]\n\n")

            def send(self, status, body):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_DELETE = answer

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def reply(self, path):
        if path == "/v1/capabilities":
            return {"devices": [{"id": "cpu", "name": self.name, "device_type": "cpu", "memory_total_bytes": 10**12, "memory_free_bytes": 10**12}], "models": [], "workers_available": [{"id": "cpu", "kind": "cpu", "version": "0"}]}
        return {"job_id": "job-00000000-0000-4000-8000-000000000001", "sse_url": f"{path}/1/stream", "status": "queued", "queue_position": 0}

    def native(self, part):
        started = {"type": "started", "seq": 1, "model": "builtin:haiku", "started_at": "2026-01-01T00:00:00.000Z", "correlation_id": "c", "seed": 1, "params": {}}
        events = [started, {"type": "token", "seq": 2, "t": self.name, "i": 0, "token_id": 1}] if part == 0 else [{"type": "end", "seq": 3, "tokens_out": 1, "stop_reason": "EOS"}]
        return "".join(f"id: {e['seq']}\nevent: {e['type']}\ndata: {json.dumps(e, separators=(',', ':'))}\n\n" for e in events).encode()

    def chat(self, text):
        return f"data: {json.dumps({'choices': [{'delta': {'content': f'{text} of {self.name}'}}]})}\n\n".encode()

    def beat(self, hive=None, state="ready"):
        """A heartbeat of `hive`, this one unless another is named, with this worker."""
        worker = {"worker_id": f"worker-{self.name}", "uri": self.url, "model_ref": "builtin:haiku", "device": "cpu", "kind": "cpu", "state": state, "pid": 1, "port": 8601}
        return {"hive_id": f"hive-{self.name}", "url": (hive or self).url, "version": "0", "revision": "1", "node": {}, "workers": [worker]}

    def close(self):
        self.over.set()
        self.server.shutdown()
        self.server.server_close()
