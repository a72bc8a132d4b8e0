"""Requests that cost much, come twice, or cannot be had: a real worker stays fast for the others, and ends when told."""
import contextlib
import json
import os
import pathlib
import resource
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import unittest

from harness import BINARY, SANITIZED, USER, Worker, main, wait_for

HUGE = json.dumps({"model": "builtin:haiku", "prompt": "the sea and the wind and " * 310_000, "max_tokens": 1}).encode()  # 7.75 MB
SHORT = {"prompt": "<|user|>a<|assistant|>", "max_tokens": 1, "temperature": 0}


def send(w, body, path="/v1/completions", headers=""):
    """A request whose answer nobody reads yet; the socket."""
    s = socket.create_connection(("127.0.0.1", w.port), 60)
    s.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return s


def status_of(s):
    with contextlib.suppress(OSError):
        return s.recv(12)[9:12].decode()
    return ""


def cpu_seconds(w):
    fields = pathlib.Path(f"/proc/{w.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def together(count, work):
    out, lock = [], threading.Lock()

    def one(i):
        result = work(i)
        with lock:
            out.append(result)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return out


class Idempotency(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.w = Worker("--threads", "1")  # two threads wait for each other where the machine is busy

    @classmethod
    def tearDownClass(cls):
        cls.w.stop()

    def test_ten_equal_keys_make_one_job(self):
        body = {"prompt": "<|user|>b<|assistant|>", "max_tokens": 5}
        answers = together(10, lambda _: self.w.post("/v1/inference", body, {"Idempotency-Key": "ten"}))
        self.assertEqual({status for status, _, _ in answers}, {202})
        self.assertEqual(len({body["job_id"] for _, _, body in answers}), 1, "one key made several jobs")

    def test_whole_answers_wait_for_the_first(self):
        before = self.w.metric("llorch_worker_tokens_in_total")
        body = {"model": "builtin:haiku", "messages": USER, "max_tokens": 60, "temperature": 1, "ignore_eos": True}
        answers = together(10, lambda _: self.w.post("/v1/chat/completions", body, {"Idempotency-Key": "whole"}))
        self.assertEqual({status for status, _, _ in answers}, {200})
        self.assertEqual(len({body["id"] for _, _, body in answers}), 1)
        self.assertEqual(sum(h["Idempotent-Replayed"] == "true" for _, h, _ in answers), 9)
        self.assertEqual(self.w.metric("llorch_worker_tokens_in_total") - before, answers[0][2]["usage"]["prompt_tokens"])

    def test_the_next_in_line_takes_the_key_of_a_client_that_left(self):
        body = json.dumps({"model": "builtin:haiku", "messages": USER, "max_tokens": 200, "temperature": 1, "ignore_eos": True}).encode()
        first = send(self.w, body, "/v1/chat/completions", "Idempotency-Key: left\r\n")
        wait_for(lambda: any(j["status"] == "running" for j in self.w.get("/v1/inference")[2]["jobs"]))
        answers = []
        second = threading.Thread(target=lambda: answers.append(self.w.call("POST", "/v1/chat/completions", body, {"Idempotency-Key": "left"})))
        second.start()
        first.close()
        second.join(60)
        self.assertEqual(answers[0][0], 200, answers)


class Salts(unittest.TestCase):
    def test_keys_and_salts_never_share_a_prompt(self):
        """Every route that tells cached_tokens, for two keys, and for two principals behind one key."""
        with tempfile.TemporaryDirectory() as d:
            alice, bob = (subprocess.run([BINARY, "key", "create", "--keys-file", f"{d}/keys", "--scope", "infer", "--name", name], capture_output=True, text=True, check=True).stdout.strip() for name in ("alice", "bob"))
            pathlib.Path(f"{d}/token").write_text("operator-token-0123456789")
            os.chmod(f"{d}/token", 0o600)
            with Worker("--token-file", f"{d}/token", "--keys-file", f"{d}/keys", local=False) as w:
                prompt = [100 + 7 * j for j in range(200)]
                text = "sea and the wind " * 30

                def auth(key):
                    return {"Authorization": "Bearer " + key}

                def whole(path, **fields):
                    def ask(key, salt):
                        status, _, body = w.post(path, {"model": "builtin:haiku", "max_tokens": 1, "temperature": 0, "cache_salt": salt, **fields}, auth(key))
                        self.assertEqual(status, 200, body)
                        return body["usage"]["prompt_tokens_details"]["cached_tokens"]
                    return ask

                def streamed(path, **fields):
                    def ask(key, salt):
                        status, _, body = w.post(path, {"model": "builtin:haiku", "max_tokens": 1, "temperature": 0, "cache_salt": salt, "stream": True, "stream_options": {"include_usage": True}, **fields}, auth(key))
                        self.assertEqual(status, 200, body)
                        return json.loads(body.split("data: ")[-2])["usage"]["prompt_tokens_details"]["cached_tokens"]
                    return ask

                def native(**fields):
                    def ask(key, salt):
                        status, _, made = w.post("/v1/inference", {"max_tokens": 1, "temperature": 0, "cache_salt": salt, **fields}, auth(key))
                        self.assertEqual(status, 202, made)
                        events = w.get(made["sse_url"], auth(key))[2]
                        return next(json.loads(line[6:]) for line in events.splitlines() if line.startswith("data: {") and '"type":"end"' in line)["cached_tokens"]
                    return ask

                routes = {"native prompt": native(prompt="<|user|>1 " + text), "native messages": native(messages=[{"role": "user", "content": "2 " + text}]),
                          "completions": whole("/v1/completions", prompt=[1] + prompt), "chat": whole("/v1/chat/completions", messages=[{"role": "user", "content": "3 " + text}]),
                          "completions streamed": streamed("/v1/completions", prompt=[2] + prompt), "chat streamed": streamed("/v1/chat/completions", messages=[{"role": "user", "content": "4 " + text}])}
                for name, ask in routes.items():
                    self.assertEqual(ask(alice, "x"), 0, name)
                    self.assertGreater(ask(alice, "x"), 0, name)
                    self.assertEqual(ask(bob, "x"), 0, f"{name}: another key")
                    self.assertEqual(ask(alice, "y"), 0, f"{name}: another salt, as the queen gives for another principal")
                    self.assertEqual(ask(alice, ""), 0, name)
                    self.assertGreater(ask(alice, "y"), 0, name)


class Admission(unittest.TestCase):
    def test_what_can_never_fit_is_no_matter_of_waiting(self):
        with Worker("--max-batch", "8", "--queue-capacity", "100") as w:
            for path, body, param in (("/v1/completions", {"prompt": ["a"] * 64, "n": 8, "max_tokens": 1}, "n"), ("/v1/chat/completions", {"messages": USER, "n": 109, "max_tokens": 1}, "n")):
                status, headers, answer = w.post(path, {"model": "builtin:haiku", **body})
                self.assertEqual((status, answer["error"]["param"]), (400, param), answer)
                self.assertNotIn("Retry-After", headers)
            self.assertEqual(w.post("/v1/completions", {"model": "builtin:haiku", "prompt": ["a"] * 64, "n": 1, "max_tokens": 1})[0], 200)
        with Worker("--max-batch", "1", "--queue-capacity", "1") as w:
            status, _, answer = w.post("/v1/embeddings", {"input": ["a"] * 3})
            self.assertEqual((status, answer["error"]["param"]), (400, "input"))
            self.assertIn("at most 2", answer["error"]["message"])

    def test_a_place_is_taken_at_the_door(self):
        """Prompts that are still being read count, and give their place back when their clients leave."""
        with Worker("--max-batch", "1", "--queue-capacity", "0") as w:
            def beside_a_huge_one():
                s = send(w, HUGE)
                answer = w.post("/v1/completions", {"model": "builtin:haiku", **SHORT})
                s.close()
                return answer[0] == 429 and answer

            refused = wait_for(beside_a_huge_one, 20)
            self.assertEqual(refused[2]["error"]["code"], "QUEUE_FULL")
            wait_for(lambda: w.post("/v1/completions", {"model": "builtin:haiku", **SHORT})[0] == 200, 5)


class Prompts(unittest.TestCase):
    def test_short_requests_stay_fast_beside_huge_prompts(self):
        with Worker("--threads", "1") as w:
            def ask():
                start = time.monotonic()
                status, _, body = w.post("/v1/completions", {"model": "builtin:haiku", **SHORT})
                self.assertEqual(status, 200, body)
                return 1000 * (time.monotonic() - start)

            def p99(times):
                return sorted(times)[int(0.99 * len(times))]

            alone = [ask() for _ in range(100)]
            stop = threading.Event()

            def flood():
                while not stop.is_set():
                    status = status_of(send(w, HUGE))
                    self.assertIn(status, ("400", "429"))

            floods = [threading.Thread(target=flood) for _ in range(3)]
            for t in floods:
                t.start()
            beside = [ask() for _ in range(100)]
            stop.set()
            for t in floods:
                t.join()
            print(f"short requests: p99 {p99(alone):.0f} ms alone, {p99(beside):.0f} ms beside huge prompts (medians {statistics.median(alone):.0f} and {statistics.median(beside):.0f})")
            # These clients share the machine's cores with the worker and with the threads that send megabytes.
            self.assertLess(p99(beside), 3 * max(p99(alone), 200))

    def test_one_key_s_huge_prompts_do_not_hold_up_another_key_s(self):
        """Both go to the threads for long prompts. Eight huge ones of one key are always under way."""
        with tempfile.TemporaryDirectory() as d:
            alice, bob = ("Authorization: Bearer " + subprocess.run([BINARY, "key", "create", "--keys-file", f"{d}/keys", "--scope", "infer", "--name", name], capture_output=True, text=True, check=True).stdout.strip() + "\r\n" for name in ("alice", "bob"))
            pathlib.Path(f"{d}/token").write_text("operator-token-0123456789")
            os.chmod(f"{d}/token", 0o600)
            with Worker("--threads", "1", "--token-file", f"{d}/token", "--keys-file", f"{d}/keys", local=False) as w:
                small = json.dumps({"model": "builtin:haiku", "prompt": "the sea and the wind and " * 4_000, "max_tokens": 1}).encode()  # 100 KB

                def ask(body, key):
                    start = time.monotonic()
                    status = status_of(send(w, body, headers=key))  # 400: of the context, for which it was tokenised
                    self.assertIn(status, ("400", "504") if body is HUGE else ("400",))  # 504: eight in a row on a busy machine
                    return 1000 * (time.monotonic() - start)

                stop = threading.Event()

                def flood():
                    while not stop.is_set():
                        ask(HUGE, alice)

                alone, one = [ask(small, bob) for _ in range(5)], ask(HUGE, alice)
                floods = [threading.Thread(target=flood) for _ in range(8)]
                for t in floods:
                    t.start()
                beside = [ask(small, bob) for _ in range(15)]
                stop.set()
                for t in floods:
                    t.join()
                print(f"100 KB: {statistics.median(alone):.0f} ms alone, {statistics.median(beside):.0f} ms beside eight huge prompts of another key; a huge one alone: {one:.0f} ms")
                self.assertLess(statistics.median(beside), one / 2)

    def test_nobody_works_for_a_client_that_left(self):
        with Worker("--threads", "1") as w:
            def cost(work):
                """CPU seconds until a huge prompt that somebody waits for was answered."""
                before = cpu_seconds(w)
                work()
                self.assertEqual(status_of(send(w, HUGE)), "400")
                return cpu_seconds(w) - before

            def leave():
                sent = [send(w, HUGE) for _ in range(12)]
                for s in sent:
                    s.close()

            one, twelve = cost(lambda: None), cost(leave)
            print(f"one huge prompt: {one:.2f} s of CPU; after twelve whose clients left: {twelve:.2f} s")
            self.assertLess(twelve, 6 * one)

    def test_a_deadline_ends_the_preparation(self):
        with Worker("--threads", "1") as w:
            body = json.loads(HUGE) | {"deadline_ms": 300}
            for ask, headers in ((json.dumps(body).encode(), {}), (HUGE, {"X-Deadline": str(int(1000 * time.time()) + 600)})):
                start = time.monotonic()
                status, _, answer = w.call("POST", "/v1/completions", ask, headers)
                took = time.monotonic() - start
                self.assertEqual((status, answer["error"]["code"]), (504, "DEADLINE_EXCEEDED"), answer)
                self.assertLess(took, 10 if SANITIZED else 3)

    def test_the_end_does_not_wait_for_prompts(self):
        w = Worker("--threads", "1", "--graceful-shutdown-timeout-ms", "1000")
        sent = [send(w, HUGE) for _ in range(8)]
        start = time.monotonic()
        w.stop()
        took = time.monotonic() - start
        for s in sent:
            s.close()
        print(f"ended {took:.1f} s after SIGTERM, with a grace of one")
        self.assertLess(took, 10 if SANITIZED else 3)


class Memory(unittest.TestCase):
    def test_requests_without_memory_end_in_order(self):
        """Address space for little more than what is there: requests fail, the worker goes on or ends by itself."""
        if SANITIZED:
            print("not run: address space under a limit: sanitizers reserve terabytes of it")
            return
        # The kernel takes its time for mappings that it must refuse: turns are not measured here.
        with Worker("--threads", "1", env={"LLORCH_LOOP_TURN_MS_MAX": "10000"}) as w:
            used = int(pathlib.Path(f"/proc/{w.process.pid}/statm").read_text().split()[0]) * os.sysconf("SC_PAGESIZE")
            for spare in (96 << 20, 32 << 20, 12 << 20):
                resource.prlimit(w.process.pid, resource.RLIMIT_AS, (used + spare, resource.RLIM_INFINITY))

                def ask(i):
                    with contextlib.suppress(OSError):
                        s = send(w, HUGE if i % 2 else json.dumps({"model": "builtin:haiku", "prompt": ["x" * 200_000] * 20, "max_tokens": 1}).encode())
                        s.settimeout(60)
                        return status_of(s)
                    return ""

                def timed(i):
                    start = time.monotonic()
                    return ask(i), time.monotonic() - start

                answers = together(8, timed)
                self.assertLess(max(took for _, took in answers), 45, f"a request hung with {spare >> 20} MiB spare: {answers}")
                if w.process.poll() is not None:
                    self.assertGreaterEqual(w.process.returncode, 0, f"ended by a signal with {spare >> 20} MiB spare: {answers}\n{w.logs()[-2000:]}")
                    return
            resource.prlimit(w.process.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            wait_for(lambda: w.post("/v1/completions", {"model": "builtin:haiku", **SHORT})[0] == 200, 20)


if __name__ == "__main__":
    main()
