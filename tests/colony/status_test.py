"""`llorch status` and `llorch top`: what each worker is, takes and does; and the same in the queen's metrics."""
import os
import re
import signal
import subprocess
import unittest

from colony import MAY_STOP, SANITIZED, Colony, main, wait_for
from terminal_test import on_a_terminal


def unread(port):
    """Whether a request waits there that nobody reads (Linux: proc(5), /proc/net/tcp)."""
    with open("/proc/net/tcp") as f:
        rows = [line.split() for line in f.readlines()[1:]]
    return any(local.endswith(f":{port:04X}") and state == "01" and int(queues.split(":")[1], 16) for _, local, _, state, queues, *_ in rows)


class Status(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.c = Colony().__enter__()
        cls.addClassCleanup(cls.c.close)
        cls.c.queen("--idle-stop-sec", "600")
        cls.c.infer()
        cls.worker = wait_for(lambda: next((w for w in cls.c.call("GET", "/v1/status")[2]["workers"] if (w.get("tokens_out_per_s") or 0) > 0 and w.get("rss_mb")), None), 30)

    def test_a_workers_figures(self):
        """By the worker, by its hive, and by the queen."""
        w = self.worker
        self.assertEqual((w["model_ref"], w["context"], w["queue_depth"], w["inflight"]), ("builtin:haiku", 256, 0, 0))
        self.assertGreater(w["tokens_in_per_s"], 0)
        self.assertTrue(0 < w["sleeps_in_s"] <= 600, w)
        self.assertRegex(w["quant"], r"^[A-Z0-9_]+$")

    def test_status_is_a_table_for_people(self):
        said = self.c.keeper("status").stdout
        lines = said.splitlines()
        self.assertRegex(lines[0], r"^queen \S+, awake for \d+")
        header = next(line for line in lines if line.strip().startswith("worker"))
        row = next(line for line in lines if "builtin:haiku" in line)
        for name in ("model", "quant", "context", "memory", "tok/s in", "tok/s out", "running", "queued", "sleeps in"):
            self.assertIn(name, header)
        self.assertRegex(row, r"^  \S+/worker-cpu-\d+ +builtin:haiku +\S+ +256 +cpu +(ready|busy) +[\d.]+ MB of [\d.]+ [MG]B +[\d.]+ +[\d.]+ +0 +0 +(\d+ min( \d+ s)?|-)$")
        self.assertRegex(said, r"device cpu +.+, [\d.]+ GB of [\d.]+ GB free")
        self.assertNotRegex(said, r"\d[eE][-+]\d| \n")

    def test_lists_have_figures_for_people(self):
        said = self.c.keeper("hive", "list").stdout
        self.assertRegex(said, r"^id +url +version +seen +clock_skew\n\S+ +http\S+ +\S+ +[\d.]+ m?s ago +0 ms\n$")

    def test_it_fits_the_terminal(self):
        widths = {}
        for columns in (80, 100, 120, 200):
            for command in (("status",), ("top",)):
                typed = []
                _, raw = on_a_terminal(self.c.command(*command), self.c.env | {"TERM": "xterm"}, 30, lambda got, fd: b"queue: " in got and not typed and typed.append(command == ("top",) and os.write(fd, b"q")), columns=columns)
                lines = [re.sub(r"\x1b\[[0-9]*[A-Za-z]", "", line) for line in raw.decode().replace("\r", "").split("\n")]
                self.assertLessEqual(max(map(len, lines)), columns, lines)
                header = next(line for line in lines if line.strip().startswith("worker"))
                widths[columns] = len(header.split("  "))
                row = next(line for line in lines if "builtin:haiku" in line)
                for kept in ("worker", "model", "tok/s out"):
                    self.assertIn(kept, header)
                self.assertIn("/worker-cpu-", row)
        self.assertLess(widths[80], widths[200], "what matters least is left out")
        self.assertIn("sleeps in", self.c.keeper("status").stdout, "a pipe has any width")

    def test_top_ends_by_q_and_leaves_a_terminal_as_it_was(self):
        seen = []

        def on_output(got, fd):
            if b"queue: " in got and not seen:
                seen.append(os.write(fd, b"xq"))

        code, raw = on_a_terminal(["/bin/sh", "-c", 'stty -a > "$HOME/before"; "$@"; code=$?; stty -a > "$HOME/after"; exit $code', "sh", *self.c.command("top", "--interval", "60")], self.c.env | {"TERM": "xterm"}, 30, on_output)
        self.assertEqual((code, b"q leaves" in raw), (0, True), raw)
        self.assertEqual((self.c.home / "before").read_text(), (self.c.home / "after").read_text())

    def test_top_leaves_a_terminal_as_it_was_by_every_key_of_the_terminal(self):
        """Ctrl-C, Ctrl-backslash; Ctrl-Z, after which it goes on in the foreground."""
        script = 'ulimit -c 0; set -m; stty -a > "$HOME/before"; "$@"; code=$?; stty -a > "$HOME/between"; [ $code = 148 ] && { fg; code=$?; }; stty -a > "$HOME/after"; exit $code'
        for key, code in ((b"\x03", 130), (b"\x1c", 131), (b"\x1a", 0)):
            for name in ("before", "between", "after"):
                (self.c.home / name).unlink(missing_ok=True)
            typed = []

            def on_output(got, fd):
                if b"q leaves" in got and not typed:
                    typed.append(os.write(fd, key))
                elif got.count(b"q leaves") > 2 and code == 0 and len(typed) == 1 and (self.c.home / "between").exists():
                    typed.append(os.write(fd, b"q"))

            ended, raw = on_a_terminal(["/bin/sh", "-c", script, "sh", *self.c.command("top", "--interval", "1")], self.c.env | {"TERM": "xterm"}, 30, on_output)
            self.assertEqual(ended, code, raw)
            for name in ("between", "after"):
                self.assertEqual((self.c.home / name).read_text(), (self.c.home / "before").read_text(), (key, name))

    def test_top_ends_by_ctrl_c_while_the_queen_hangs(self):
        with Colony(**MAY_STOP) as c:
            c.queen()
            queen = next(pid for pid, line in c.census() if line.split()[0].endswith("/llorch-queen"))
            typed = []

            def on_output(got, fd):
                if b"q leaves" in got and not typed:
                    os.kill(queen, signal.SIGSTOP)
                    wait_for(lambda: unread(c.queen_port), 10)  # it has begun to ask her
                    typed.append(os.write(fd, b"\x03"))

            try:
                code, raw = on_a_terminal(c.command("top", "--interval", "1"), c.env | {"TERM": "xterm"}, 30, on_output)
            finally:
                os.kill(queen, signal.SIGCONT)
            self.assertEqual((code, b"asleep" in raw), (130, False), raw)

    def test_figures_are_those_of_now(self):
        """Two seconds old at most, though this queen's hive reports every 30 s."""
        with Colony() as c:
            c.queen(heartbeat_s=30)
            c.infer()
            for _ in range(3):
                before = next(iter(c.call("GET", "/v1/status")[2]["workers"]))["tokens_out_per_s"]
                c.infer(max_tokens=200, ignore_eos=True)
                wait_for(lambda: next(iter(c.call("GET", "/v1/status")[2]["workers"]))["tokens_out_per_s"] != before, 10 if SANITIZED else 4)

    def test_top_is_kept_current(self):
        seen = []

        def on_output(got, fd):
            if got.count(b"\x1b[H") >= 3 and not seen:
                seen.append(os.write(fd, b"\x03"))

        code, raw = on_a_terminal(self.c.command("top", "--interval", "1"), self.c.env | {"TERM": "xterm"}, 30, on_output)
        self.assertEqual(code, 130, raw)
        text = raw.decode()
        self.assertTrue(text.startswith("\x1b[2J\x1b[H"), text[:40])
        self.assertGreaterEqual(text.count("builtin:haiku"), 2)
        r = subprocess.run(self.c.command("top"), capture_output=True, text=True, env=self.c.env, timeout=30)
        self.assertEqual((r.returncode, r.stdout.count("builtin:haiku")), (0, 1), "without a terminal it is shown once")

    def test_the_queens_metrics_have_them(self):
        text = self.c.call("GET", "/metrics")[2]
        w = self.worker
        for name in ("tokens_in_per_second", "tokens_out_per_second", "queue_depth", "requests_active", "resident_bytes", "promised_bytes", "context_tokens", "uptime_seconds"):
            value = re.search(rf'llorch_queen_worker_{name}{{hive="{w["hive_id"]}",model="builtin:haiku",worker="{w["worker_id"]}"}} (\S+)\n', text)
            self.assertTrue(value, (name, text))
        self.assertIn('} 256\n', text[text.index("llorch_queen_worker_context_tokens{"):])
        self.assertEqual(text.count("llorch_queen_build_info{"), 1)

    def test_z_a_worker_that_has_gone_is_in_no_metric(self):
        self.c.keeper("model", "unload", "builtin:haiku")
        wait_for(lambda: "llorch_queen_worker_context_tokens{" not in self.c.call("GET", "/metrics")[2], 20)


if __name__ == "__main__":
    main()
