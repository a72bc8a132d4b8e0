"""What `llorch run` and `llorch chat` show of an answer: thoughts apart from it, calls of tools as what they are."""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading
import unittest

from colony import ROOT, STORIES, Colony, main
from keeper_test import DONE, END, START, Queen, frame
from scopes_test import TOKEN, start
from terminal_test import EVIL, OBEYED, OURS, on_a_terminal, type_into

sys.path.insert(0, str(ROOT / "tests/worker"))
from agents_test import CALL, TEMPLATE, TOOLS, says  # noqa: E402

THOUGHTS = frame(2, "token", t="<think>Hm", i=0, reasoning_content="Hm", content="") + frame(3, "token", t=", well</", i=1, reasoning_content=", well", content="") + frame(4, "token", t="think>salt ", i=2, content="salt ")
WIND = frame(5, "token", t="wind", i=3, content="wind")


def chunk(finish_reason=None, **delta):
    return "data: " + json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}) + "\n\n"


def call(index, *, name=None, arguments="", **more):
    return {"index": index, **more, "function": ({"name": name} if name else {}) | {"arguments": arguments}}


class Thoughts(unittest.TestCase):
    def setUp(self):
        self.c = Colony().__enter__()
        self.addCleanup(self.c.close)

    def command(self, *arguments, body=START + THOUGHTS + WIND + END + DONE, command=("infer", "--model", "m", "hello"), **more):
        self.queen = Queen(body, **more)
        self.addCleanup(self.queen.close)
        return self.c.command(*command, "--queen", self.queen.url, "--no-autostart", "--quiet", *arguments)

    def run_it(self, *arguments, stdin=None, **more):
        return subprocess.run(self.command(*arguments, **more), capture_output=True, text=True, input=stdin, env=self.c.env, timeout=60)

    def test_a_pipe_gets_the_answer_alone(self):
        for flags in ((), ("--no-stream",)):
            r = self.run_it(*flags)
            self.assertEqual((r.returncode, r.stdout, r.stderr), (0, "salt wind\n", ""))
            r = self.run_it("--show-thoughts", *flags)
            self.assertEqual((r.returncode, r.stdout, r.stderr), (0, "salt wind\n", "Hm, well\n"))

    def test_text_that_is_held_back_comes_with_the_end(self):
        r = self.run_it(body=START + THOUGHTS + frame(5, "end", tokens_out=4, content="</th") + DONE)
        self.assertEqual((r.returncode, r.stdout), (0, "salt </th\n"))

    def test_json_has_the_events_as_they_come(self):
        lines = [json.loads(line) for line in self.run_it("--json").stdout.splitlines()]
        self.assertEqual([d["type"] for d in lines], ["started", *["token"] * 4, "end"])
        self.assertEqual("".join(d.get("reasoning_content", "") for d in lines), "Hm, well")

    def test_what_came_before_an_answer_broke_off_has_no_thoughts(self):
        self.assertEqual(self.run_it(body=START + THOUGHTS).returncode, 1)
        self.assertEqual([f.read_text() for f in self.c.home.rglob("partial-*.txt")], ["salt "])

    def test_a_terminal_folds_them(self):
        code, raw = on_a_terminal(self.command(), self.c.env)
        count = r"\r\x1b\[K\x1b\[2mthinking \.\.\. %s\x1b\[0m"
        self.assertEqual(code, 0)
        self.assertRegex(raw.decode(), "^" + count % "1 token" + count % "2 tokens" + r"\r\x1b\[K\x1b\[2mthought for \d+\.\d s\x1b\[0m\r\nsalt wind\r\n$")
        code, raw = on_a_terminal(self.command("--show-thoughts"), self.c.env)
        self.assertEqual((code, raw.decode()), (0, "\x1b[2mHm, well\x1b[0m\r\nsalt wind\r\n"))

    def test_a_thought_that_is_all_there_is(self):
        code, raw = on_a_terminal(self.command(body=START + frame(2, "token", t="Hm", i=0, reasoning_content="Hm", content="") + END + DONE), self.c.env)
        self.assertEqual(code, 0)
        self.assertRegex(raw.decode(), r"\r\x1b\[K\x1b\[2mthought for \d+\.\d s\x1b\[0m\r\n$")

    def test_a_thought_commands_no_terminal(self):
        body = START + "".join(frame(2 + i, "token", t=t, i=i, reasoning_content=t, content="") for i, t in enumerate(EVIL[i:i + 3] for i in range(0, len(EVIL), 3))) + WIND + END + DONE
        for flags in ((), ("--show-thoughts",)):
            code, raw = on_a_terminal(self.command(*flags, body=body), self.c.env)
            self.assertEqual(code, 0)
            text = OURS.sub("", raw.decode()).replace("\r\n", "\n")
            self.assertIsNone(OBEYED.search(text), text.encode())
            self.assertEqual("title" in text, bool(flags))

    def test_a_conversation_shows_them_from_a_command_on_and_sends_none_back(self):
        r = self.run_it(command=("chat", "m"), stdin="one\n/thoughts\ntwo\n/thoughts\nthree\n\n")
        self.assertEqual((r.returncode, r.stdout.count("salt wind\n"), r.stderr.count("Hm, well\n")), (0, 3, 1), r)
        self.assertRegex(r.stderr, r"shown from now on\nHm, well\nthoughts are folded")
        self.assertEqual([m["content"] for m in self.queen.requests[-1][1]["messages"]], ["one", "salt wind", "two", "salt wind", "three"])

    def test_an_answer_ends_with_one_line_feed(self):
        for text in ("salt\n\nwind", "salt\n\nwind\n", "salt\n\nwind\n\n\n"):
            body = START + "".join(frame(2 + i, "token", t=t, i=i) for i, t in enumerate(text)) + END + DONE
            for flags in ((), ("--no-stream",)):
                self.assertEqual(self.run_it(*flags, body=body).stdout, "salt\n\nwind\n")
        self.assertEqual(self.run_it(body=START + frame(2, "token", t="\n", i=0) + END + DONE).stdout, "")

    def told(self, *flags, env=None):
        """Steps before, within and after an answer: what a pipe of both gets, and what a terminal gets."""
        step = [frame(9, "narration", action="a", human=f"step {i}", formatted=f"[x] step {i}", emitted_by="x") for i in range(3)]
        bar = frame(9, "progress", stage="downloading", bytes_downloaded=25_000_000, bytes_total=100_000_000, speed_mbps=5.0)
        command = [a for a in self.command(*flags, body=START + step[0] + bar + WIND + step[1] + WIND + END + step[2] + DONE) if a != "--quiet"]
        both = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.c.env, timeout=60).stdout
        code, raw = on_a_terminal(command, self.c.env | (env or {}))
        self.assertEqual(code, 0)
        return both, raw.decode().replace("\r\n", "\n")

    def test_answer_and_narration_do_not_run_into_each_other(self):
        body = START + frame(9, "progress", stage="loading", worker_id="w", percent=25, seconds=2.0) + WIND + END + DONE
        raw = on_a_terminal([a for a in self.command(body=body) if a != "--quiet"], self.c.env)[1].decode()
        self.assertIn("loading [###            ]  25 %  6.00 s left", raw)
        both, terminal = self.told()
        self.assertEqual(both.splitlines()[1:], ["[x] step 0", "windwind", "[x] step 1", "[x] step 2"])
        line = "\r\x1b[K\x1b[2m%s\x1b[0m"
        self.assertIn(line % "[x] step 0" + line % "downloading [###            ]  25 %  25.0 MB of 100 MB  5.00 MB/s  15.0 s left" + "\r\x1b[Kwindwind\n", terminal)
        self.assertTrue(terminal.endswith(line % "[x] step 1" + line % "[x] step 2" + "\n"), terminal)
        for flags, env in (((), {"NO_COLOR": "1"}), (("--narration", "steps"), {}), ((), {"TERM": "dumb"})):
            terminal = self.told(*flags, env=env)[1]
            self.assertEqual("\x1b[2m" in terminal, flags != (), terminal)
            self.assertEqual("\r\x1b[K[x] step 1" in terminal, "NO_COLOR" in env, terminal)
        self.assertIn("windwind\n[x] step 1\n[x] step 2\n", terminal)

    def test_run_joins_stdin_and_the_question(self):
        asked = lambda: self.queen.requests[-1][1]["prompt"]
        self.run_it(command=("run", "m", "What is this?"), stdin="salt\nwind\n")
        self.assertEqual(asked(), "salt\nwind\n\nWhat is this?")
        for command, stdin, prompt in ((("run", "m", "What?"), "", "What?"), (("run", "m"), "salt\n", "salt\n"), (("infer", "-m", "m", "What?"), "salt\n", "What?")):
            self.run_it(command=command, stdin=stdin)
            self.assertEqual(asked(), prompt, command)
        r = self.run_it(command=("run", "m"), stdin="")
        self.assertEqual((r.returncode, self.queen.requests), (2, []), r.stderr)

    def test_run_without_a_prompt_is_a_chat_on_a_terminal(self):
        typed = []

        def on_output(got, fd):
            if len(typed) < got.count(b"\x1b[?2004h> "):
                typed.append(type_into(fd, (b"hello\r", b"/bye\r")[len(typed)]))

        code, raw = on_a_terminal(self.command(command=("run", "m")), self.c.env, 60, on_output)
        self.assertEqual((code, self.queen.requests[-1][1]["messages"]), (0, [{"role": "user", "content": "hello"}]), raw)

    # Calls, by a queen that says what no model of a test would.

    def tools(self):
        path = self.c.home / "tools.json"
        path.write_text(json.dumps(TOOLS))
        return path

    def test_calls_of_a_chat_completion(self):
        calls = chunk(tool_calls=[call(0, id="a", type="function", name="weather")]) + chunk(tool_calls=[call(0, arguments='{"city":')]) + chunk(tool_calls=[call(0, arguments=' "Os\\u001b[31mlo"}')]) + chunk(tool_calls=[call(1, id="b", type="function", name="clock", arguments="{}")])
        chat = chunk(role="assistant", content="") + chunk(reasoning_content="Hm") + chunk(content="I look.") + calls + chunk("tool_calls") + DONE
        more = {"command": ("run", "m", "hello", "--tools", self.tools()), "body": START + END + DONE, "chat": chat}
        r = self.run_it(**more)
        self.assertEqual(r.returncode, 0, r.stderr)
        first, *lines = r.stdout.splitlines()
        self.assertEqual((first, [json.loads(line) for line in lines]), ("I look.", [{"id": "a", "name": "weather", "arguments": {"city": "Os\x1b[31mlo"}}, {"id": "b", "name": "clock", "arguments": {}}]))
        (load, order), (path, request) = self.queen.requests
        self.assertEqual((load, order, path), ("/v1/jobs", {"operation": "model_load", "model": "m"}, "/v1/chat/completions"))
        self.assertEqual((request["tools"], request["messages"], request.get("temperature")), (TOOLS, [{"role": "user", "content": "hello"}], None), "sampling is the worker's")
        code, raw = on_a_terminal(self.command(**more), self.c.env)
        self.assertEqual(code, 0)
        text = OURS.sub("", raw.decode()).replace("\r\n", "\n")
        self.assertRegex(text, r'thought for \d+\.\d s\nI look\.\n╭ weather\n│ city: "Os\\u001[bB]\[31mlo"\n╰ a\n╭ clock\n╰ b\n$')
        self.assertIsNone(OBEYED.search(text), text.encode())
        events = [json.loads(line) for line in self.run_it("--json", **more).stdout.splitlines()]
        self.assertEqual([e["type"] for e in events], ["token", "token", "call", "call", "end"])
        self.assertEqual(events[-1]["finish_reason"], "tool_calls")

    # A conversation with tools: the person gives their results.

    def converse(self, typed, answers, *flags, tools=None, **more):
        """What `llorch chat --tools` says to the typed lines; a chat completion for each of `answers`."""
        left = list(answers)

        def chat(handler):
            handler.answer(200, left.pop(0).encode(), "text/event-stream")

        command = self.command("--tools", tools or self.tools(), *flags, command=("chat", "m"), body=START + END + DONE, chat=chat)
        return subprocess.run(command, capture_output=True, text=True, input=typed, env=self.c.env, timeout=60, **more)

    def asked(self):
        return [request for path, request in self.queen.requests if path == "/v1/chat/completions"]

    CALLS = chunk(content="I look.") + chunk(tool_calls=[call(0, id="a", type="function", name="weather", arguments='{"city": "Oslo"}')]) + chunk(tool_calls=[call(1, id="b", type="function", name="clock", arguments="{}")]) + chunk("tool_calls") + DONE
    RAIN = chunk(content="Take a coat.") + chunk("stop") + DONE

    def test_a_conversation_goes_on_with_results(self):
        r = self.converse("Weather?\n12 degrees\nand rain\n\nnoon\n\nThanks\n", [self.CALLS, self.RAIN, self.RAIN], "--tool-choice", "required")
        self.assertEqual(r.returncode, 0, r.stderr)
        self.assertEqual(r.stdout.count("Take a coat.\n"), 2, r)
        self.assertIn('{"id":"a","name":"weather","arguments":{"city":"Oslo"}}\n', r.stdout)
        user = {"role": "user", "content": "Weather?"}
        called = {"role": "assistant", "content": "I look.", "tool_calls": [{"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}, {"id": "b", "type": "function", "function": {"name": "clock", "arguments": "{}"}}]}
        results = [{"role": "tool", "tool_call_id": "a", "content": "12 degrees\nand rain"}, {"role": "tool", "tool_call_id": "b", "content": "noon"}]
        said = {"role": "assistant", "content": "Take a coat."}
        first, second, third = self.asked()
        self.assertEqual([r["messages"] for r in (first, second, third)], [[user], [user, called, *results], [user, called, *results, said, {"role": "user", "content": "Thanks"}]])
        self.assertEqual([r["tool_choice"] for r in (first, second, third)], ["required", "auto", "required"], "who must call has called")
        self.assertEqual(third["tools"], TOOLS)

    def test_a_question_whose_call_has_no_result_is_taken_back(self):
        cut = chunk(tool_calls=[call(0, id="a", type="function", name="weather", arguments='{"city": "Os')]) + chunk("length") + DONE
        for typed, answers in (("Weather?\n\nHello\n", [self.CALLS, self.RAIN]), ("Weather?\nrain\n\n\nHello\n", [self.CALLS, self.RAIN]), ("Weather?\nHello\n", [cut, self.RAIN])):
            r = self.converse(typed, answers)
            self.assertEqual((r.returncode, "Take a coat.\n" in r.stdout), (0, True), r)
            self.assertEqual(self.asked()[-1]["messages"], [{"role": "user", "content": "Hello"}], typed)
            self.assertEqual("broke off" in r.stderr, answers[0] == cut)
        self.assertEqual(self.converse("Weather?\nrain", [self.CALLS]).returncode, 0, "the input ends")

    def test_results_are_asked_for_on_a_terminal(self):
        steps = [(b"> ", b"Weather?\n"), (b"= ", b"rain\n"), (b"= ", b"\n"), (b"> ", b"/bye\n")]
        one = chunk(tool_calls=[call(0, id="a", type="function", name="weather", arguments='{"city": "Oslo"}')]) + chunk("tool_calls") + DONE
        answers = [one, self.RAIN]

        def chat(handler):
            handler.answer(200, answers.pop(0).encode(), "text/event-stream")

        seen = [0]

        def typed(got, fd):
            while steps and (at := got.find(steps[0][0], seen[0])) >= 0:
                seen[0] = at + len(steps[0][0])
                os.write(fd, steps.pop(0)[1])

        command = self.command("--tools", self.tools(), command=("chat", "m"), body=START + END + DONE, chat=chat)
        code, raw = on_a_terminal(command, self.c.env | {"TERM": "dumb"}, on_output=typed)
        text = OURS.sub("", raw.decode()).replace("\r", "")
        self.assertEqual((code, steps), (0, []), text)
        self.assertRegex(text, r'(?s)╭ weather\n│ city: "Oslo"\n╰ a\n.*Take a coat\.\n')
        self.assertEqual(self.asked()[-1]["messages"][-1], {"role": "tool", "tool_call_id": "a", "content": "rain"})

    def test_tools_from_a_pipe(self):
        answer = chunk(content="salt") + DONE
        with open(self.tools()) as tools:
            r = self.run_it("--tools", "-", command=("run", "m", "hello"), body=START + END + DONE, chat=answer, stdin=tools.read())
        self.assertEqual((r.returncode, r.stdout, self.asked()[0]["tools"]), (0, "salt\n", TOOLS), r.stderr)
        for command in (("run", "m", "hello"), ("chat", "m")):
            read, write = os.pipe()
            os.write(write, json.dumps(TOOLS).encode())
            os.close(write)
            command = self.command("--tools", f"/dev/fd/{read}", command=command, body=START + END + DONE, chat=answer)
            r = subprocess.run(command, capture_output=True, text=True, input="hello\n", env=self.c.env, timeout=60, pass_fds=[read])
            os.close(read)
            self.assertEqual((r.returncode, "salt\n" in r.stdout, self.asked()[0]["tools"]), (0, True, TOOLS), r.stderr)
        # Who talks on stdin cannot give the tools there, too.
        for command, words in ((("run", "m"), "give the prompt as an argument"), (("chat", "m"), "no terminal")):
            r = subprocess.run(self.command("--tools", "-", command=command), capture_output=True, text=True, input=json.dumps(TOOLS), env=self.c.env, timeout=60, start_new_session=True)
            self.assertEqual((r.returncode, r.stdout, self.queen.posted), (2, "", []), r.stderr)
            self.assertIn(words, r.stderr)

    def test_a_chat_completion_that_breaks_off_is_no_answer(self):
        for chat, words in ((chunk(content="salt"), "STREAM_TRUNCATED"), (chunk(content="salt") + 'data: {"error": {"code": "WORKER_CRASHED", "message": "it ended"}}\n\n', "WORKER_CRASHED: it ended"), (chunk(content="salt") + "data: x\n\n" + DONE, "STREAM_MALFORMED")):
            r = self.run_it(command=("run", "m", "hello", "--tools", self.tools()), body=START + END + DONE, chat=chat)
            self.assertEqual((r.returncode, r.stdout), (1, "salt\n"), r.stderr)
            self.assertIn(words, r.stderr)

    def test_a_full_queen_is_asked_again(self):
        r = self.run_it(command=("run", "m", "hello", "--tools", self.tools()), body=START + END + DONE, chat=chunk(content="salt") + DONE, refusals=[(429, "1")])
        self.assertEqual((r.returncode, r.stdout, len(self.queen.posted)), (0, "salt\n", 3), r.stderr)

    def test_ctrl_c_leaves_a_chat_completion(self):
        """Which cancels it: the queen sees that her client has gone."""
        left = threading.Event()

        def chat(handler):
            handler.send_response(200)
            handler.send_header("Content-Type", "text/event-stream")
            handler.end_headers()
            handler.wfile.write(chunk(content="salt").encode())
            handler.wfile.flush()
            if not handler.connection.recv(1):
                left.set()

        command = self.command(command=("run", "m", "hello", "--tools", self.tools()), body=START + END + DONE, chat=chat)
        with subprocess.Popen(command, env=self.c.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as p:
            self.assertEqual(p.stdout.read(4), b"salt")
            p.send_signal(signal.SIGINT)
            self.assertEqual((p.wait(20), p.stdout.read(), p.stderr.read()), (130, b"\n", b""))
        self.assertTrue(left.wait(10))

    def test_tools_that_cannot_be_used(self):
        good, bad = self.tools(), self.c.home / "bad.json"
        bad.write_text('[{"name": "clock"},\n {"parameters": {}}]')
        twice = self.c.home / "twice.json"
        twice.write_text('[{"name": "clock"}, {"name": "a", "name": "b"}]')
        broken = self.c.home / "broken.json"
        broken.write_text('[\n{"name": clock}]')
        for flags, words in (
            (("--tools", bad), f"{bad}: [1].name"),
            (("--tools", twice), f"{twice}: [1].name: the key stands twice in one object"),
            (("--tools", broken), f"{broken} is not valid JSON: syntax error (line 2)"),
            (("--tools", self.c.home / "none"), str(self.c.home / "none")),
            (("--tools", good, "--tool-choice", "rain"), "--tool-choice rain: must be auto, required, none or the name of a tool: weather, clock"),
            (("--tool-choice", "auto"), "--tools"),
            (("--tools", good, "--hive", "x"), "--tools and --hive"),
            (("--tools", good, "--raw"), "--tools and --raw"),
        ):
            r = self.run_it(*flags, command=("run", "m", "hello"))
            self.assertEqual((r.returncode, r.stdout, self.queen.posted), (2, "", []), (flags, r.stderr))
            self.assertIn(words, r.stderr)


def model(folder, template):
    """The tiny model with a chat template of its own."""
    source, target = pathlib.Path(folder) / "template.jinja", pathlib.Path(folder) / "model.gguf"
    source.write_text(template)
    subprocess.run([sys.executable, "-m", "gguf.scripts.gguf_new_metadata", "--force", "--chat-template-file", source, STORIES, target], check=True, capture_output=True)
    return target


def names_called(text):
    """Of lines that are calls; a model that must call may do so several times."""
    return {json.loads(line)["name"] for line in text.splitlines()}


@unittest.skipUnless(STORIES.exists(), f"no {STORIES}")
class RealColony(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.tools = pathlib.Path(self.folder.name) / "tools.json"
        clock = {"name": "clock", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}
        self.tools.write_text(json.dumps([TOOLS[0]["function"], clock]))

    def grammar(self, text):
        path = pathlib.Path(self.folder.name) / "says.gbnf"
        path.write_text(says(text))
        return path

    def test_calls_from_a_cold_start(self):
        path = model(self.folder.name, TEMPLATE)
        with Colony() as c:
            r = c.keeper("run", path, "Weather?", "--tools", self.tools, "--grammar", self.grammar("I look. " + CALL), "-n", "200")
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertRegex(r.stderr, r"\[queen\] the hive \S+ is starting")
            text, line = r.stdout.splitlines()
            made = json.loads(line)
            self.assertEqual((text.strip(), made["name"], made["arguments"]), ("I look.", "weather", {"city": "Oslo", "days": 2}))
            self.assertTrue(made["id"])
            c.assert_nothing_left()

    def test_calls_by_a_queen_that_stays(self):
        path = model(self.folder.name, TEMPLATE)
        with Colony() as c:
            c.queen()

            def run(*flags):
                return c.command("run", path, "Weather?", "--tools", self.tools, "-n", "200", "--quiet", *flags)

            def piped(*flags):
                return subprocess.run(run(*flags), capture_output=True, text=True, env=c.env, timeout=60)

            code, raw = on_a_terminal(run("--grammar", self.grammar(CALL)), c.env)
            self.assertEqual(code, 0, raw)
            self.assertRegex(raw.decode(), r'^╭ weather\r\n│ city: "Oslo"\r\n│ days: 2\r\n╰ \S+\r\n$')
            r = piped("--tool-choice", "clock")
            self.assertEqual((r.returncode, names_called(r.stdout)), (0, {"clock"}), r.stderr)
            r = piped("--tool-choice", "none", "--grammar", self.grammar(CALL))
            self.assertEqual((r.returncode, r.stdout), (0, CALL + "\n"), r.stderr)
            talk = c.command("chat", path, "--tools", self.tools, "--tool-choice", "clock", "-n", "60", "--quiet")
            r = subprocess.run(talk, capture_output=True, text=True, input="What time is it?\nnoon\n\n", env=c.env, timeout=60)
            self.assertEqual((r.returncode, names_called(r.stdout.splitlines()[0])), (0, {"clock"}), r.stderr)
            self.assertGreater(len(r.stdout.splitlines()), 1, "the answer to the result")
            r = subprocess.run(c.command("run", "haiku", "x", "--tools", self.tools, "--quiet"), capture_output=True, text=True, env=c.env, timeout=60)
            self.assertEqual((r.returncode, r.stdout), (1, ""), r.stderr)
            self.assertIn("unsupported_value: this model's chat template shows no calls of tools", r.stderr)

    def test_a_key_that_may_infer_and_no_more(self):
        path = model(self.folder.name, TEMPLATE)
        with Colony() as c:
            ann, _ = start(c)
            (c.home / "ann").write_text(ann["Authorization"].split()[1])
            (c.home / "ann").chmod(0o600)
            admin = {"Authorization": "Bearer " + TOKEN}
            self.assertEqual(c.job({"operation": "model_load", "model": str(path)}, admin)[-1][1], "end")
            r = c.keeper("run", path, "Weather?", "--tools", self.tools, "--tool-choice", "clock", "--token-file", c.home / "ann", "--quiet")
            self.assertEqual((r.returncode, names_called(r.stdout)), (0, {"clock"}), r.stderr)

    def test_thoughts_of_a_model(self):
        """This one never ends its thought."""
        path = model(self.folder.name, "{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}")
        with Colony() as c:
            c.queen()
            ask = ("run", path, "Once upon a time", "-n", "20", "--temperature", "0", "--quiet")
            folded, shown, raw = c.keeper(*ask), c.keeper(*ask, "--show-thoughts"), c.keeper(*ask, "--raw")
            self.assertEqual((folded.returncode, folded.stdout, folded.stderr), (0, "", ""))
            self.assertEqual(shown.stdout, "", "an answer without text has no line")
            self.assertRegex(shown.stderr, r"\w+ \w+")
            self.assertRegex(raw.stdout, r"\w+ \w+", "without a template all is the answer")


if __name__ == "__main__":
    main()
