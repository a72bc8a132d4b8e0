"""The fleet page of real machines: three hives in network namespaces that joined with a token, 20 real workers, a download, a worker that
makes room, a machine that dies and one whose cable is cut. Figures are at most two seconds old, and nothing flickers (needs root)."""
import json
import os
import pathlib
import re
import signal
import time
import unittest

from browser import WIDE, Browser, accessible
from colony import BIN, STORIES, main, wait_for
from hub import Hub
from lan import NET, WHY_NOT
from machines import TOKEN, Machines

HAIKU, FETCHED = "builtin:haiku", "hf:org/tiny@main"
PERSON = f"{NET}.5"
AGE_MAX_S = 2.0
LOOK_S = 0.1  # between two looks of the test at what the page shows
WHY_NOT = WHY_NOT or (None if STORIES.exists() else f"{STORIES} is not there")
if WHY_NOT:
    print("not run: a fleet of real machines:", WHY_NOT)

# In the page: what each answer of the queen says and how long it took, and every tenth of a second which answer is shown, of which machines' workers the
# page shows figures, and which workers it shows; elements of the fleet that were taken out or put in.
WATCH = """() => {
  window.answers = []; window.looks = []; window.taken = []; window.put = []; window.told = '';
  const fetched = window.fetch;
  window.fetch = async (...all) => {
    const asked = performance.now(), answer = await fetched(...all);
    if (String(all[0]).endsWith('/v1/status')) answer.clone().json().then((s) => window.answers.push([(performance.now() - asked) / 1000, s.workers.map((w) => [w.hive_id, w.pid, w.uptime_s])]));
    return answer;
  };
  const current = () => [...document.querySelectorAll('.worker')].filter((w) => /CPU/.test(w.textContent)).map((w) => w.dataset.key.split('/')[0]);
  const rows = () => [...document.querySelectorAll('.worker')].map((w) => w.dataset.key);
  setInterval(() => window.looks.push([Date.now() / 1000, window.answers.length - 1, document.querySelector('.stale') ? [] : [...new Set(current())], rows()]), LOOK_MS);
  const seen = (n) => n.nodeType === 1 && n.tagName !== 'OPTION';
  const name = (n) => `${n.className} ${n.dataset?.key ?? ''}`;
  new MutationObserver((all) => { for (const m of all) {
    if (m.target.closest('.activities')) { window.told += m.target.textContent; continue; }
    window.taken.push(...[...m.removedNodes].filter(seen).map(name));
    window.put.push(...[...m.addedNodes].filter(seen).map(name));
  } }).observe(document.querySelector('.fleet'), {subtree: true, childList: true});
}""".replace("LOOK_MS", str(int(LOOK_S * 1000)))


def started(pid):
    """When a process was started, in seconds since 1970; None: it has ended."""
    try:
        ticks = int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return None
    up = float(pathlib.Path("/proc/uptime").read_text().split()[0])
    return time.time() - up + ticks / os.sysconf("SC_CLK_TCK")


def number_there(pid):
    """Of a process, in the process namespace of its machine."""
    return int(re.search(r"NSpid:.*?(\d+)$", pathlib.Path(f"/proc/{pid}/status").read_text(), re.M)[1])


@unittest.skipIf(WHY_NOT, f"not run: {WHY_NOT}")
class RealFleet(Machines):
    names = ("q", "a", "b", "c", "p")  # the queen's, three of the fleet, a person's
    queen_flags = ("--no-own-hive", "--heartbeat-missed-threshold", "20")  # for so many seconds nothing is known of a machine: time for looks at the page

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.hub = cls.lan.within("p", lambda: Hub({"tiny-f32.gguf": STORIES.read_bytes()}, address=PERSON))
        cls.addClassCleanup(cls.hub.close)
        cls.hub.rate = 250_000
        program = cls.lan.folder / "chromium"
        program.write_text(f'#!/bin/sh\nexec ip netns exec {cls.lan.tag}-p /usr/bin/chromium "$@"\n')
        program.chmod(0o755)
        cls.browser = Browser(program)
        cls.addClassCleanup(cls.browser.close)

    def join(self, machine):
        """As a person does it, with everything by default; the hive asks the test's own hub."""
        r = self.at(machine, "env", f"HF_ENDPOINT={self.hub.url}", BIN / "llorch", *self.invited()[1:], "--hive-id", machine)
        self.assertEqual(r.returncode, 0, r.stderr + self.hive_log(machine))
        wait_for(lambda: machine in self.hives(), 15)

    def order(self, **order):
        """An operation of the queen, which goes on."""
        status, text = self.ask("POST", "/v1/jobs", order)
        self.assertEqual(status, 202, text)
        return json.loads(text)["sse_url"]

    def start(self, machine, count):
        told = self.ask("GET", self.order(operation="model_load", model=HAIKU, hive_id=machine))[1]  # the machine has its worker program then
        self.assertNotIn("event: error", told)
        for _ in range(count - 1):
            self.order(operation="worker_spawn", model=HAIKU, hive_id=machine)

    def status(self):
        return self.json_of("GET", "/v1/status", machine="q", root="/root/root.pem")

    def fleet(self):
        """Three machines: a with 8 workers, b with room for 6 and no more, c with 6."""
        self.join("a")
        self.join("c")
        self.start("a", 8)
        ready = wait_for(lambda: [w for w in self.status()["workers"] if w["state"] == "ready"], 30)
        folder = self.home["b"] / ".config/llorch"
        folder.mkdir(parents=True)
        (folder / "config.toml").write_text(f"[hive]\nmemory-limit-mb = {6 * ready[0]['memory_bytes'] // 2**20 + 2}\n")
        self.join("b")
        self.start("b", 6)
        self.start("c", 6)

    def open_page(self):
        context = self.browser.chromium.new_context(**WIDE, ignore_https_errors=True, extra_http_headers={"Authorization": f"Bearer {TOKEN}"})
        return self.browser.tab(self.url + "/#fleet", context)

    def begun_workers(self):
        """When each worker was started, by its machine and its number there."""
        return {(machine, number_there(pid)): started(pid) for machine, line, pid in self.lan.processes() if "llorch-worker" in line}

    def kill(self, machine, *words):
        pid = next(pid for where, line, pid in self.lan.processes() if where == machine and all(w in line for w in words))
        os.kill(pid, signal.SIGKILL)

    def ages(self, page, begun):
        """How long ago the figures of each worker were measured that the page showed as current, by what the kernel says of its start and the uptime that was
        measured with them, worst first: (seconds, machine). Less what their way took where this machine was busy: how late the page's clock was, and how
        long the queen's answer took."""
        answers, looks = page.evaluate("[window.answers, window.looks]")
        late = max(b[0] - a[0] for a, b in zip(looks, looks[1:])) - LOOK_S
        found = [(at - begun[machine, pid] - uptime - late - took, machine) for at, answer, current, _ in looks if answer >= 0 for took, workers in [answers[answer]] for machine, pid, uptime in workers if machine in current and uptime is not None and begun.get((machine, pid))]
        self.assertGreater(len(found), 100)
        return sorted(found, reverse=True)

    def watched(self, page, seconds=0):
        """Figures were of now since the last time that this was asked, and elements that the page took out and put in: (taken, put)."""
        page.wait_for_timeout(seconds * 1000)
        worst = self.ages(page, self.begun)
        self.assertLess(worst[len(worst) // 50][0], AGE_MAX_S, worst[:5])  # a fiftieth: machines that share two processors are late now and then
        return page.evaluate("(() => { const both = [window.taken, window.put]; window.taken = []; window.put = []; return both; })()")

    def test_figures_are_of_now_and_nothing_flickers(self):
        self.fleet()
        page = self.open_page()
        wait_for(lambda: page.locator(".worker .badge.ready").count() == 20, 60)
        self.assertEqual(page.locator(".machine h3").all_inner_texts(), ["a", "b", "c"])
        self.begun = self.begun_workers()
        page.evaluate(WATCH)
        self.assertEqual(self.watched(page, 6), [[], []], "nothing happens, and elements are made anew")
        shown = page.evaluate("window.looks.filter(([, , current]) => current.length === 3).length / window.looks.length")
        self.assertGreater(shown, 0.8, "figures are there nearly always")
        self.download(page)
        self.make_room(page)
        self.lose_a_worker(page)
        self.stop_the_queen(page)
        self.cut_a_cable(page)
        self.lose_a_machine(page)
        self.assertEqual(page.flaws, [])
        page.context.close()

    def download(self, page):
        page.fill("#reference", "org/tiny")
        page.select_option("#download-to", "b")
        place = page.locator("#download").bounding_box()
        page.click("#download")
        page.wait_for_selector(".activity")
        self.assertEqual(page.locator("#download").bounding_box(), place, "the page jumps")
        seen = set()
        while not page.locator(".activity.good").count():
            self.assertFalse(page.locator(".activity.bad").count(), page.locator(".activities").inner_text())
            seen.update(t for t in page.locator(".activity .meter-text").all_inner_texts() if t)
            page.wait_for_timeout(100)
        self.assertGreater(len(seen), 3, "its progress is told")
        self.assertTrue(all(re.fullmatch(r"[\d.]+ (B|kB|MB) of 1\.19 MB( · [\d.]+ (kB|MB)/s)?", t) for t in seen), seen)
        page.wait_for_selector(f".model:has-text('{FETCHED}')")
        self.assertEqual(self.watched(page), [[], [f"model {FETCHED}"]])

    def make_room(self, page):
        """b has no room for one more: one of its idle workers goes."""
        page.click(f"[aria-label='Load {FETCHED}']")
        page.select_option("dialog [name=hive_id]", "b")
        page.click("dialog button:has-text('Load')")
        page.wait_for_selector(f".activity.good:has-text('Load {FETCHED}')", timeout=30000)
        page.wait_for_selector(f".worker:has-text('{FETCHED}') .badge.ready")
        self.begun = self.begun_workers()
        taken, put = self.watched(page, 2)
        models = page.locator(".worker[data-key^='b/'] .hint").all_inner_texts()
        self.assertEqual(sorted(models), [f"{HAIKU} on cpu"] * 5 + [f"{FETCHED} on cpu"])
        self.assertIn("makes room", page.evaluate("window.told"))
        self.assertEqual(taken, put, "the new worker has the name of the one that went")
        self.assertLess(len(taken), 2, taken)

    def lose_a_worker(self, page):
        """The first of the list: those below it stay what they were. The page does not show it beside figures of its machine that were measured later."""
        count, first = page.locator(".worker").count(), page.locator(".worker").first.get_attribute("data-key")
        self.kill("a", "llorch-worker", first.split("-")[-1])
        died = time.time()
        wait_for(lambda: page.locator(".worker").count() == count - 1, 60)
        answers, looks = page.evaluate("[window.answers, window.looks]")
        measured = lambda answer: max(self.begun[machine, pid] + uptime for machine, pid, uptime in answers[answer][1] if machine == "a" and uptime is not None)
        beside = [measured(answer) - died for _, answer, _, rows in looks if answer >= 0 and first in rows]
        self.assertLess(max(beside), 1, "later figures of its machine, and it is still there")
        self.assertEqual(self.watched(page, 1), [[f"worker {first}"], []])

    def stop_the_queen(self, page):
        pid = next(pid for where, line, pid in self.lan.processes() if where == "q" and "llorch-queen" in line)
        os.kill(pid, signal.SIGSTOP)
        try:
            page.wait_for_selector(".lost:has-text('does not answer')", timeout=30000)
            self.assertEqual(page.locator(".worker:has-text('% CPU')").count(), 0, "figures of before are shown")
        finally:
            os.kill(pid, signal.SIGCONT)
            self.queen.send_signal(signal.SIGCONT)  # nsenter stops with its child
        page.wait_for_selector(".lost", state="hidden")
        page.wait_for_selector(".worker:has-text('% CPU')")
        page.wait_for_timeout(1500)
        page.evaluate("window.looks = []")  # reports that waited for her are taken for new ones
        self.assertEqual(self.watched(page, 2), [[], []])

    def cut_a_cable(self, page):
        count = page.locator(".worker[data-key^='c/']").count()
        self.lan.cable("c", "down")
        page.wait_for_selector(".machine.unknown:has-text('no figures for')", timeout=30000)
        self.assertEqual(page.locator(".worker[data-key^='c/']:has-text('no news')").count(), count)
        self.assertEqual(page.locator(".worker[data-key^='c/']:has-text('% CPU')").count(), 0)
        self.assertEqual(accessible(page), [])
        self.assertIn("Processor –", page.locator(".machine.unknown").inner_text())
        line = page.locator(".machine.unknown .plot .line").get_attribute("d")
        self.assertLess(float(re.findall(r"([\d.]+),", line)[-1]), 59, "what is not known is drawn as zero")
        page.wait_for_selector(".machine.offline h3:has-text('c')", timeout=60000)
        wait_for(lambda: page.locator(".worker[data-key^='c/']").count() == 0, 30)
        taken, put = self.watched(page)
        self.assertEqual(sorted(t.split("/")[0] for t in taken), ["machine unknown c", *["worker c"] * count])
        self.assertEqual(put, ["machine offline off c"])

    def lose_a_machine(self, page):
        """Its hive is killed, and its workers go with it."""
        self.kill("a", "llorch-hive")
        page.wait_for_selector(".machine.unknown h3:has-text('a')", timeout=30000)
        page.wait_for_selector(".machine.offline h3:has-text('a')", timeout=60000)
        taken, put = self.watched(page, 1)
        self.assertEqual((sorted({t.split("/")[0] for t in taken}), put), (["machine unknown a", "worker a"], ["machine offline off a"]))
        self.assertEqual(len(taken), len(set(taken)))
        self.assertEqual(page.locator(".machine h3").all_inner_texts(), ["b", "a", "c"])


if __name__ == "__main__":
    main()
