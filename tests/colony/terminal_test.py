"""Nothing that did not come from our own source commands a terminal: a real one (a pty) is held before each program (15.19)."""
import fcntl
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time
import unittest

from colony import BIN, SANITIZED, Colony, main, not_run, wait_for
from keeper_test import DONE, END, START, TOKENS, Queen

EVIL = "a\x1b[31mred\x1b]0;title\x07\x1b]8;;http://x\x1b\\link\x1b]52;c;aGk=\x07\x9b2J\u202eturned\x7f\x08\rover"
# What a terminal would obey: C0 but line feed and tab, DEL, C1 as UTF-8, turned text.
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u202a-\u202e\u2066-\u2069]")


OURS = re.compile("\r\x1b\\[K|\x1b\\[[02]m")  # a line that is replaced; dim letters


def type_into(fd, keys):
    """Once the line editor takes keys: it writes its prompt before, and of what comes meanwhile the terminal keeps Ctrl-D to itself."""
    wait_for(lambda: not termios.tcgetattr(fd)[3] & termios.ICANON)
    return os.write(fd, keys)


def on_a_terminal(arguments, env, seconds=60, on_output=None, columns=None):
    """(exit code, what the terminal got as bytes). `on_output` is called with all of it, and with what may be typed into, whenever more has come."""
    pid, fd = pty.fork()
    if pid == 0:
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):  # whoever started the suite may ignore them
            signal.signal(number, signal.SIG_DFL)
        if columns:
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        os.environ.clear()
        os.environ.update({"TERM": "xterm"} | env)
        os.execv(str(arguments[0]), [str(a) for a in arguments])
    got, end = b"", time.monotonic() + seconds
    while time.monotonic() < end:
        if select.select([fd], [], [], 1)[0]:
            try:
                piece = os.read(fd, 65536)
            except OSError:
                break
            if not piece:
                break
            got += piece
            if on_output:
                on_output(got, fd)
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), got


def gguf(path, metadata):
    """A model file with this metadata and one tensor."""
    def text(s):
        raw = s if isinstance(s, bytes) else s.encode()
        return struct.pack("<Q", len(raw)) + raw
    out = b"GGUF" + struct.pack("<IQQ", 3, 1, len(metadata))
    for key, value in metadata.items():
        out += text(key) + struct.pack("<I", 8) + text(value)
    out += text("t" + EVIL) + struct.pack("<IQIQ", 1, 32, 0, 0)
    out += b"\0" * (-len(out) % 32) + b"\0" * 128
    path.write_bytes(out)


class Terminal(unittest.TestCase):
    def test_letters_of_every_language_are_typed(self):
        for locale in ({}, {"LC_ALL": "C.UTF-8"}):
            with Colony() as c:
                c.queen()
                typed = []

                def on_output(got, fd):
                    if not typed and b">" in got:
                        typed.append(type_into(fd, "café 日本 привет\n".encode()))
                    elif len(typed) == 1 and re.search("привет.*\n.*> ".encode(), got, re.S):
                        typed.append(type_into(fd, b"\x04"))

                env = {k: v for k, v in c.env.items() if k not in ("LANG", "LC_ALL", "LC_CTYPE")} | locale | {"TERM": "xterm-256color"}
                code, raw = on_a_terminal(c.command("chat", "haiku", "--quiet", "-n", "3"), env, 30, on_output)
                self.assertIn("café 日本 привет", raw.decode(errors="replace"), locale)

    def harmless(self, raw, *contains):
        """Line ends apart, which a terminal makes CR LF of, and what the keeper itself tells a terminal."""
        text = OURS.sub("", raw.decode())  # valid UTF-8
        found = OBEYED.search(text.replace("\r\n", "\n"))
        self.assertIsNone(found, text[max(0, (found.start() if found else 0) - 40):][:120].encode())
        for part in contains:
            self.assertIn(part, text)

    def queen(self, body, **more):
        queen = Queen(body, **more)
        self.addCleanup(queen.close)
        return queen

    def test_tokens_narration_and_errors_of_a_daemon(self):
        def event(kind, **data):
            return f"event: {kind}\ndata: {json.dumps({'type': kind, 'seq': 1, **data})}\n\n"
        cut = [EVIL[i:i + 3] for i in range(0, len(EVIL), 3)]  # escapes end in another token than they begin
        body = START + event("narration", human=EVIL, formatted="[x] " + EVIL, action="a") + "".join(event("token", t=t, i=i) for i, t in enumerate(cut))
        for tail, code in ((END, 0), (event("error", code="INTERNAL", message=EVIL), 1)):
            queen = self.queen(body + tail + DONE, step=7)
            with Colony() as c:
                command = c.command("infer", "--model", "m", "hello", "--queen", queen.url, "--no-autostart")
                exit_code, raw = on_a_terminal(command, c.env)
                self.assertEqual(exit_code, code, raw)
                self.harmless(raw, "red", "title", "turned", "over")
                exit_code, raw = on_a_terminal([*command, "--json"], c.env)
                self.harmless(raw)
                lines = [json.loads(line) for line in raw.decode().splitlines() if '"token"' in line]
                self.assertEqual("".join(d["t"] for d in lines), EVIL, "escaped, and the same")
                piped = subprocess.run(command, capture_output=True, env=c.env, timeout=60)
                self.assertEqual(piped.stdout.decode().rstrip("\n"), EVIL, "a pipe gets what there is")

    def test_a_person_without_an_editor_types_plain_lines(self):
        """libedit's el_init() gives none when there is no memory for it (15.11)."""
        compiler = shutil.which("g++")
        if SANITIZED or not compiler:
            return not_run("a program under sanitizers takes no library before its own" if SANITIZED else "there is no g++")
        queen = self.queen(START + TOKENS + END + DONE)
        with Colony() as c:
            library = c.home / "no_editor.so"
            source = b'#include <cstdio>\nextern "C" void* el_init() { return std::fputs("no editor", stderr), nullptr; }'
            subprocess.run([compiler, "-shared", "-fPIC", "-x", "c++", "-", "-o", library], input=source, check=True)
            command = c.command("chat", "m", "--queen", queen.url, "--no-autostart")
            for env in ({}, {"LD_PRELOAD": str(library)}):
                asked, typed = len(queen.posted), []

                def on_output(got, fd):
                    if not typed and b"leaves" in got:
                        typed.append(os.write(fd, b"hello\n"))
                    elif len(typed) == 1 and b"salt wind" in got:
                        typed.append(os.write(fd, b"/bye\n"))

                code, raw = on_a_terminal(command, c.env | env, 60, on_output)
                self.assertEqual((code, len(queen.posted)), (0, asked + 1), raw)
                self.assertEqual(b"no editor" in raw, bool(env))

    def test_names_in_a_model_file(self):
        with tempfile.TemporaryDirectory() as d:
            path = pathlib.Path(d) / "m.gguf"
            gguf(path, {"general.architecture": "llama", "general.name": EVIL, "broken.text": b"x\xff\x9b\xc2"})
            code, raw = on_a_terminal([BIN / "llorch-gguf", "inspect", path], dict(os.environ))
            self.assertEqual(code, 0, raw)
            self.harmless(raw, "title", "turned")
            code, raw = on_a_terminal([BIN / "llorch-gguf", "inspect", "--json", path], dict(os.environ))
            self.harmless(raw)
            self.assertEqual(json.loads(raw)["metadata"]["general.name"], EVIL)

    def test_what_ssh_says(self):
        """A host that is reached has banners and errors of its own; each line is shown when it comes."""
        with Colony() as c:
            ssh, seen = c.home / "bin/ssh", c.home / "seen"
            ssh.parent.mkdir()
            os.mkfifo(seen)
            raw = EVIL.encode() + b"\xff\r\n"
            (c.home / "banner").write_bytes(raw)
            # It goes on when its first line was on the terminal.
            ssh.write_text(f"#!/bin/sh\ncat {c.home}/banner >&2\nread -r line < {seen}\ncat {c.home}/banner >&2\nexit 255\n")
            ssh.chmod(0o755)
            env = c.env | {"PATH": f"{ssh.parent}:{os.environ['PATH']}"}
            command = c.command("hive", "install", "-a", "host.example")

            def on_output(got, _):
                if got.count(b"over") == 1:
                    seen.write_text("go on\n")

            code, got = on_a_terminal(command, env, on_output=on_output)
            self.assertEqual(code, 1, got)
            self.harmless(got, "red", "title", "turned", "ssh does not reach")
            self.assertEqual(got.count(b"over"), 2)
            seen.unlink()
            seen.write_text("go on\n")
            piped = subprocess.run(command, capture_output=True, env=env, timeout=60)
            self.assertIn(raw + raw, piped.stderr, "a pipe gets what there is")

    def test_errors_of_the_command_line_and_of_a_configuration_file(self):
        """An argument, and a key of a file, may be text that somebody else wrote."""
        with tempfile.TemporaryDirectory() as d:
            env = dict(os.environ) | {"HOME": d}
            config = pathlib.Path(d) / "c.toml"
            config.write_text(f'port = "{EVIL}"\n')
            unknown = pathlib.Path(d) / "u.toml"
            unknown.write_text(f'"{EVIL}" = 1\n')
            for arguments in (["status", EVIL], [EVIL], ["status", "--" + EVIL], ["--config", config, "status"], ["--config", unknown, "status"]):
                code, raw = on_a_terminal([BIN / "llorch", *arguments], env)
                self.assertEqual(code, 2, raw)
                self.harmless(raw)
            for path in (config, unknown):
                code, raw = on_a_terminal([BIN / "llorch-queen", "--config", path], env)
                self.assertEqual(code, 2, raw)
                self.harmless(raw)

    def test_text_of_a_model(self):
        worker = BIN / "llorch-worker-cpu"
        ids = json.loads(subprocess.run([worker, "tokenize", "-m", "builtin:haiku", "--text", EVIL.replace("\0", ""), "--json"], capture_output=True, check=True).stdout)["ids"]
        command = [worker, "detokenize", "-m", "builtin:haiku", "--ids", ",".join(map(str, ids))]
        code, raw = on_a_terminal(command, dict(os.environ))
        self.assertEqual(code, 0, raw)
        self.harmless(raw, "red", "turned")
        self.assertEqual(subprocess.run(command, capture_output=True, check=True).stdout.decode().rstrip("\n"), EVIL)


if __name__ == "__main__":
    main()
