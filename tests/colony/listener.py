"""An HTTP server of a test's own, on threads."""
import http.server
import threading


class Listener:
    """listen() makes `server`, `port` and `url`; close() ends it."""

    def listen(self, handler, address="127.0.0.1"):
        self.server = http.server.ThreadingHTTPServer((address, 0), handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # peers that leave are what tests are about
        self.port = self.server.server_address[1]
        self.url = f"http://{address}:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
