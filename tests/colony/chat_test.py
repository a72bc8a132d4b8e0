"""`llorch chat`: commands, messages of several lines, an answer that was stopped, and a window that rolls."""
import http.server
import json
import os
import re
import signal
import subprocess
import threading
import unittest

from colony import Colony, main
from keeper_test import DONE, frame
from listener import Listener
from terminal_test import on_a_terminal, type_into


PROMPT = b"\x1b[?2004h> "  # of a terminal that says what is pasted


class Model(Listener):
    """A queen whose model answers "echo: " and what was said last. Of more than `window` messages it says that they are too many; `hold`: it stops after the first word of its first answer until that is cancelled; `longest`: of a message, in characters. It reads no file: whoever asks it to, waits until that is cancelled."""

    def __init__(self, window=1000, hold=False, context=None, tokens_in=10, longest=1000):
        model, self.orders, self.cancelled, self.reads = self, [], threading.Event(), threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def answer(self, status, data):
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):
                if not self.path.startswith("/stream/"):
                    return self.answer(200 if self.path == "/health" else 404, b"{}")
                order = model.orders[int(self.path.rsplit("/", 1)[1])]
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                if order["operation"] == "model_download":
                    self.wfile.flush()
                    model.reads.set()
                    model.cancelled.wait(30)
                    self.wfile.write((frame(1, "error", code="CANCELLED", message="cancelled") + DONE).encode())
                    return
                messages = order["messages"]
                if len(messages) > window or len(messages[-1]["content"]) > longest:
                    self.wfile.write((frame(1, "error", code="context_length_exceeded", message="too long") + DONE).encode())
                    return
                self.wfile.write((frame(1, "token", t="echo: ", i=0)).encode())
                if hold and len(model.orders) == 1:
                    self.wfile.flush()
                    model.cancelled.wait(30)
                    self.wfile.write((frame(2, "error", code="CANCELLED", message="cancelled") + DONE).encode())
                    return
                more = {} if context is None else {"context": context}
                self.wfile.write((frame(2, "token", t=messages[-1]["content"], i=1) + frame(3, "end", tokens_out=2, tokens_in=tokens_in, stop_reason="EOS", **more) + DONE).encode())

            def do_POST(self):
                model.orders.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.answer(202, json.dumps({"job_id": "x", "sse_url": f"/stream/{len(model.orders) - 1}"}).encode())

            def do_DELETE(self):
                model.cancelled.set()
                self.answer(202, b"{}")

        self.listen(Handler)

    def said(self, at=-1):
        return [(m["role"], m["content"]) for m in self.orders[at]["messages"]]


class Chat(unittest.TestCase):
    def setUp(self):
        self.c = Colony().__enter__()
        self.addCleanup(self.c.close)

    def model(self, **more):
        self.queen = Model(**more)
        self.addCleanup(self.queen.close)

    def command(self, *flags, model="m"):
        return self.c.command("chat", model, "--queen", self.queen.url, "--no-autostart", *flags)

    def type(self, text, *flags, **more):
        self.model(**more)
        r = subprocess.run(self.command(*flags), capture_output=True, text=True, input=text, env=self.c.env, timeout=60)
        self.assertEqual(r.returncode, 0, r.stderr)
        return r

    def test_an_empty_line_does_nothing(self):
        r = self.type("\n  \none\n\ntwo\n")
        self.assertEqual(r.stdout, "echo: one\necho: two\n")
        self.assertEqual(self.queen.said(), [("user", "one"), ("assistant", "echo: one"), ("user", "two")])

    def test_commands_shape_what_is_asked(self):
        r = self.type("/system Be brief\n/set temperature 0.5\n/set num_predict 7\none\n/set temperature default\n/model other\ntwo\n/clear\n/system none\nthree\n/bye\nnever\n", "--temperature", "0.25")
        first, second, third = self.queen.orders
        self.assertEqual((first["messages"][0], first["temperature"], first["max_tokens"], first["model"]), ({"role": "system", "content": "Be brief"}, 0.5, 7, "m"))
        self.assertEqual((second["temperature"], second["max_tokens"], second["model"]), (0.25, 7, "other"))
        self.assertEqual(self.queen.said(1), [("system", "Be brief"), ("user", "one"), ("assistant", "echo: one"), ("user", "two")])
        self.assertEqual(self.queen.said(2), [("user", "three")])
        self.assertEqual(r.stdout, "echo: one\necho: two\necho: three\n", "stdout has answers alone")
        self.assertIn("set: max-tokens 7\n", r.stderr)

    def test_what_no_command_is(self):
        r = self.type("/sytem x\n/set temprature 1\n/set temperature 9\n/set schema none.json\n//etc/hosts\n/etc/hosts is a file\n")
        self.assertEqual([said[-1] for said in (self.queen.said(0), self.queen.said(1))], [("user", "/etc/hosts"), ("user", "/etc/hosts is a file")])
        for words in ("no command /sytem: did you mean '/system'?", "no setting 'temprature': did you mean 'temperature'?", "9 is no number from 0 to 2", "none.json"):
            self.assertIn(words, r.stderr)
        self.assertNotIn("temperature", self.queen.orders[0])

    def test_help_names_every_command(self):
        r = self.type("/help\n")
        for name in ("/help", "/system", "/set", "/show", "/clear", "/save", "/load", "/model", "/multi", "/thoughts", "/bye", '"""', "temperature"):
            self.assertIn(name, r.stderr)
        self.assertEqual(r.stdout, "")

    def test_several_lines_are_one_message(self):
        for typed in ('"""one\ntwo\n\nthree"""\n', '"""\none\ntwo\n\nthree\n"""\n', '/multi\none\ntwo\n\nthree\n"""\n', '"""one\ntwo\n\nthree'):
            self.type(typed)
            self.assertEqual(self.queen.said(), [("user", "one\ntwo\n\nthree")], typed)

    def test_a_conversation_is_kept_and_loaded(self):
        self.type("/system Be brief\none\n/save holiday\n")
        path = self.c.home / ".local/state/llorch/chats/holiday.json"
        self.assertEqual((path.stat().st_mode & 0o777, json.loads(path.read_text())["model"]), (0o600, "m"))
        for name in ("holiday", str(path)):
            self.type(f"/load {name}\ntwo\n")
            self.assertEqual(self.queen.said(), [("system", "Be brief"), ("user", "one"), ("assistant", "echo: one"), ("user", "two")])
        for text, words in (("[]", "lacks model or messages"), ('{"model": "m", "messages": [{"role": "user"}]}', "message 1 has no role or no text"), ("{", "bad.json")):
            (path.parent / "bad.json").write_text(text)
            r = self.type("zero\n/load bad\ntwo\n")
            self.assertIn(words, r.stderr)
            self.assertEqual(self.queen.said(), [("user", "zero"), ("assistant", "echo: zero"), ("user", "two")], "nothing changed")
        self.assertIn("a conversation needs a name", self.type("/save\n/save .x\n").stderr)

    def test_the_oldest_turns_leave_a_window_that_is_full(self):
        r = self.type("/system S\n" + "".join(f"turn {i}\n" for i in range(9)), window=6)
        self.assertEqual(r.stdout, "".join(f"echo: turn {i}\n" for i in range(9)), "it never fails")
        said = self.queen.said()
        self.assertEqual((said[0], said[-1]), (("system", "S"), ("user", "turn 8")))
        self.assertLessEqual(len(said), 6)
        self.assertEqual(said[1][0], "user", "whole turns leave")
        self.assertIn("its oldest turn was left out", r.stderr)

    def test_turns_leave_before_an_answer_has_no_room(self):
        r = self.type("one\ntwo\nthree\n", context=100, tokens_in=90)
        self.assertEqual([len(self.queen.said(i)) for i in range(3)], [1, 3, 3], r.stderr)
        self.assertEqual(self.queen.said()[0], ("user", "two"))
        self.assertIn("the answer was cut: the model's window of 50 tokens is full", self.type("one\n", context=50, tokens_in=48).stderr)

    def test_one_message_that_is_too_long_is_told(self):
        self.model(window=0)
        r = subprocess.run(self.command(), capture_output=True, text=True, input="one\n", env=self.c.env, timeout=60)
        self.assertEqual((r.returncode, len(self.queen.orders)), (1, 1))
        self.assertIn("context_length_exceeded", r.stderr)

    def test_a_message_that_is_too_long_takes_nothing_with_it(self):
        r = self.type("one\ntwo\n" + "x" * 60 + "\n/show\nthree\n", longest=50)
        self.assertEqual(self.queen.said(), [(role, text) for said in ("one", "two") for role, text in (("user", said), ("assistant", "echo: " + said))] + [("user", "three")])
        self.assertIn("messages: 4\n", r.stderr)
        self.assertIn("the conversation is as it was before the message; /retry sends it again", r.stderr)
        self.assertIn("llorch model set NAME ctx N", r.stderr, "what may be done")

    def test_a_message_that_has_failed_is_sent_again(self):
        r = self.type("/retry\none\n" + "x" * 60 + "\n/set temperature 0.5\n/retry\n/retry\ntwo\n", longest=50)
        self.assertIn("no message has failed", r.stderr)
        sent = [order["messages"][-1]["content"] for order in self.queen.orders]
        self.assertEqual([text for text in sent if text.startswith("x")][-1], "x" * 60)
        self.assertGreaterEqual(len([text for text in sent if text.startswith("x")]), 3)
        self.assertEqual(self.queen.orders[-1]["temperature"], 0.5)
        self.assertEqual(self.queen.said(), [("user", "one"), ("assistant", "echo: one"), ("user", "two")])

    def test_a_file_that_is_no_conversation_is_not_overwritten(self):
        kept = self.c.home / "notes.json"
        link = self.c.home / "link.json"
        for path, text in ((kept, '{"mine": 1}'), (self.c.home / "letter.txt", "dear"), (self.c.home / "empty", "")):
            path.write_text(text)
            r = self.type(f"one\n/save {path}\n")
            self.assertIn(f"{path} is there and no saved conversation", r.stderr)
            self.assertEqual(path.read_text(), text)
        link.symlink_to(kept)
        self.type(f"one\n/save {link}\n")
        self.assertEqual(kept.read_text(), '{"mine": 1}')
        r = self.type("one\n/save again\ntwo\n/save again\n")
        self.assertEqual(r.stderr.count("saved: "), 2, "its own it writes anew")
        path = self.c.home / ".local/state/llorch/chats/again.json"
        before = path.read_text()
        r = self.type("other\n/save again\n")
        self.assertIn(f"{path} is another conversation: it stays as it is", r.stderr)
        self.assertEqual(path.read_text(), before)
        self.type("/load again\nthree\n/save again\n")
        self.assertIn("three", path.read_text())

    def test_tokens_of_a_conversation_that_was_kept(self):
        self.type("one\n/save t\n", context=64, tokens_in=40)
        r = self.type("/load t\n/show\n")
        self.assertIn("tokens: 42 of 64\n", r.stderr)
        path = self.c.home / ".local/state/llorch/chats/t.json"
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k in ("model", "messages")}))
        r = self.type("one\n/load t\n/show\n", context=64)
        self.assertIn("tokens: the next answer tells\n", r.stderr)
        self.assertNotIn("tokens: 0", r.stderr)

    def test_what_an_answer_must_look_like_is_checked_at_once(self):
        (self.c.home / "s.json").write_text('{"type": "no-such-type"}')
        (self.c.home / "g.gbnf").write_text("root ::= (")
        r = self.type(f"/set regex [\n/set schema {self.c.home}/s.json\n/set grammar {self.c.home}/g.gbnf\n/set regex [ab]+\none\n")
        for words in ("regex at 'byte", "type at ''", "gbnf at"):
            self.assertIn(words, r.stderr)
        self.assertEqual(self.queen.orders[0]["regex"], "[ab]+")
        self.assertEqual({"grammar", "response_format"} & set(self.queen.orders[0]), set())

    def test_files_go_along(self):
        (self.c.home / "notes.txt").write_text("milk\neggs\n")
        (self.c.home / "cat.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        r = self.type(f"/file {self.c.home}/notes.txt\n/show\nWhat do I buy?\nand now?\n/file\n/file {self.c.home}/none.txt\n/file {self.c.home}/cat.png\n{self.c.home}/cat.png\nwhat is {self.c.home}/cat.png ?\n/{self.c.home}/cat.png\n")
        self.assertEqual([order["messages"][-1]["content"] for order in self.queen.orders], ["notes.txt:\n```\nmilk\neggs\n```\n\nWhat do I buy?", "and now?", f"what is {self.c.home}/cat.png ?", f"{self.c.home}/cat.png"])
        for words in ("notes.txt goes along with the next message", "a file goes along", "a file needs a path", "none.txt", "cat.png is a picture, and m takes text alone"):
            self.assertIn(words, r.stderr)
        self.assertEqual(r.stderr.count("is a picture"), 2)

    def test_a_path_that_is_pasted_is_a_file(self):
        path = self.c.home / "a b.txt"
        path.write_text("milk\n")
        self.terminal([f"'{path}' \r".encode(), b"one\r", b"\x04"])
        self.assertEqual(self.queen.said(), [("user", "a b.txt:\n```\nmilk\n```\n\none")])

    def test_what_is_no_utf8_is_told(self):
        self.model()
        r = subprocess.run(self.command(), capture_output=True, input=b"caf\xe9\none\n", env=self.c.env, timeout=60)
        self.assertIn(b"what was typed is no UTF-8: byte 4 is 0xe9", r.stderr)
        self.assertEqual((r.returncode, self.queen.said()), (0, [("user", "one")]))

    def test_ctrl_c_keeps_what_has_come(self):
        self.model(hold=True)
        with subprocess.Popen(self.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.c.env) as p:
            p.stdin.write("one\n")
            p.stdin.flush()
            self.assertEqual(p.stdout.read(6), "echo: ")
            p.send_signal(signal.SIGINT)
            self.assertTrue(self.queen.cancelled.wait(20))
            out, err = p.communicate("two\n", timeout=60)
        self.assertEqual((p.returncode, out), (0, "\necho: two\n"), err)
        self.assertIn("what had come is kept", err)
        self.assertEqual(self.queen.said(), [("user", "one"), ("assistant", "echo: "), ("user", "two")])

    def test_sigterm_ends_the_conversation(self):
        self.model(hold=True)
        with subprocess.Popen(self.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.c.env) as p:
            p.stdin.write("one\ntwo\n")
            p.stdin.flush()
            self.assertEqual(p.stdout.read(6), "echo: ")
            p.send_signal(signal.SIGTERM)
            self.assertEqual(p.wait(20), 128 + signal.SIGTERM)
            self.assertTrue(self.queen.cancelled.is_set(), "the answer is called off")
            self.assertEqual(len(self.queen.orders), 1, "what else had been typed is not asked")

    def test_a_signal_while_a_model_s_file_is_read(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            self.model()
            with self.subTest(number), subprocess.Popen(self.command("--hive", "box", model=str(self.c.home / "m.gguf")), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.c.env) as p:
                self.assertTrue(self.queen.reads.wait(20))
                p.send_signal(number)
                out, err = p.communicate("one\n", timeout=20)
                self.assertEqual((p.returncode, out), (128 + number, ""), err)
            self.assertEqual([(o["operation"], o["hive_id"]) for o in self.queen.orders], [("model_download", "box")], "nothing is asked any more")
        for number, code, orders in ((signal.SIGTERM, 128 + signal.SIGTERM, ["infer", "model_download"]), (signal.SIGINT, 0, ["infer", "model_download", "infer"])):
            self.model()
            with self.subTest(number), subprocess.Popen(self.command("--hive", "box"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.c.env) as p:
                p.stdin.write(f"one\n/model {self.c.home}/m.gguf\ntwo\n")
                p.stdin.flush()
                self.assertTrue(self.queen.reads.wait(20))
                p.send_signal(number)
                _, err = p.communicate(timeout=20)
                self.assertEqual(p.returncode, code, err)
            self.assertEqual([o["operation"] for o in self.queen.orders], orders)
            self.assertEqual(self.queen.orders[-1]["model"] == "m", number == signal.SIGINT, "it is still the model")

    def test_a_schema_is_typed_or_in_a_file(self):
        schema = '{"type": "object", "properties": {"a": {"const": 1}}}'
        (self.c.home / "s.json").write_text(schema)
        self.type(f"/set schema {schema}\none\n/set schema {self.c.home}/s.json\ntwo\n/set schema {{broken\nthree\n/bye\n")
        kept = [order["response_format"]["json_schema"]["schema"] for order in self.queen.orders]
        self.assertEqual(kept, [json.loads(schema)] * 3, "what cannot be read changes nothing")

    # What a person types.

    def test_ctrl_d_in_a_message_of_several_lines_drops_it(self):
        self.model()
        left = [b'"""half\r', b"of it\r", b"\x04", b"whole\r", b"\x04"]

        def on_output(got, fd):
            if left and got.count(b"\x1b[?2004h") > 5 - len(left):
                type_into(fd, left.pop(0))

        code, raw = on_a_terminal(self.command(), self.c.env | {"TERM": "xterm"}, 60, on_output)
        self.assertEqual((code, left), (0, []), raw)
        self.assertEqual(self.queen.said(0), [("user", "whole")], raw)
        self.assertIn(b"is dropped: nothing was sent", raw)

    def terminal(self, steps, **more):
        """Types each step when the prompt has come so often; returns what the terminal got."""
        self.model(**more)
        left = list(steps)

        def on_output(got, fd):
            if left and got.count(PROMPT) > len(steps) - len(left):
                type_into(fd, left.pop(0))

        code, raw = on_a_terminal(self.command("--quiet"), self.c.env | {"TERM": "xterm"}, 60, on_output)
        self.assertEqual((code, left), (0, []), raw)
        return raw

    def test_what_is_pasted_is_one_message(self):
        raw = self.terminal([b"\x1b[200~one\rtw\xc3\xb6\n\nthree\x1b[201~ four\r", b"\x04"])
        self.assertEqual(self.queen.said(), [("user", "one\ntwö\n\nthree four")], raw)
        self.assertEqual(raw.count(b"\x1b[?2004h"), raw.count(b"\x1b[?2004l"), raw)

    def test_alt_enter_begins_a_line(self):
        self.terminal([b"one\x1b\rtwo\r", b"\r", b"\x1b[A\r", b"/bye\r"])
        self.assertEqual([order["messages"][-1]["content"] for order in self.queen.orders], ["one\ntwo", "one\ntwo"], "the history has it whole")

    def test_ctrl_c_empties_the_line(self):
        raw = self.terminal([b"rubbish\x03", b"one\r", b"\x03", b"\x04"])
        self.assertEqual(self.queen.said(), [("user", "one")], raw)
        self.assertIn(b"rubbish^C\r\n", raw.replace(b"\x1b[?2004l", b""), "what follows begins a line")
        self.assertTrue(raw.replace(b"\x1b[?2004l", b"").endswith(b"\r\n"), raw[-40:])

    def test_ctrl_c_of_a_terminal_stops_the_answer(self):
        self.model(hold=True)
        typed = []

        def on_output(got, fd):
            if not typed:
                typed.append(type_into(fd, b"one\r"))
            elif len(typed) == 1 and b"lecho: " in got:
                typed.append(os.write(fd, b"\x03"))
            elif len(typed) == 2 and got.count(PROMPT) == 2:
                typed.append(type_into(fd, b"\x04"))

        code, raw = on_a_terminal(self.command(), self.c.env | {"TERM": "xterm"}, 60, on_output)
        self.assertEqual((code, self.queen.cancelled.is_set()), (0, True), raw)
        self.assertIn(b"\x1b[2mstopped; what had come is kept\x1b[0m", raw)
        left = [b"\x04"]
        _, raw = on_a_terminal(self.command(), self.c.env | {"TERM": "xterm", "NO_COLOR": "1"}, 60, lambda got, fd: PROMPT in got and left and type_into(fd, left.pop()))
        self.assertIsNone(re.search(rb"\x1b\[[02]m", raw))


if __name__ == "__main__":
    main()
