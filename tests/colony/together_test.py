"""Several commands and one queen that the first of them has started: she ends with the last, however each of them ends."""
import fcntl
import http.server
import os
import signal
import subprocess
import unittest

from colony import Colony, main, wait_for
from listener import Listener


class Together(unittest.TestCase):
    def setUp(self):
        self.c = Colony().__enter__()
        self.addCleanup(self.c.close)

    def begin(self, *arguments):
        p = subprocess.Popen(self.c.command(*arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.c.env)
        self.addCleanup(p.stdout.close)
        self.addCleanup(p.stderr.close)
        self.addCleanup(p.kill)
        return p

    def chat(self):
        """One that has got an answer, and goes on."""
        p = self.begin("chat", "haiku", "--quiet", "-n", "4")
        self.ask(p)
        return p

    def ask(self, p):
        p.stdin.write("Write a haiku about rain\n")
        p.stdin.flush()
        self.assertTrue(p.stdout.readline().strip(), "no answer")

    def queens(self):
        return [pid for pid, line in self.c.census() if line.split()[0].endswith("/llorch-queen")]

    def test_the_first_to_end_leaves_the_queen_to_the_other(self):
        first = self.chat()
        second = self.chat()
        queens = self.queens()
        self.assertEqual(len(queens), 1)
        out, err = first.communicate("/bye\n", timeout=30)
        self.assertEqual(first.returncode, 0, err)
        self.ask(second)
        self.assertEqual(self.queens(), queens)
        second.communicate("/bye\n", timeout=30)
        self.assertEqual(self.c.census(), [], "who was the last has waited for her end")

    def test_whoever_has_started_her_may_be_killed(self):
        first, second = self.chat(), self.chat()
        queens = self.queens()
        first.kill()
        first.wait(10)
        self.ask(second)
        self.assertEqual(self.queens(), queens)
        second.kill()
        second.wait(10)
        self.c.assert_nothing_left()

    def test_both_at_once_start_one(self):
        both = [self.begin("run", "haiku", "Write a haiku about rain", "--quiet", "-n", "4") for _ in range(4)]
        for p in both:
            out, err = p.communicate(timeout=60)
            self.assertEqual((p.returncode, err), (0, ""))
            self.assertTrue(out.strip())
        self.c.assert_nothing_left()

    def test_one_that_is_wanted_for_good_stays(self):
        first = self.chat()
        queens = self.queens()
        self.assertTrue(self.c.call("GET", "/v1/info")[2]["ends_when_unused"])
        self.assertEqual(self.c.keeper("queen", "start").returncode, 0)
        self.assertFalse(self.c.call("GET", "/v1/info")[2]["ends_when_unused"])
        first.communicate("/bye\n", timeout=30)
        self.assertEqual(self.queens(), queens)
        self.assertEqual(self.c.keeper("run", "haiku", "x", "--quiet", "-n", "2").returncode, 0)
        self.assertEqual(self.queens(), queens)
        self.assertEqual(self.c.keeper("queen", "stop").returncode, 0)
        self.c.assert_nothing_left()

    def test_a_chat_starts_her_again_and_has_lost_nothing(self):
        for number in (signal.SIGKILL, signal.SIGTERM):
            chat = self.begin("chat", "haiku", "-n", "4")
            self.ask(chat)
            queen = self.queens()[0]
            os.kill(queen, number)
            wait_for(lambda: all(line.split()[:1] != [] and line.split()[0].endswith("/llorch") for _, line in self.c.census()), 30)
            self.ask(chat)
            self.assertNotEqual(self.queens(), [queen])
            out, err = chat.communicate("/show\n/bye\n", timeout=30)
            self.assertEqual(chat.returncode, 0, err)
            self.assertIn("messages: 4\n", err)
            self.c.assert_nothing_left()

    def test_a_queen_of_another_folder_is_not_said_to_be_gone(self):
        first = self.chat()
        queens = self.queens()
        other = self.c.home / "other"
        other.mkdir()
        r = self.c.keeper("run", "haiku", "x", "-n", "2", "--data-dir", other, stdin="")
        self.assertEqual((r.returncode, self.queens()), (0, queens), r.stderr)
        for words in ("putting the queen to sleep", "is gone", "does not end", "stays awake"):
            self.assertNotIn(words, r.stderr)
        first.communicate("/bye\n", timeout=30)
        self.c.assert_nothing_left()

    def test_a_start_that_failed_lets_others_start(self):
        """Not only when its session ends: a chat goes on after it."""
        healths = []

        class Fake(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                if self.path == "/health":
                    healths.append(self.path)
                if len(healths) in (2, 3):  # asleep, and still asleep: it is to be started
                    return
                refused = len(healths) > 3
                data = b'{"error":{"code":"HOST_NOT_ALLOWED","message":"not by this name","type":"permission_error"}}' if refused else b"{}"
                self.send_response(403 if refused else 200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        queen = Listener()
        queen.listen(Fake)
        self.addCleanup(queen.close)
        chat = self.begin("chat", "haiku", "--queen", queen.url)
        chat.stdin.write("x\n")
        chat.stdin.flush()
        self.assertIn("HOST_NOT_ALLOWED", next((line for line in chat.stderr if "error" in line), ""))
        wait_for(lambda: chat.poll() is None and self.may_start(), 10)

    def may_start(self):
        """Whether no session holds the lock of whoever starts a queen."""
        with next(self.c.home.rglob("queen-uses")).open("r+") as f:
            try:
                fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 1)
            except BlockingIOError:
                return False
            return True

    def test_a_command_that_comes_while_she_ends_starts_another(self):
        for _ in range(3):
            first = self.chat()
            queen = self.queens()[0]
            os.kill(queen, signal.SIGSTOP)  # she is about to end, and does not get to it
            first.stdin.close()
            second = self.begin("run", "haiku", "x", "--quiet", "-n", "2")
            os.kill(queen, signal.SIGCONT)
            out, err = second.communicate(timeout=60)
            self.assertEqual((second.returncode, err), (0, ""))
            first.wait(30)
            self.c.assert_nothing_left()


if __name__ == "__main__":
    main()
