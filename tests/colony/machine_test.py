"""What a machine takes and gives: figures, limits, probes, making room, deadlines, logs, and what stands in a file (H-33, H-35, Q-15 to Q-20, K-01, K-07)."""
import contextlib
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest

from colony import BIN, MAY_STOP, SANITIZED, STORIES, Colony, free_port, listens, main, not_run, parse_sse, text_of, wait_for

ORDER = {"operation": "infer", "model": "haiku", "prompt": "x", "max_tokens": 60, "ignore_eos": True}


def cgroup_mount():
    """Where this machine lets us make control groups, or nothing."""
    found = subprocess.run(["findmnt", "-no", "TARGET", "-t", "cgroup2"], capture_output=True, text=True).stdout.split() if shutil.which("findmnt") else []
    with contextlib.suppress(OSError, IndexError):
        group = pathlib.Path(found[0]) / f"llorch-test-{os.getpid()}"
        group.mkdir()
        group.rmdir()
        return found[0]
    return None


def resident(pid, path):
    """Bytes in memory of every mapping of a file."""
    mine = False
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            mine = line.endswith(f" {path}")
        elif mine and line.startswith("Rss:"):
            yield 1024 * int(line.split()[1])


class Machine(unittest.TestCase):
    def workers(self, c, **where):
        return [w for w in c.call("GET", "/v1/status")[2]["workers"] if all(w[k] == v for k, v in where.items())]

    def test_figures_are_of_now_and_not_of_the_last_heartbeat(self):
        with Colony() as c:
            c.queen(heartbeat_s=30)
            asked = c.infer()
            wait_for(lambda: (self.workers(c)[0]["rss_mb"] or 0) > 5, 5)  # it is measured after the heartbeat that says it is ready
            tokens = sum(e[1] == "token" for e in asked)
            self.assertEqual(self.workers(c)[0]["tokens_out"], tokens)
            chat = {"model": "builtin:haiku", "messages": [{"role": "user", "content": "rain"}], "max_tokens": 20, "stream": True}
            lines = {"model": "haiku", "messages": chat["messages"], "options": {"num_predict": 20, "temperature": 0}}
            chat["temperature"] = 0
            whole = c.call("POST", "/v1/chat/completions", chat | {"stream": False})[2]["usage"]["completion_tokens"]  # 20, or fewer where it ends before
            self.assertEqual(self.workers(c)[0]["tokens_out"], tokens + whole)
            for i, (path, body) in enumerate((("/v1/chat/completions", chat), ("/v1/chat/completions", chat | {"stream_options": {"include_usage": True}}), ("/api/chat", lines), ("/api/chat", lines | {"stream": False}), ("/v1/messages", chat), ("/v1/messages", chat | {"stream": False})), 2):
                self.assertEqual(c.call("POST", path, body)[0], 200)
                self.assertEqual(self.workers(c)[0]["tokens_out"], tokens + i * whole, (path, body))
            answer = c.call("POST", "/v1/responses", {"model": "haiku", "input": "rain", "max_output_tokens": 20, "stream": True})[2]
            told = json.loads(answer.rsplit("data: ", 1)[1].splitlines()[0])["response"]["usage"]["output_tokens"]
            self.assertEqual(self.workers(c)[0]["tokens_out"], tokens + i * whole + told)

    def test_a_pin_keeps_workers_and_lasts(self):
        with Colony() as c:
            queen = c.queen("--idle-stop-sec", "1")
            c.infer()
            said = c.keeper("model", "pin", "haiku")
            self.assertEqual((said.returncode, said.stdout.split()), (0, ["id", "pinned", "builtin:haiku", "true"]), said)
            pid = self.workers(c)[0]["pid"]
            time.sleep(3.5)
            self.assertEqual(self.workers(c)[0]["pid"], pid, "it was idle, and stays")
            self.assertRegex(c.keeper("status").stdout, r"worker-cpu-\d+ +builtin:haiku .* pinned\n", "the terminal says so")
            self.assertEqual(c.keeper("model", "pin", "not a model").returncode, 2)
            self.assertEqual(c.call("POST", "/v1/jobs", {"operation": "model_pin", "model": "haiku", "pinned": "yes", "more": 1})[0], 400)
            self.assertEqual(c.call("POST", "/v1/jobs", {"operation": "model_pin", "model": "not a model"})[2]["error"]["param"], "model")
            queen.terminate()
            queen.wait(20)
            queen = c.queen("--idle-stop-sec", "1")
            self.assertEqual(c.call("GET", "/v1/status")[2]["pinned"], ["builtin:haiku"])
            c.infer()
            time.sleep(3.5)
            self.assertEqual(len(self.workers(c)), 1, "a worker that is started later stays, too")
            self.assertEqual(c.keeper("model", "unpin", "builtin:haiku", "--json").returncode, 0)
            wait_for(lambda: not self.workers(c), 8)
            self.assertEqual(c.call("GET", "/v1/status")[2]["pinned"], [])

    def test_what_a_worker_takes_is_measured(self):
        with Colony() as c:
            c.queen()
            c.infer()
            made = c.call("POST", "/v1/jobs", ORDER | {"max_tokens": 240})[2]
            busy = wait_for(lambda: [w for w in self.workers(c) if (w.get("cpu_pct") or 0) > 0], 15)[0]
            self.assertEqual(parse_sse(c.call("GET", made["sse_url"])[2])[0][-1][1], "end")
            pages = int(pathlib.Path(f"/proc/{busy['pid']}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
            self.assertLess(abs(busy["rss_mb"] - pages / 2**20), 30)
            self.assertGreater(busy["uptime_s"], 0)
            self.assertIsNone(busy["vram_mb"], "there is no GPU here: null, not a number")
            node = c.call("GET", "/v1/status")[2]["hives"][0]["node"]
            self.assertTrue(0 <= node["cpu_pct"] <= 100)
            self.assertLessEqual(node["ram_used_mb"], node["ram_total_mb"])
            stats = subprocess.run(["curl", "-sN", "-m", "3", *(["--cacert", c.root_certificate()] if c.trusting() else []), f"{c.scheme}://127.0.0.1:{c.hive_port}/v1/heartbeats/stream"], capture_output=True, text=True).stdout
            worker = json.loads(next(line for line in stats.splitlines() if line.startswith("data: "))[6:])["workers"][0]
            self.assertEqual((worker["pid"], worker["group"], worker["instance"]), (busy["pid"], "llm", busy["worker_id"]))
            self.assertIn(busy["pid"], worker["pids"])
            self.assertEqual((worker["service"], worker["protocol"], worker["memory_architecture"], worker["gpu"]), ("llorch-worker-cpu", "sse", "cpu", None))
            if not (mount := cgroup_mount()):
                return not_run("control groups need cgroup v2 and the right to make them")
            group = pathlib.Path(mount + worker["cgroup"])
            self.assertEqual(worker["cgroup"].rsplit("/", 1)[0], "/llorch.slice/llm")
            self.assertEqual((group / "cgroup.procs").read_text().split(), [str(busy["pid"])])
            c.job({"operation": "worker_process_delete", "pid": busy["pid"]})
            self.assertFalse(group.exists(), "the group outlives its worker")

    def test_what_a_model_will_take_is_foretold(self):  # H-12, on models of real ones' shapes, formats and sizes, one of each kind of memory
        if SANITIZED:
            return not_run("under sanitizers a program's memory is another")
        with tempfile.TemporaryDirectory() as d, Colony() as c:
            c.queen()
            c.hive("h", port := free_port(), "--memory-limit-mb", "1")  # what does not fit is told in figures
            wait_for(lambda: listens(port))
            for shape, kind, tokens in (("tinyllama-1.1b", "Q4_K_M", 1000), ("granite-4-h-350m", "Q8_0", 600)):
                with self.subTest(shape):
                    model = pathlib.Path(d) / "m.gguf"
                    subprocess.run([BIN / "llorch-gguf", "synth", "--quick", "--shape", shape, "--type", kind, model], check=True, stdout=subprocess.DEVNULL)
                    fit = wait_for(lambda: (a := c.call("GET", f"/v1/memory-check?model=file:{model}&device=cpu&ctx=1024&parallel=2", port=port))[0] == 503 and a[2]["error"]["details"])
                    peak = self.peak_of_serving(c, model, tokens)
                    foretold = fit["weights_bytes"] + fit["kv_bytes"] + fit["scratch_bytes"]
                    print(f"{shape}: foretold {foretold / 2**20:.1f} MiB, taken {peak / 2**20:.1f} MiB, {foretold / peak - 1:+.1%}")
                    self.assertLess(abs(foretold / peak - 1), 0.02, (fit, peak))
                    self.assertGreaterEqual(fit["needed_bytes"], peak, "what is promised must hold")

    def peak_of_serving(self, c, model, tokens):
        """The most bytes that a worker had in memory, which has answered two requests of so many tokens at once."""
        w = c.start(BIN / "llorch-worker-cpu", "serve", "-m", model, "--local-mode", "--port", where := free_port(), "--ctx", "1024", "--max-batch", "2", "--log-level", "mute")
        plain = lambda method, path, body=None: c.call(method, path, body, None, where, 120, plain=True)  # it is no worker of the colony
        wait_for(lambda: listens(where) and plain("GET", "/v1/ready")[2]["ready"], 60)
        ask = lambda k: said.append(plain("POST", "/v1/completions", {"model": "m.gguf", "prompt": [(17 * i * k + 3) % 30000 for i in range(tokens)], "max_tokens": 4, "ignore_eos": True}))
        said = []
        threads = [threading.Thread(target=ask, args=(k,)) for k in (1, 2)]
        [t.start() for t in threads], [t.join() for t in threads]
        self.assertEqual([a[0] for a in said], [200, 200], said)
        status = pathlib.Path(f"/proc/{w.pid}/status").read_text()
        mapped = sum(resident(w.pid, model))
        self.assertLess(mapped, 20 << 20, "the file stays in memory beside its packed weights, or all tokens' rows of it")
        w.terminate()
        w.wait(20)
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))

    def test_gpus_as_nvidia_smi_tells_them(self):
        """A stand-in that prints what the program prints: there is no GPU here."""
        with Colony() as c:
            folder = c.home / "bin"
            folder.mkdir()
            c.hide_nvml()
            (folder / "nvidia-smi").write_text("""#!/bin/sh
echo "$@" > "$(dirname "$0")/asked"
cat <<'EOF'
0, NVIDIA GeForce RTX 4090, 24564, 20000, 8.9, 00000000:01:00.0, 37, 61
1, NVIDIA H200, 143771, 999999, 9.0, 00000000:41:00.0, [N/A], [N/A]
2, broken line
3, Too Large, 99999999999, 1, 9.0, 00000000:42:00.0, 1, 1
EOF
""")
            (folder / "nvidia-smi").chmod(0o755)
            c.env["PATH"] = f"{folder}:{c.env['PATH']}"
            c.queen()
            c.hive("h", c.hive_port)
            wait_for(lambda: listens(c.hive_port))
            found = lambda: {d["id"]: d for d in c.call("GET", "/v1/capabilities", port=c.hive_port)[2]["devices"]}
            wait_for(lambda: len(found()) > 1)  # the program is not waited for
            devices = found()
            self.assertEqual(list(devices), ["cpu", "cuda:0", "cuda:1"], "a malformed line is skipped, the others stay")
            self.assertEqual((devices["cuda:0"]["memory_total_bytes"], devices["cuda:0"]["memory_free_bytes"], devices["cuda:0"]["compute_capability"]), (24564 << 20, 20000 << 20, "8.9"))
            self.assertEqual(devices["cuda:1"]["memory_free_bytes"], 143771 << 20, "free is no more than all")
            self.assertIn("--query-gpu=index,name,memory.total,memory.free,compute_cap,pci.bus_id,utilization.gpu,temperature.gpu,uuid --format=csv,noheader,nounits", (folder / "asked").read_text())
            status, _, body = c.call("GET", "/v1/memory-check?model=builtin:haiku&device=cuda:0", port=c.hive_port)
            if not (BIN / "llorch-worker-cuda").exists():
                self.assertEqual((status, body["error"]["code"]), (503, "NO_WORKERS_AVAILABLE"), body)
                self.assertIn("llorch-worker-cuda is not there", body["error"]["message"])
            # What they do now comes with the heartbeat; what a driver does not say is null (H-02).
            gpus = wait_for(lambda: [h["node"]["gpus"] for h in c.call("GET", "/v1/status")[2]["hives"]])[0]
            self.assertEqual([(g["id"], g["util_pct"], g["temp_c"], g["vram_used_mb"], g["vram_total_mb"]) for g in gpus], [("cuda:0", 37, 61, 4564, 24564), ("cuda:1", None, None, 0, 143771)])

    def test_a_limit_that_cannot_be_kept_is_refused(self):
        for flags, why in ((["--worker-cpu-max", "lots"], "200%"), (["--worker-memory-max", "4 apples"], "4G")):
            with Colony() as c:
                p = c.start(BIN / "llorch-hive", "--local-mode", "--port", c.hive_port, "--data-dir", c.home / "h", *flags, stderr=subprocess.PIPE, text=True)
                said = p.communicate(timeout=20)[1]
                if "cgroup" in said or "control group" in said:
                    not_run("no control groups here")
                else:
                    self.assertIn(why, said)
                self.assertNotEqual(p.returncode, 0)

    def test_a_worker_that_hangs_is_ended(self):
        with Colony() as c:
            c.queen()
            c.hive("own", free_port(), "--probe-interval-sec", "1", worker_port=c.worker_port)
            wait_for(lambda: [h for h in c.call("GET", "/v1/status")[2]["hives"] if h["known"]])
            self.assertEqual(c.infer()[-1][1], "end")
            hung = self.workers(c)[0]
            os.kill(hung["pid"], signal.SIGSTOP)
            wait_for(lambda: not pathlib.Path(f"/proc/{hung['pid']}").exists(), 20)
            wait_for(lambda: not [w for w in self.workers(c) if w["pid"] == hung["pid"]], 5)
            self.assertEqual(c.infer()[-1][1], "end", "with a new worker")
            log = c.wait_logged("own", "does not answer its health probe")
            self.assertNotIn("report_failed", log, "the queen was told")

    def room_for_one(self, c, *flags):
        """A hive whose workers may take little more than one haiku together."""
        need, port = {}, free_port()
        c.queen("--no-own-hive", *flags)
        hive = c.hive("tight", port, "--memory-limit-mb", "1000000", worker_port=c.worker_port)
        wait_for(lambda: [h for h in c.call("GET", "/v1/status")[2]["hives"] if h["known"]])
        for model in ("builtin:haiku", str(STORIES)):
            events = c.job({"operation": "infer", "model": model, "prompt": "x", "max_tokens": 2})
            self.assertEqual(events[-1][1], "end", events[-1])
            need[model] = next(w["memory_bytes"] for w in c.call("GET", "/v1/status")[2]["workers"] if w["model_ref"].endswith(model)) >> 20
        hive.terminate()
        hive.wait(20)
        wait_for(lambda: not c.call("GET", "/v1/status")[2]["hives"], 10)
        limit = max(need.values()) + min(need.values()) - 1
        c.hive("tight", port, "--memory-limit-mb", max(limit, max(need.values()) + 1), worker_port=c.worker_port)
        wait_for(lambda: [h for h in c.call("GET", "/v1/status")[2]["hives"] if h["known"]])

    @unittest.skipUnless(STORIES.exists(), "not run: needs shared/models")
    def test_a_model_without_room_takes_the_place_of_another(self):
        with Colony() as c:
            self.room_for_one(c)
            haiku = {"operation": "infer", "model": "builtin:haiku", "prompt": "x", "max_tokens": 5}
            stories = haiku | {"model": str(STORIES)}
            self.assertEqual(c.job(haiku)[-1][1], "end")
            events = c.job(stories)
            self.assertEqual(events[-1][1], "end", events[-1])
            told = [d["human"] for _, _, d in events if d.get("action") == "evict"]
            self.assertIn("llorch_queen_worker_evictions_total 1", c.call("GET", "/metrics")[2])
            self.assertEqual(len(told), 1, "it was said who makes room")
            self.assertEqual([w["model_ref"] for w in self.workers(c)], [f"file:{STORIES}"])
            # A busy one ends its answer first.
            made = c.call("POST", "/v1/jobs", stories | {"max_tokens": 500, "ignore_eos": True})[2]
            wait_for(lambda: [w for w in self.workers(c) if w["inflight"]])
            events = c.job(haiku)
            self.assertEqual(events[-1][1], "end", events[-1])
            self.assertIn("when its requests have ended", next(d["human"] for _, _, d in events if d.get("action") == "evict"))
            other = parse_sse(c.call("GET", made["sse_url"])[2])[0]
            self.assertEqual(other[-1][1], "end", other[-1])
            self.assertEqual((other[-1][1], other[-1][2]["tokens_out"]), ("end", 500), "the answer under way was cut")

    @unittest.skipUnless(STORIES.exists(), "not run: needs shared/models")
    def test_pinned_or_told_not_to_nobody_makes_room(self):
        for flags in (["--pin-model", "haiku"], ["--eviction-worker-policy", "none"]):
            with Colony() as c:
                self.room_for_one(c, *flags)
                self.assertEqual(c.job({"operation": "infer", "model": "builtin:haiku", "prompt": "x", "max_tokens": 5})[-1][1], "end")
                last = c.job({"operation": "infer", "model": str(STORIES), "prompt": "x", "max_tokens": 5})[-1]
                self.assertEqual((last[1], last[2]["code"]), ("error", "NO_WORKERS_AVAILABLE"), last)
                self.assertIn("MB are needed", last[2]["message"])
                self.assertEqual([w["model_ref"] for w in self.workers(c)], ["builtin:haiku"])

    def test_a_machine_whose_memory_is_taken_lets_idle_workers_go(self):
        with Colony() as c:
            q = c.queen("--eviction-vram-threshold", "0.0001", "--mode", "one-machine", local=False)
            events = c.infer(max_tokens=240)
            self.assertEqual(events[-1][1], "end", "who works is left alone")
            wait_for(lambda: not self.workers(c), 15)
            self.assertIn("llorch_queen_worker_evictions_total 1", c.call("GET", "/metrics")[2])
            c.wait_logged("queen", "it was used least recently")
            q.terminate()
            q.wait(20)
            c.queen("--eviction-vram-threshold", "0.0001", "--pin-model", "haiku")
            c.infer()
            with c.urlopen("/v1/heartbeats/stream", 30) as looks:  # one at each look
                seen = 0
                while seen < 3:
                    seen += b'"type":"queen"' in looks.readline()
            self.assertEqual(len(self.workers(c)), 1, "a pinned one stays")
            r = subprocess.run([BIN / "llorch-queen", "--mode", "lab", "--port", str(free_port())], capture_output=True, text=True, env=c.env, timeout=20)
            self.assertEqual(r.returncode, 2)
            self.assertIn("needs a token", r.stderr)

    def test_a_model_is_loaded_and_unloaded(self):
        with Colony() as c:
            c.queen()
            r = c.keeper("model", "load", "haiku", "--json")
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertEqual(json.loads(r.stdout.splitlines()[-1])["worker_id"], f"worker-cpu-{c.worker_port}")
            self.assertEqual([w["model_ref"] for w in self.workers(c)], ["builtin:haiku"])
            self.assertNotIn("evict", [d.get("action") for _, _, d in c.infer()])
            r = c.keeper("model", "unload", "haiku", "--json")
            self.assertEqual(json.loads(r.stdout.splitlines()[-1])["workers_stopped"], 1)
            self.assertEqual(self.workers(c), [])
            self.assertFalse(listens(c.worker_port))

    def test_logs_and_a_hive_without_its_queen(self):
        with Colony() as c:
            c.queen()
            c.infer()
            name, pid = (self.workers(c)[0][key] for key in ("worker_id", "pid"))  # its port may have been another's
            follow = subprocess.Popen(c.command("worker", "logs", name, "--follow"), stdout=subprocess.PIPE, text=True, env=c.env)
            lines = [follow.stdout.readline()]
            self.assertIn("info", lines[0])
            c.infer()
            while "tokens in" not in lines[-1] or sum("tokens in" in x for x in lines) < 2:  # of the second answer: it follows
                lines.append(follow.stdout.readline())
                self.assertTrue(lines[-1], "it ended")
            direct = f"--direct={c.scheme}://127.0.0.1:{c.hive_port}"
            r = c.keeper("worker", "list", direct)
            self.assertIn(str(pid), r.stdout)
            r = c.keeper("worker", "logs", str(pid), "-n", "3", direct)
            self.assertEqual((r.returncode, r.stdout.count("\n")), (0, 3), r.stderr)
            for bad in ("../../etc/passwd", "nobody", "99999999"):
                r = c.keeper("worker", "logs", bad)
                self.assertIn(r.returncode, (1, 2), bad)
                self.assertEqual(r.stdout, "")
            r = c.keeper("run", "haiku", "x", direct)
            self.assertEqual(r.returncode, 2)
            self.assertIn("--direct asks a hive", r.stderr)
            c.keeper("worker", "delete", str(pid))
            self.assertEqual(follow.wait(20), 0, "the log of a worker that ends does, too")
            follow.stdout.close()
            self.assertIn("IO", c.keeper("worker", "list", f"--direct=http://127.0.0.1:{free_port()}").stderr)

    def test_deadlines_count_while_waiting(self):
        with Colony(**MAY_STOP) as c:
            c.queen("--worker-slots", "1", "--timeout-max-ms", "60000")
            c.infer()
            pid = self.workers(c)[0]["pid"]
            os.kill(pid, signal.SIGSTOP)
            first = c.call("POST", "/v1/jobs", ORDER)[2]
            wait_for(lambda: self.workers(c)[0]["inflight"] == 1)
            start = time.monotonic()
            last = c.job(ORDER | {"deadline_ms": 500})[-1]
            self.assertEqual((last[1], last[2]["code"]), ("error", "DEADLINE_EXCEEDED"))
            self.assertGreaterEqual(time.monotonic() - start, 0.45)
            chat = {"model": "haiku", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
            soon = str(int(time.time() * 1000) + 400)
            self.assertEqual(c.call("POST", "/v1/chat/completions", chat, {"X-Deadline": soon})[0], 504)
            self.assertEqual(c.call("POST", "/v1/chat/completions", chat | {"deadline_ms": 400})[0], 504)
            for path, body in (("/v1/jobs", ORDER), ("/v1/chat/completions", chat)):
                status, headers, answer = c.call("POST", path, body, {"X-Deadline": "1000"})
                self.assertEqual((status, answer["error"]["code"]), (504, "DEADLINE_EXCEEDED"), path)
                self.assertGreater(int(headers["X-Deadline-Exceeded-By-Ms"]), 0)
                self.assertEqual(c.call("POST", path, body | {"deadline_ms": 60001})[0], 400)
            os.kill(pid, signal.SIGCONT)
            self.assertEqual(parse_sse(c.call("GET", first["sse_url"])[2])[0][-1][1], "end")
            self.assertEqual(c.job(ORDER | {"deadline_ms": 30000})[-1][1], "end")

    def test_a_full_line_that_drops_and_advice(self):
        with Colony(**MAY_STOP) as c:
            c.queen("--worker-slots", "1", "--admission-capacity", "2", "--admission-policy", "drop-lru", "--queue-optimizer-threshold-jobs", "1", "--queue-optimizer-interval-ms", "200")
            c.infer()
            pid = self.workers(c)[0]["pid"]
            os.kill(pid, signal.SIGSTOP)
            first = c.call("POST", "/v1/jobs", ORDER)[2]
            wait_for(lambda: self.workers(c)[0]["inflight"] == 1)
            old, batch = (c.call("POST", "/v1/jobs", ORDER | {"priority": p})[2] for p in ("interactive", "batch"))
            advice = wait_for(lambda: c.call("GET", "/v1/status")[2]["advice"])
            self.assertIn("2 requests wait for builtin:haiku, which has 1 seats", advice[0])
            new = c.call("POST", "/v1/jobs", ORDER)[2]
            last = parse_sse(c.call("GET", batch["sse_url"])[2])[0][-1]
            self.assertEqual((last[1], last[2]["code"]), ("error", "QUEUE_FULL"), "a batch request goes first")
            newer = c.call("POST", "/v1/jobs", ORDER)[2]
            last = parse_sse(c.call("GET", old["sse_url"])[2])[0][-1]
            self.assertEqual((last[1], last[2]["code"]), ("error", "QUEUE_FULL"), "then who has waited longest")
            self.assertEqual(c.call("POST", "/v1/jobs", ORDER | {"priority": "batch"})[0], 429, "a batch request displaces nobody")
            os.kill(pid, signal.SIGCONT)
            for made in (first, new, newer):
                self.assertEqual(parse_sse(c.call("GET", made["sse_url"])[2])[0][-1][1], "end")

    def test_what_stands_in_a_file(self):
        with Colony() as c:
            file = c.home / ".config/llorch/config.toml"
            self.assertEqual(c.keeper("run", "haiku", "Write a haiku about tea", "--quiet").returncode, 0)
            made = file.read_text()
            self.assertEqual(file.stat().st_mode & 0o777, 0o600)
            for section in ("queen", "hive", "worker", "keeper"):
                self.assertIn(f"\n[{section}]\n", made)
            # Every line of it may be switched on as it stands, but for those whose value nobody can guess.
            on = "\n".join(line[1:] if line.startswith("#") and " = " in line and not line.endswith('""') and not line.startswith("# ") else line for line in made.splitlines())
            file.write_text(on)
            r = c.keeper("run", "haiku", "Write a haiku about tea", "--quiet", f"--queen-flag=--hive-port={c.hive_port}")
            self.assertEqual(r.returncode, 0, r.stderr + "".join(f.read_text() for f in c.home.rglob("queen.log")))
            capacity = lambda: c.call("GET", "/v1/status")[2]["queue"]["capacity"]
            for text, flags, env, expected in (("[queen.queue]\ncapacity = 5\n", [], {}, 5), ("[queen]\nadmission-capacity = 6\n[hive]\nheadroom-mb = 1\n", [], {}, 6), ("[queue]\ncapacity = 7\n", [], {}, 7),
                                               ("[queen.queue]\ncapacity = 5\n", [], {"LLORCH_ADMISSION_CAPACITY": "8"}, 8), ("[queen.queue]\ncapacity = 5\n", ["--admission-capacity", "9"], {"LLORCH_ADMISSION_CAPACITY": "8"}, 9)):
                file.write_text(text)
                c.env |= env
                q = c.queen(*flags)
                self.assertEqual(capacity(), expected, (text, flags, env))
                q.terminate()
                q.wait(20)
                for key in env:
                    del c.env[key]
            for text, why in (("[queen]\nno-such-thing = 1\n", "no-such-thing"), ("[queen]\nworker-slots = \"many\"\n", "worker-slots"), ("[queen.timeout]\ndefault_ms = 5000\nmax_ms = 1000\n", "timeout.max_ms"), ("[queen\n", "")):
                file.write_text(text)
                r = subprocess.run([BIN / "llorch-queen", "--local-mode", "--port", str(free_port())], capture_output=True, text=True, env=c.env, timeout=20)
                self.assertEqual(r.returncode, 2, (text, r.stderr))
                self.assertIn(why, r.stderr)

    def test_a_queen_of_another_version(self):
        class Old(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps({"version": "99.1.0"}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        with Colony() as c, http.server.ThreadingHTTPServer(("127.0.0.1", c.queen_port), Old) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            r = c.keeper("run", "haiku", "x", "--queen", f"http://127.0.0.1:{c.queen_port}")
            server.shutdown()
            self.assertEqual(r.returncode, 1)
            self.assertIn("VERSION_MISMATCH", r.stderr)
            self.assertIn("99.1.0", r.stderr)

    def test_the_queen_as_a_service_of_the_user_s(self):
        with Colony() as c:
            c.env |= {"XDG_RUNTIME_DIR": str(c.home / "none")}  # no systemd of ours answers there
            r = c.keeper("queen", "install", "--port", c.queen_port)
            self.assertEqual(r.returncode, 0, r.stderr)
            unit = c.home / ".config/systemd/user/llorch-queen.service"
            text = unit.read_text()
            if shutil.which("systemd-analyze"):
                v = subprocess.run(["systemd-analyze", "--user", "verify", unit], capture_output=True, text=True, env=c.env)
                self.assertNotRegex(v.stdout + v.stderr, "(?i)unknown|invalid|not executable")
            else:
                not_run("systemd-analyze is not here")
            line = next(x for x in text.splitlines() if x.startswith("ExecStart="))[10:].split()
            self.assertEqual(line[0], str(c.home / ".local/bin/llorch-queen"))
            p = c.start(*line, "--data-dir", c.home / "q", stderr=subprocess.DEVNULL)
            wait_for(lambda: listens(c.queen_port))
            self.assertEqual(c.call("GET", "/health")[0], 200)
            p.terminate()
            self.assertEqual(p.wait(20), 0)
            r = c.keeper("queen", "install", "--port", c.queen_port, "--listen", "0.0.0.0")
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertIn("--token-file", unit.read_text())
            self.assertEqual((c.home / ".config/llorch/token").stat().st_mode & 0o777, 0o600)
            self.assertEqual(c.keeper("queen", "install", "--listen", "0.0.0.0; rm -rf /").returncode, 2)
            self.assertEqual(c.keeper("queen", "uninstall").returncode, 0)
            self.assertEqual([f for f in (c.home / ".local/bin").iterdir()] + [unit] * unit.exists(), [])

    def test_bench_against_a_run_before(self):
        with Colony() as c:
            out = c.home / "before.json"
            run = ["bench", "builtin:haiku", "-p", "16", "-n", "8", "-r", "1", "-t", "1"]
            self.assertEqual(c.keeper(*run, "-o", out).returncode, 0)
            before = json.loads(out.read_text())
            for r in before["results"]:
                r["tok_s"]["median"] /= 1000  # then everything is about 1,000 times as fast now
            out.write_text(json.dumps(before))
            r = c.keeper(*run, "--baseline", out, "--json")
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertTrue(all(float(row["ratio"]) > 50 for row in json.loads(r.stdout)), r.stdout)
            self.assertEqual(c.keeper(*run, "--baseline", "/nowhere").returncode, 2)


if __name__ == "__main__":
    main()
