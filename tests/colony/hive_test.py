"""A hive among things that hang, shrink, and are not what they seem: it goes on answering (issue 15)."""
import json
import os
import pathlib
import signal
import subprocess
import threading
import time
import unittest

from colony import BIN, MAY_STOP, STORIES, Colony, free_port, listens, main, wait_for


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Hive(unittest.TestCase):
    def start(self, c, *flags, folder="h"):
        """A hive without a queen."""
        c.env.pop("LLORCH_QUEEN_URL", None)
        log = open(c.home / "h.log", "a")
        return c.start(BIN / "llorch-hive", "--local-mode", "--port", c.hive_port, "--worker-port", c.worker_port, "--data-dir", c.home / folder, "--log-format", "json", *flags, stdout=log, stderr=log)

    def check(self, c, model="builtin:haiku"):
        """A memory check: status, code, seconds."""
        started = time.monotonic()
        status, _, body = c.call("GET", f"/v1/memory-check?model={model}", port=c.hive_port, timeout=20)
        return status, body["error"]["code"] if status >= 400 else None, time.monotonic() - started

    def job(self, c, **order):
        return c.job(order, port=c.hive_port)[-1]

    def spawn(self, c):
        self.assertEqual(self.job(c, operation="worker_install", worker="cpu")[1], "end")
        self.assertEqual(self.job(c, operation="worker_spawn", model="builtin:haiku")[1], "end")
        return self.workers(c)[0]["pid"]

    def workers(self, c):
        return next(e for e in c.job({"operation": "worker_process_list"}, port=c.hive_port) if e[1] == "result")[2]["result"]

    def script(self, c, name, text):
        (c.home / "bin").mkdir(exist_ok=True)
        program = c.home / "bin" / name
        program.write_text("#!/bin/sh\n" + text)
        program.chmod(0o755)
        return program

    def test_nvidia_smi_that_hangs_holds_nobody_up(self):
        for text in ("exec sleep 100\n", "trap '' TERM\nsleep 100 &\nwait\n"):
            with Colony() as c:
                c.hide_nvml()
                self.script(c, "nvidia-smi", text)
                c.env["PATH"] = f"{c.home / 'bin'}:{c.env['PATH']}"
                p = self.start(c)
                wait_for(lambda: listens(c.hive_port), 10)
                for _ in range(3):
                    status, _, seconds = self.check(c)
                    self.assertEqual(status, 204)
                    self.assertLess(seconds, 2)
                self.spawn(c)
                self.assertEqual([d["id"] for d in c.call("GET", "/v1/capabilities", port=c.hive_port)[2]["devices"]], ["cpu"])
                p.terminate()
                self.assertEqual(p.wait(15), 0)
                for f in pathlib.Path("/proc").glob("[0-9]*/environ"):  # what the script has left behind
                    try:
                        if f"{c.home}".encode() in f.read_bytes() and b"sleep" in (f.parent / "cmdline").read_bytes():
                            os.kill(int(f.parent.name), signal.SIGKILL)
                    except OSError:
                        pass

    def test_a_worker_program_that_hangs_holds_up_its_own_kind_alone(self):  # 15.12
        with Colony() as c:
            self.script(c, "llorch-worker-cuda", "exec sleep 100\n")
            self.script(c, "llorch-worker-cpu", f'exec {BIN}/llorch-worker-cpu "$@"\n')
            p = self.start(c, "--worker-dir", c.home / "bin")
            wait_for(lambda: listens(c.hive_port))
            for _ in range(3):
                c.call("POST", "/v1/jobs", {"operation": "worker_install", "worker": "cuda"}, port=c.hive_port)
            started = time.monotonic()
            self.spawn(c)
            self.assertLess(time.monotonic() - started, 10)
            started = time.monotonic()
            p.terminate()
            self.assertEqual(p.wait(60), 0)
            self.assertLess(time.monotonic() - started, 10)

    def test_why_a_worker_ended_is_told_with_its_own_code(self):
        """Not only in its log: by the hive, to whoever asked for the worker."""
        cases = (("echo '{\"level\":\"info\",\"message\":\"hello\"}'; echo '{\"level\":\"error\",\"message\":\"the weights are damaged\",\"code\":\"MODEL_LOAD_FAILED\"}'; exit 1", "MODEL_LOAD_FAILED", "ended with 1 while it was starting: the weights are damaged"),
                 ("echo 'error: INVALID_REQUEST: no such flag'; exit 2", "WORKER_CRASHED", "ended with 2 while it was starting: INVALID_REQUEST: no such flag"),
                 ("kill -9 $$", "WORKER_CRASHED", "ended by signal 9 while it was starting"))
        for text, code, words in cases:
            with Colony() as c:
                self.script(c, "llorch-worker-cpu", f'[ "$1" = serve ] || exec {BIN}/llorch-worker-cpu "$@"\nexec >&2\n{text}\n')
                self.start(c, "--worker-dir", c.home / "bin")
                wait_for(lambda: listens(c.hive_port))
                self.assertEqual(self.job(c, operation="worker_install", worker="cpu")[1], "end")
                _, kind, said = self.job(c, operation="worker_spawn", model="builtin:haiku")
                self.assertEqual((kind, said["code"]), ("error", code), said)
                self.assertTrue(said["message"].endswith(words), said)

    def test_how_much_of_a_model_is_loaded_is_told(self):
        with Colony() as c:
            steps = "; ".join(f"""echo '{{"level":"info","action":"model_load_progress","percent":{p}}}'; sleep 1""" for p in (25, 75))
            self.script(c, "llorch-worker-cpu", f'[ "$1" = serve ] || exec {BIN}/llorch-worker-cpu "$@"\nexec >&2\n{steps}; exec {BIN}/llorch-worker-cpu "$@"\n')
            self.start(c, "--worker-dir", c.home / "bin")
            wait_for(lambda: listens(c.hive_port))
            self.assertEqual(self.job(c, operation="worker_install", worker="cpu")[1], "end")
            events = c.job({"operation": "worker_spawn", "model": "builtin:haiku"}, port=c.hive_port)
            told = [e[2]["percent"] for e in events if e[1] == "progress" and "percent" in e[2]]
            # A hive that gets no processor for a second tells the later figure alone.
            self.assertIn(75, told[:2] if told[0] == 25 else told[:1], events)
            self.assertEqual(events[-1][1], "end", events)

    def test_a_line_without_end_in_a_log_is_cut_and_the_rest_is_told(self):
        with Colony() as c:
            self.start(c)
            wait_for(lambda: listens(c.hive_port))
            log = c.home / "h/logs/worker-x.log"
            log.write_text("first\n" + "long" * 700_000 + "\nlast\n")
            self.tell_of_log(c, lines=3, told=["first", "long" * 2048 + " [cut: 2800000 bytes]", "last"])
            log.write_text("first\nlast\n" + "x" * 10)  # what has no end yet is told when it has
            self.tell_of_log(c, lines=3, told=["first", "last"])
            log.write_text("a\n" * 5000 + "l" * 1_100_000 + "\nz\n")
            self.tell_of_log(c, lines=4, told=["a", "a", "l" * 8192 + " [cut: 1100000 bytes]", "z"])

    def test_an_order_is_small(self):  # 15.21: it is parsed on the event loop
        with Colony() as c:
            self.start(c)
            wait_for(lambda: listens(c.hive_port))
            status, _, body = c.call("POST", "/v1/jobs", {"operation": "model_list", "model": "x" * 100_000}, port=c.hive_port)
            self.assertEqual((status, body["error"]["code"]), (413, "PAYLOAD_TOO_LARGE"))

    def tell_of_log(self, c, lines, told):
        events = c.job({"operation": "worker_process_logs", "worker_id": "worker-x", "lines": lines}, port=c.hive_port)
        self.assertEqual(events[-1][1], "end")
        self.assertEqual([e[2]["line"] for e in events if e[1] == "log"], told)

    def test_what_is_no_file_is_refused_at_once(self):
        with Colony() as c:
            self.start(c)
            wait_for(lambda: listens(c.hive_port))
            os.mkfifo(c.home / "pipe.gguf")
            (c.home / "folder.gguf").mkdir()
            (c.home / "empty.gguf").touch()
            for path in (c.home / "pipe.gguf", c.home / "folder.gguf", c.home / "empty.gguf", "/dev/zero", "/dev/tty", c.home / "none.gguf"):
                status, _, seconds = self.check(c, f"file:{path}")
                self.assertTrue(400 <= status < 600, (path, status))
                self.assertLess(seconds, 3, path)
                for operation in ("worker_spawn", "model_download"):
                    self.assertEqual(self.job(c, operation=operation, model=f"file:{path}")[1], "error", path)
                self.assertEqual(self.check(c)[0], 204, path)

    @unittest.skipUnless(STORIES.exists(), "not run: needs shared/models")
    def test_a_model_file_that_shrinks_meanwhile(self):
        whole = STORIES.read_bytes()
        with Colony() as c:
            p = self.start(c)
            wait_for(lambda: listens(c.hive_port))
            model = c.home / "m.gguf"
            model.write_bytes(whole)
            self.assertEqual(self.check(c, f"file:{model}")[0], 204)
            over = threading.Event()

            def spoil():
                with open(model, "r+b") as f:
                    while not over.is_set():
                        f.truncate(4096)
                        f.truncate(0)
                        f.seek(0)
                        f.write(whole)
                        f.flush()

            spoiler = threading.Thread(target=spoil)
            spoiler.start()
            try:
                for _ in range(300):
                    status = self.check(c, f"file:{model}")[0]
                    self.assertIn(status, (204, 400, 404, 409, 422, 500, 503))
                    self.assertIsNone(p.poll(), "the hive was killed")
            finally:
                over.set()
                spoiler.join()
            self.assertEqual(self.check(c, f"file:{model}")[0], 204)

    def test_a_second_hive_on_the_same_folder_ends_no_worker(self):
        with Colony() as c:
            self.start(c)
            wait_for(lambda: listens(c.hive_port))
            pid = self.spawn(c)
            second = subprocess.Popen([BIN / "llorch-hive", "--local-mode", "--port", str(free_port()), "--data-dir", c.home / "h"], env=c.env, stderr=subprocess.PIPE, text=True)
            try:
                second.wait(15)
            except subprocess.TimeoutExpired:
                pass  # an old one would go on
            alive = pathlib.Path(f"/proc/{pid}").exists() and c.call("GET", "/health", port=c.worker_port)[0] == 200
            ended = second.poll()
            second.kill()
            self.assertTrue(alive, "the second hive has ended the first one's worker")
            self.assertNotIn(ended, (0, None))
            self.assertIn("in use by", second.communicate()[1])
            self.assertEqual([w["pid"] for w in self.workers(c)], [pid])

    def test_loading_workers_hold_nobody_up_and_their_memory_counts(self):
        with Colony() as c:
            self.script(c, "llorch-worker-cpu", f'[ "$1" = --build-info ] && exec {BIN}/llorch-worker-cpu --build-info\nexec sleep 60\n')
            self.start(c, "--worker-dir", c.home / "bin", "--memory-limit-mb", "1000000")
            wait_for(lambda: listens(c.hive_port))
            self.assertEqual(self.job(c, operation="worker_install", worker="cpu")[1], "end")
            spawn = {"operation": "worker_spawn", "model": "builtin:haiku"}
            made = [c.call("POST", "/v1/jobs", spawn, port=c.hive_port)[2] for _ in range(3)]
            wait_for(lambda: len(self.workers(c)) == 3)
            self.assertEqual(len({w["port"] for w in self.workers(c)}), 3, "each has a port of its own")
            started = time.monotonic()
            self.assertEqual(self.check(c)[0], 204)
            self.assertEqual(self.job(c, operation="model_get", model="builtin:haiku")[1], "end")
            self.assertEqual(self.job(c, operation="worker_process_logs", worker_id=f"worker-cpu-{c.worker_port}")[1], "end")
            self.assertLess(time.monotonic() - started, 3)
            for m in made:
                c.call("DELETE", "/v1/jobs/" + m["job_id"], port=c.hive_port)
            wait_for(lambda: not self.workers(c), 20)

    def test_memory_is_promised_once_when_many_ask_at_the_same_time(self):
        with Colony() as c:
            self.script(c, "llorch-worker-cpu", f'[ "$1" = --build-info ] && exec {BIN}/llorch-worker-cpu --build-info\nexec sleep 60\n')
            p = self.start(c, "--worker-dir", c.home / "bin", "--memory-limit-mb", "1")
            wait_for(lambda: listens(c.hive_port))
            need = c.call("GET", "/v1/memory-check?model=builtin:haiku", port=c.hive_port)[2]["error"]["details"]["needed_bytes"]
            p.terminate()
            p.wait(20)
            self.start(c, "--worker-dir", c.home / "bin", "--memory-limit-mb", str(2 * need // (1 << 20) + 1))
            wait_for(lambda: listens(c.hive_port))
            self.assertEqual(self.job(c, operation="worker_install", worker="cpu")[1], "end")
            made = []
            ask = lambda: made.append(c.call("POST", "/v1/jobs", {"operation": "worker_spawn", "model": "builtin:haiku"}, port=c.hive_port)[2]["job_id"])
            threads = [threading.Thread(target=ask) for _ in range(6)]
            [t.start() for t in threads], [t.join() for t in threads]
            states = lambda: [c.call("GET", f"/v1/jobs/{j}", port=c.hive_port)[2] for j in made]
            wait_for(lambda: sum(s["status"] == "failed" for s in states()) >= 4)
            self.assertEqual(sum(s["status"] == "failed" for s in states()), 4, states())
            wait_for(lambda: len(self.workers(c)) == 2)  # the second may wait for its port still
            for j in made:
                c.call("DELETE", f"/v1/jobs/{j}", port=c.hive_port)
            wait_for(lambda: not self.workers(c), 20)

    def test_a_hive_that_ends_while_it_stops_a_worker_does_not_spin(self):
        with Colony(**MAY_STOP) as c:
            p = self.start(c, "--idle-stop-sec", "1")
            wait_for(lambda: listens(c.hive_port))
            pid = self.spawn(c)
            os.kill(pid, signal.SIGSTOP)
            try:
                wait_for(lambda: [w["status"] for w in self.workers(c)] == ["stopping"], 10)
                before, started = cpu_seconds(p.pid), time.monotonic()
                p.terminate()
                with self.assertRaises(subprocess.TimeoutExpired, msg="it waits for its worker"):
                    p.wait(2)
                used = cpu_seconds(p.pid) - before
                self.assertLess(used, 0.3 * (time.monotonic() - started), "the event loop spins")
            finally:
                os.kill(pid, signal.SIGCONT)
            self.assertEqual(p.wait(20), 0)


if __name__ == "__main__":
    main()
