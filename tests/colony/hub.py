"""A server that speaks the Hugging Face endpoints, with real bytes, and a talent for trouble."""
import hashlib
import http.server
import json
import time
import urllib.parse

from listener import Listener

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(Listener):
    def __init__(self, files, repo="org/tiny", address="127.0.0.1"):
        self.files, self.repo = files, repo
        self.log = []  # (method, path, range, authorization)
        self.cut_after = None  # bytes of one answer, once for each entry
        self.rate = None  # bytes a second
        self.redirect_to = None  # another base address for the bytes
        self.lie = False  # other bytes than promised
        self.names = None  # what the listing says instead of the names of the files
        self.etag = None  # what it calls a file's content, instead of its hash
        self.listing = None  # bytes instead of a listing
        self.answers = []  # statuses of the next answers, instead of what was asked for
        hub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def note(self):
                hub.log.append((self.command, self.path, self.headers.get("Range"), self.headers.get("Authorization"), self.headers.get("Host")))

            def simple(self, status, body=b"", headers=()):
                self.send_response(status)
                for k, v in headers:
                    self.send_header(k, v)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def find(self):
                for name, data in hub.files.items():
                    if urllib.parse.unquote(self.path) in (f"/{hub.repo}/resolve/{COMMIT}/{name}", f"/bytes/{name}"):
                        return name, data
                if hub.names and not self.path.startswith("/api/"):  # a server that lies has bytes for every name
                    return hub.names[0], next(iter(hub.files.values()))
                return None, None

            def do_HEAD(self):
                self.note()
                if hub.answers:
                    return self.simple(hub.answers.pop(0))
                name, data = self.find()
                if data is None:
                    return self.simple(404)
                headers = [("X-Repo-Commit", COMMIT), ("X-Linked-Size", str(len(data))), ("X-Linked-Etag", f'"{hub.etag or hashlib.sha256(data).hexdigest()}"'), ("ETag", '"x"')]
                self.simple(302 if hub.redirect_to else 200, headers=headers + ([("Location", f"{hub.redirect_to}/bytes/{name}")] if hub.redirect_to else []))

            def do_GET(self):
                self.note()
                if hub.answers:
                    return self.simple(hub.answers.pop(0), b"{}")
                if self.path == f"/api/models/{hub.repo}/revision/main":
                    names = ["README.md", *hub.files] if hub.names is None else hub.names
                    return self.simple(200, hub.listing or json.dumps({"sha": COMMIT, "siblings": [{"rfilename": n} for n in names]}).encode())
                name, data = self.find()
                if data is None:
                    return self.simple(404, b"{}")
                if hub.redirect_to and self.path.startswith("/" + hub.repo):
                    return self.simple(302, headers=[("Location", f"{hub.redirect_to}/bytes/{name}")])
                if hub.lie:
                    data = bytes(len(data))
                first, _, last = (self.headers.get("Range") or "bytes=0-").split("=")[1].partition("-")
                first, part = int(first), data[int(first) : int(last) + 1 if last else None]
                self.send_response(206 if first or last else 200)
                self.send_header("Content-Length", str(len(part)))
                self.end_headers()
                cut = hub.cut_after.pop(0) if hub.cut_after and not last else None
                for at in range(0, len(part), 16384):
                    if cut is not None and at >= cut:
                        self.connection.shutdown(2)
                        self.close_connection = True
                        return
                    self.wfile.write(part[at : at + 16384])
                    if hub.rate and not last:
                        time.sleep(16384 / hub.rate)

        self.listen(Handler, address)

    def transfers(self):
        """Whole files, or what was missing of one; not their beginnings."""
        return [entry for entry in self.log if entry[0] == "GET" and ".gguf" in entry[1] and not (self.redirect_to and "/resolve/" in entry[1]) and (entry[2] or "-").endswith("-")]
