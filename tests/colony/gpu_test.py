"""A colony with a GPU machine (H-10, H-11, H-35): what NVML tells is told by a library of our own (tests/nvml/nvml.cc), and the GPU's worker is the one for the emulated device."""
import json
import os
import pathlib
import subprocess
import time
import unittest

from colony import BIN, ROOT, STORIES, Colony, listens, main, wait_for

NVML = BIN.parent / "nvml"
EMULATED = next((p for p in (BIN / "llorch-worker-cuda-emulated", ROOT / "build/cuda-emulated/bin/llorch-worker-cuda-emulated") if p.exists()), None)
GIB = 1 << 30
H200 = "name=NVIDIA H200;uuid=GPU-1;bus=00000000:41:00.0;total=150754820096;free=140000000000;util=37;temp=61;major=9;minor=0"
HAIKU = {"operation": "infer", "model": "builtin:haiku", "prompt": "x", "max_tokens": 4}


class GpuColony(Colony):
    """Programs of this colony find our library in NVML's place."""

    def __init__(self, *gpus, worker="emulated"):
        super().__init__()
        self.say(*gpus)
        self.programs = self.home / "bin"
        self.programs.mkdir()
        (self.programs / "llorch-worker-cpu").symlink_to(BIN / "llorch-worker-cpu")
        program = {"emulated": f"exec {EMULATED} \"$@\"", "broken": "exit 7"}.get(worker)
        if program:
            # Hives know it as a cuda worker, which is what it stands for.
            (self.programs / "llorch-worker-cuda").write_text(f"""#!/bin/sh
[ "$1" = --build-info ] && exec echo '{{"backend":"cuda","version":"1","build_id":"1"}}'
echo "$@ order $CUDA_DEVICE_ORDER" >> {self.home}/started
{program}
""")
            (self.programs / "llorch-worker-cuda").chmod(0o755)
        self.env |= {"LD_LIBRARY_PATH": str(NVML), "LLORCH_TEST_NVML": str(self.home / "nvml")}

    def say(self, *gpus, driver="580.65.06", cuda=13000, more=""):
        temporary = self.home / "nvml.new"
        temporary.write_text(f"driver {driver}\ncuda {cuda}\n{more}" + "".join(f"gpu {g}\n" for g in gpus))
        temporary.replace(self.home / "nvml")

    def hang(self, *gpus):
        """Whoever asks NVML from now on waits until go_on()."""
        os.mkfifo(self.home / "pipe")
        self.say(*gpus, more=f"waits {self.home / 'pipe'}\n")

    def go_on(self, *gpus):
        self.say(*gpus)
        os.close(os.open(self.home / "pipe", os.O_RDWR))  # does not wait for readers, and lets them all go

    def begin(self, *flags):
        self.queen("--no-own-hive")
        self.hive("h", self.hive_port, "--worker-dir", self.programs, *flags, worker_port=self.worker_port)
        wait_for(lambda: [h for h in self.status()["hives"] if h["known"]])
        return self

    def status(self):
        return self.call("GET", "/v1/status")[2]

    def devices(self):
        return {d["id"]: d for d in self.status()["hives"][0]["devices"]}

    def workers(self):
        return [(w["model_ref"], w["device"], w["kind"]) for w in self.status()["workers"]]

    def told(self, order):
        """How it ended, and all that was said on the way."""
        events = self.job(order)
        return events[-1], "\n".join(d["human"] for _, _, d in events if d.get("human"))


class Absent(unittest.TestCase):
    def test_without_nvml_the_cpu_is_offered_and_that_is_said(self):
        with GpuColony() as c:
            c.hide_nvml()
            c.env["PATH"] = str(c.home)  # nor is nvidia-smi
            c.begin()
            self.assertEqual(list(c.devices()), ["cpu"])
            self.assertIn("libnvidia-ml.so.1", c.wait_logged("h", "no_gpus.*offers its CPU"))


class Told(unittest.TestCase):
    def setUp(self):
        if not NVML.exists():
            self.skipTest(f"not run: {NVML} is not built")

    def test_devices_as_nvml_tells_them(self):
        with GpuColony(H200, "name=NVIDIA T4;total=16000000000;free=99999999999;major=7;minor=5", "name=a%1Bb;total=1;free=1", "name=Too Large;total=99999999999999999;free=1") as c:
            c.env.pop("LLORCH_QUEEN_URL")
            c.hive("h", c.hive_port, "--worker-dir", c.programs, worker_port=c.worker_port)
            wait_for(lambda: listens(c.hive_port))
            found = lambda: {d["id"]: d for d in c.call("GET", "/v1/capabilities", port=c.hive_port)[2]["devices"]}
            wait_for(lambda: len(found()) > 1)
            devices = found()
            self.assertEqual(list(devices), ["cpu", "cuda:0", "cuda:1"], "what cannot be is left out")
            gpu = devices["cuda:0"]
            self.assertEqual({k: gpu.get(k) for k in ("name", "device_type", "memory_total_bytes", "memory_free_bytes", "compute_capability", "pci_bus_id", "problem")}, {"name": "NVIDIA H200", "device_type": "gpu", "memory_total_bytes": 150754820096, "memory_free_bytes": 140000000000, "compute_capability": "9.0", "pci_bus_id": "00000000:41:00.0", "problem": None})
            self.assertEqual(devices["cuda:1"]["memory_free_bytes"], 16000000000, "free is no more than all")
            self.assertIn("7.5 is below 8.0", devices["cuda:1"]["problem"])
            c.wait_logged("h", "gpu_unreadable.*cuda:2")
            self.assertIn('llorch_hive_gpu_vram_total_bytes{gpu_id="cuda:0"} 150754820096', c.call("GET", "/metrics", port=c.hive_port)[2])
            for device, code in (("cuda:1", "NO_WORKERS_AVAILABLE"), ("cuda:7", "NO_WORKERS_AVAILABLE")):
                status, _, body = c.call("GET", f"/v1/memory-check?model=builtin:haiku&device={device}", port=c.hive_port)
                self.assertEqual((status, body["error"]["code"]), (503, code), body)
            self.assertEqual(c.call("GET", "/v1/memory-check?model=builtin:haiku&device=tpu", port=c.hive_port)[0], 400)
            for order in ({"device": "cuda:0", "worker": "cpu"}, {"device": "cpu", "worker": "cuda"}, {"device": "tpu"}):
                status, _, body = c.call("POST", "/v1/jobs", {"operation": "worker_spawn", "model": "builtin:haiku", **order}, port=c.hive_port)
                self.assertEqual((status, body["error"]["param"]), (400, "device"), body)

    def test_a_driver_that_is_not_loaded(self):
        with GpuColony(H200) as c:
            c.say(H200, more="init 9\n")
            c.begin()
            c.wait_logged("h", "Driver Not Loaded")
            self.assertEqual(list(c.devices()), ["cpu"])
            c.say(H200)
            wait_for(lambda: "cuda:0" in c.devices(), 20)

    def test_a_driver_that_hangs_holds_nobody_up(self):
        with GpuColony(H200) as c:
            c.hang(H200)
            try:
                c.begin()
                self.assertEqual(list(c.devices()), ["cpu"])
                end, _ = c.told(HAIKU)
                self.assertEqual(end[1], "end", end)
                c.wait_logged("h", "NVML has not answered", 30)
            finally:
                c.go_on(H200)
            wait_for(lambda: "cuda:0" in c.devices(), 20)

    def test_gpus_of_which_nothing_new_is_known_are_not_used(self):
        with GpuColony(H200) as c:
            c.begin()
            wait_for(lambda: "cuda:0" in c.devices())
            self.assertNotIn("problem", c.devices()["cuda:0"])
            c.say(H200, more="fails count:999\n")
            wait_for(lambda: "NVML 999" in c.devices()["cuda:0"].get("problem", ""), 60)
            c.wait_logged("h", "gpus_not_used.*NVML 999")
            self.assertRegex(c.keeper("status").stdout, r"device cuda:0 .*: not used: nothing new is known of it: NVML: Unknown Error")
            self.assertIsNone(c.devices()["cuda:0"]["memory_free_bytes"])
            end, said = c.told(HAIKU)
            self.assertEqual(end[1], "end", end)
            self.assertIn("not cuda:0 of h: nothing new is known of it", said)
            c.say(H200)
            wait_for(lambda: "problem" not in c.devices()["cuda:0"], 20)
            self.assertEqual(c.devices()["cuda:0"]["memory_free_bytes"], 140000000000)

    def test_nvidia_smi_names_gpus_by_uuid_and_may_fail_later(self):
        with GpuColony() as c:
            c.hide_nvml()
            smi = c.home / "smi" / "nvidia-smi"
            smi.parent.mkdir()
            smi.write_text(f"""#!/bin/sh
[ -e {c.home}/fails ] && exit 9
case "$*" in *,uuid*) ;; *) exit 2 ;; esac
echo "0, NVIDIA H200, 143771, 133514, 9.0, 00000000:41:00.0, 1, 40, GPU-1a"
echo "1, NVIDIA H200, 143771, 133514, 9.0, 00000000:42:00.0, 1, 40, GPU-2b"
""")
            smi.chmod(0o755)
            c.env |= {"PATH": f"{smi.parent}:{c.env['PATH']}", "CUDA_VISIBLE_DEVICES": "GPU-2"}
            c.begin()
            wait_for(lambda: list(c.devices()) == ["cpu", "cuda:1"], 20)
            (c.home / "fails").touch()
            wait_for(lambda: "nvidia-smi ended with 9" in c.devices()["cuda:1"].get("problem", ""), 60)
            (c.home / "fails").unlink()
            wait_for(lambda: "problem" not in c.devices()["cuda:1"], 20)

    def test_gpus_of_a_driver_that_begins_to_hang_are_not_used(self):
        with GpuColony(H200) as c:
            c.begin()
            wait_for(lambda: "cuda:0" in c.devices())
            c.hang(H200)
            try:
                wait_for(lambda: "NVML has not answered" in c.devices()["cuda:0"].get("problem", ""), 90)
            finally:
                c.go_on(H200)
            wait_for(lambda: "problem" not in c.devices()["cuda:0"], 20)

    def test_a_gpu_that_nobody_looks_at_is_asked_seldom(self):
        with GpuColony(H200) as c:
            asked = c.home / "nvml.asked"
            c.begin()
            wait_for(lambda: "cuda:0" in c.devices())

            def asked_in(seconds, look):
                """A second."""
                before, begin = asked.stat().st_size, time.monotonic()
                while time.monotonic() < begin + seconds:
                    look()
                    time.sleep(0.5)
                return (asked.stat().st_size - before) / (time.monotonic() - begin)

            often = asked_in(8, c.status)
            gpu = c.status()["hives"][0]["node"]["gpus"][0]
            self.assertLess(gpu["measured_s_ago"], 5)
            time.sleep(12)  # she says for ten seconds that somebody looks
            seldom = asked_in(12, lambda: None)
            self.assertGreater(seldom, 0)
            self.assertLess(2 * seldom, often)

    def test_a_gpu_without_its_worker_program_or_driver_is_not_used(self):
        with GpuColony(H200, worker=None) as c:
            c.begin()
            self.assertIn("llorch-worker-cuda is not there", c.devices()["cuda:0"]["problem"])
            end, said = c.told(HAIKU)
            self.assertEqual(end[1], "end", end)
            self.assertIn("not cuda:0 of h: ", said)
            self.assertEqual(c.workers(), [("builtin:haiku", "cpu", "cpu")])
            end, _ = c.told(HAIKU | {"device": "gpu0"})
            self.assertEqual(end[2]["code"], "NO_WORKERS_AVAILABLE", end)
            self.assertIn("llorch-worker-cuda is not there", end[2]["message"])
            c.say(H200, driver="550.54", cuda=12040)
            wait_for(lambda: "driver 580 or newer" in c.devices()["cuda:0"]["problem"], 20)

    def test_a_device_that_nobody_can_mean(self):
        with GpuColony(H200) as c:
            c.begin()
            for path, body in (("/v1/jobs", HAIKU | {"device": "tpu"}), ("/v1/jobs", {"operation": "model_load", "model": "haiku", "device": "gpu999"}), ("/v1/chat/completions", {"model": "haiku", "messages": [{"role": "user", "content": "x"}], "device": 1})):
                status, _, answer = c.call("POST", path, body)
                self.assertEqual((status, answer["error"]["param"]), (400, "device"), answer)

    def test_a_worker_that_does_not_start_on_the_gpu(self):
        with GpuColony(H200, worker="broken") as c:
            c.begin()
            end, said = c.told(HAIKU)
            self.assertEqual(end[1], "end", end)
            self.assertRegex(said, r"cuda:0 of h cannot: worker-cuda-\d+ ended with 7")
            self.assertEqual(c.workers(), [("builtin:haiku", "cpu", "cpu")])

    def test_doctor(self):
        with GpuColony(H200) as c:
            def checks():
                return {x["check"]: (x["ok"], x["detail"]) for x in json.loads(c.keeper("doctor", "--json").stdout.splitlines()[-1])["checks"]}

            c.queen()
            found = checks()
            self.assertEqual(found["GPU driver"], (True, "580.65.06, CUDA up to 13.0"))
            self.assertTrue(found["GPU cuda:0"][0] and "NVIDIA H200, compute capability 9.0" in found["GPU cuda:0"][1], found)
            self.assertEqual((found["GPU worker"][0], "is not there" in found["GPU worker"][1]), ((BIN / "llorch-worker-cuda").exists(), not (BIN / "llorch-worker-cuda").exists()))
            c.say(H200, driver="550.54", cuda=12040)
            self.assertIn("driver 580 or newer", checks()["GPU cuda:0"][1])
            c.say(more="init 18\n")
            self.assertEqual(checks()["GPU driver"][0], False)
            self.assertIn("restart the machine", checks()["GPU driver"][1])

    def test_doctor_computes_on_the_gpu(self):
        with GpuColony(H200) as c:  # doctor looks for the GPU's worker beside itself
            for program in ("llorch", "llorch-queen", "llorch-hive"):
                (c.programs / program).write_bytes((BIN / program).read_bytes())
                (c.programs / program).chmod(0o755)
            c.queen()

            def token():
                r = subprocess.run([c.programs / "llorch", *c.command("doctor", "--json")[1:]], capture_output=True, text=True, env=c.env, timeout=120)
                return next(x for x in json.loads(r.stdout.splitlines()[-1])["checks"] if x["check"] == "a token of cuda:0")

            works = token()
            self.assertEqual((works["ok"], "decode 1 tokens" in works["detail"]), (EMULATED is not None, EMULATED is not None), works)
            self.assertIn("--device 0 order PCI_BUS_ID", (c.home / "started").read_text())
            (c.programs / "llorch-worker-cuda").write_text("#!/bin/sh\necho something else; echo CUDA_ERROR: the card is gone >&2; exit 3\n")
            broken = token()
            self.assertEqual(broken["ok"], False)
            self.assertIn("it ended with 3: CUDA_ERROR: the card is gone", broken["detail"])

    def test_doctor_where_the_driver_hangs(self):
        with GpuColony(H200) as c:
            c.queen()
            c.hang(H200)
            try:
                r = c.keeper("doctor", "--json")
                found = {x["check"]: x for x in json.loads(r.stdout.splitlines()[-1])["checks"]}
                self.assertEqual((r.returncode, found["GPU driver"]["ok"]), (1, False), r.stdout)
                self.assertIn("the driver does not answer", found["GPU driver"]["detail"])
                self.assertTrue(found["a model answers"]["ok"], "the other checks are made all the same")
            finally:
                c.go_on(H200)


class Placed(unittest.TestCase):
    def setUp(self):
        if not NVML.exists() or not EMULATED:
            self.skipTest("not run: llorch-worker-cuda-emulated is not built (./dev cuda)")

    def test_a_model_goes_to_the_gpu_and_answers(self):
        with GpuColony(H200, "name=Other;total=16000000000;free=16000000000;major=8;minor=0") as c:
            c.begin()
            end, said = c.told(HAIKU)
            self.assertEqual(end[1], "end", (end, said))
            self.assertEqual(end[2]["tokens_out"], 4)
            self.assertIn("cuda:0 of h is the strongest device", said)
            self.assertEqual(c.workers(), [("builtin:haiku", "cuda:0", "cuda")])

    def test_what_it_takes_is_shown(self):
        with GpuColony(H200) as c:
            c.begin()
            self.assertEqual(c.told(HAIKU)[0][1], "end")
            self.assertRegex((c.home / "started").read_text(), r"serve .* --device 0( .*)? order PCI_BUS_ID\n")
            worker = c.status()["workers"][0]
            self.assertIsNone(worker["vram_mb"], "nobody has said")
            c.say(H200 + f";process={worker['pid']}:{7 * GIB};process=1:{GIB}")
            wait_for(lambda: c.status()["workers"][0]["vram_mb"] == 7 * 1024, 20)
            gpu = c.status()["hives"][0]["node"]["gpus"][0]
            self.assertEqual((gpu["util_pct"], gpu["temp_c"], gpu["vram_total_mb"], gpu["vram_used_mb"]), (37, 61, 150754820096 >> 20, 150754820096 - 140000000000 >> 20))
            said = c.keeper("status").stdout
            self.assertRegex(said, r"device cuda:0 +NVIDIA H200, 140 GB of 151 GB free\n")
            self.assertRegex(said, r"h/worker-cuda-\d+ .* cuda:0 +ready +7\.52 GB of ")
            info = c.call("GET", "/v1/info", port=c.worker_port)[2]
            self.assertEqual((info["device"], info["backend"]), ("cuda:0", "cuda-emulated"))
            health = c.call("GET", "/health", port=c.worker_port)[2]
            self.assertEqual((health["memory_type"], health["vram_bytes_used"] > 1 << 20), ("vram-only", True))
            metric = next(line for line in c.call("GET", "/metrics", port=c.worker_port)[2].splitlines() if line.startswith("llorch_worker_vram_bytes "))
            self.assertEqual(float(metric.split()[1]), health["vram_bytes_used"])

    def test_the_device_is_chosen_by_whoever_asks(self):
        with GpuColony(H200) as c:
            c.begin()
            r = c.keeper("run", "haiku", "x", "-n", "4", "--device", "cpu")
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertEqual(c.workers(), [("builtin:haiku", "cpu", "cpu")])
            self.assertEqual(c.told(HAIKU)[0][1], "end")
            self.assertEqual(len(c.workers()), 1, "nothing is made where a worker has the model")
            r = c.keeper("run", "haiku", "x", "-n", "4", "--device", "gpu0")
            self.assertEqual(r.returncode, 0, r.stderr)
            both = [("builtin:haiku", "cpu", "cpu"), ("builtin:haiku", "cuda:0", "cuda")]
            self.assertEqual(sorted(c.workers()), both)
            c.job({"operation": "model_unload", "model": "builtin:haiku"})
            self.assertEqual(c.job({"operation": "model_load", "model": "builtin:haiku", "device": "gpu"})[-1][1], "end")
            self.assertEqual(c.workers(), both[1:])
            status, _, body = c.call("POST", "/v1/chat/completions", {"model": "builtin:haiku", "messages": [{"role": "user", "content": "x"}], "max_tokens": 3, "device": "cpu"})
            self.assertEqual(status, 200, body)
            self.assertEqual(sorted(c.workers()), both)

    def test_a_model_that_is_too_large_goes_to_the_cpu(self):
        with GpuColony(f"name=Small;total={GIB};free={600 << 20};major=8;minor=9") as c:
            c.begin()
            end, said = c.told(HAIKU)
            self.assertEqual(end[1], "end", end)
            self.assertRegex(said, r"cuda:0 of h cannot: \d+ MB are needed, 361 MB are free on cuda:0")
            self.assertRegex(said, r"cpu of h is the strongest device that suits, with [\d.]+ [MG]B free; not cuda:0 of h: \d+ MB are needed, 361 MB are free")
            self.assertEqual(c.workers(), [("builtin:haiku", "cpu", "cpu")])
            end, _ = c.told(HAIKU | {"device": "cuda:0"})
            self.assertEqual(end[2]["code"], "NO_WORKERS_AVAILABLE", end)
            self.assertRegex(end[2]["message"], r"\d+ MB are needed, 361 MB are free on cuda:0")
            status, _, body = c.call("GET", "/v1/memory-check?model=builtin:haiku&device=gpu0", port=c.hive_port)
            error = body["error"]
            self.assertEqual((status, error["code"], error["details"]["room_bytes"], error["details"]["capacity_bytes"]), (503, "INSUFFICIENT_VRAM", 344 << 20, 344 << 20))
            self.assertGreater(error["details"]["needed_bytes"], 512 << 20)
            spawned = c.job({"operation": "worker_spawn", "model": "builtin:haiku", "device": "cuda:0"}, port=c.hive_port)[-1]
            self.assertEqual(spawned[2]["code"], "INSUFFICIENT_VRAM")

    @unittest.skipUnless(STORIES.exists(), "not run: needs shared/models")
    def test_an_idle_worker_on_the_gpu_makes_room(self):
        gpu = f"name=One;total={4 * GIB};free={GIB};major=8;minor=9"
        with GpuColony(gpu) as c:
            c.begin()
            self.assertEqual(c.told(HAIKU)[0][1], "end")
            worker = c.status()["workers"][0]
            c.say(gpu + f";runs={worker['pid']}:{700 << 20}")
            wait_for(lambda: c.status()["workers"][0]["vram_mb"] == 700, 20)
            end, said = c.told(HAIKU | {"model": str(STORIES)})
            self.assertEqual(end[1], "end", (end, said))
            self.assertIn(f"{worker['worker_id']} on h, with builtin:haiku, makes room", said)
            self.assertEqual(c.workers(), [(f"file:{STORIES}", "cuda:0", "cuda")], said)

    @unittest.skipUnless(STORIES.exists(), "not run: needs shared/models")
    def test_a_model_that_fills_its_gpu_alone_stays_there(self):
        with GpuColony(H200) as c:  # 7 % of its memory are taken
            c.queen("--no-own-hive", "--eviction-vram-threshold", "0.05")
            c.hive("h", c.hive_port, "--worker-dir", c.programs, worker_port=c.worker_port)
            wait_for(lambda: [h for h in c.status()["hives"] if h["known"]] and "cuda:0" in c.devices())
            self.assertEqual(c.told(HAIKU)[0][1], "end")
            with c.urlopen("/v1/heartbeats/stream", 30) as looks:  # one at each look
                seen = 0
                while seen < 3:
                    seen += b'"type":"queen"' in looks.readline()
            self.assertEqual(c.workers(), [("builtin:haiku", "cuda:0", "cuda")])
            end, said = c.told(HAIKU | {"model": str(STORIES), "device": "cuda:0"})
            self.assertEqual(end[1], "end", (end, said))
            wait_for(lambda: c.workers() == [(f"file:{STORIES}", "cuda:0", "cuda")], 20)
            c.wait_logged("queen", "the memory of cuda:0 on h is nearly full: .* it was used least recently")

    def test_a_gpu_that_is_lost(self):
        with GpuColony(H200) as c:
            c.begin()
            self.assertEqual(c.told(HAIKU)[0][1], "end")
            pid = c.status()["workers"][0]["pid"]
            c.say(H200 + ";fails=memory:15")
            wait_for(lambda: "is lost" in c.devices()["cuda:0"].get("problem", ""), 20)
            wait_for(lambda: not pathlib.Path(f"/proc/{pid}").exists() and not c.workers(), 10)
            c.wait_logged("h", "WORKER_UNHEALTHY")
            c.wait_logged("queen", r"worker_failed.*cuda:0, on which worker-cuda-\d+ computed, is lost")
            gpu = c.devices()["cuda:0"]
            self.assertEqual((gpu["name"], gpu["memory_total_bytes"], gpu["memory_free_bytes"]), ("NVIDIA H200", 150754820096, None))
            self.assertIn("not used: the GPU is lost", c.keeper("status").stdout)
            end, said = c.told(HAIKU)
            self.assertEqual(end[1], "end", end)
            self.assertIn("not cuda:0 of h: the GPU is lost", said)
            self.assertEqual(c.workers(), [("builtin:haiku", "cpu", "cpu")])
            status, _, body = c.call("GET", "/v1/memory-check?model=builtin:haiku&device=cuda:0", port=c.hive_port)
            self.assertEqual((status, body["error"]["code"]), (503, "WORKER_UNHEALTHY"), body)
            c.say(H200)
            wait_for(lambda: "problem" not in c.devices()["cuda:0"], 20)


if __name__ == "__main__":
    main()
