"""How old the figures of the fleet's page are, and what it shows of those that are not known (U-01)."""
import pathlib
import time
import unittest

from browser import WIDE, Browser, accessible
from colony import Colony, main, not_run, wait_for
from fleet import Machine
from held_files import WHY_NOT, HeldFiles

# As a browser hides a tab: the page is told, and its timers may still run.
HIDE = """(hidden) => {
  Object.defineProperty(document, 'hidden', {configurable: true, get: () => hidden});
  document.dispatchEvent(new Event('visibilitychange'));
}"""
MACHINE = ".machine:has(h3:text-is('{}'))"


class Ages(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()

    def fleet(self, c, *names, count=2, gib=64):
        c.queen("--no-own-hive")
        machines = [Machine(name, count, gib=gib) for name in names]
        for m in machines:
            m.live(c)
        page = self.browser.tab(c.url + "/#fleet")
        wait_for(lambda: page.locator(".worker:has-text('% CPU')").count() == count * len(names))
        return page, *machines

    def end(self, page, *machines):
        self.assertEqual(page.flaws, [])
        for m in machines:
            m.close()
        page.context.close()

    def series(self, page, tile):
        """Where its plot's line ends: 59 is now."""
        d = page.locator(f"#tile-{tile} .plot .line").get_attribute("d")
        return float(d.replace("M", "L").split("L")[-1].split(",")[0]) if d else None

    def test_a_machine_that_reports_and_measures_no_more(self):
        with Colony() as c:
            page, attic, desk = self.fleet(c, "attic", "desk")
            desk.measured = time.monotonic()
            box = page.locator(MACHINE.format("desk"))
            wait_for(lambda: "no figures for" in box.inner_text(), 8)
            self.assertIn("Processor –", box.inner_text())
            self.assertIn("– of 68.7 GB", box.inner_text())
            self.assertEqual(page.locator(".worker[data-key^='desk/']:has-text('% CPU')").count(), 0)
            self.assertEqual(page.locator(".worker[data-key^='desk/'] .badge.ready").count(), 2, "it does report: its workers are known")
            self.assertEqual(page.locator(".worker[data-key^='attic/']:has-text('% CPU')").count(), 2)
            hive = next(h for h in c.call("GET", "/v1/status")[2]["hives"] if h["id"] == "desk")
            self.assertLess(hive["seen_s_ago"], hive["node"]["measured_s_ago"], "she tells how old they are now")
            desk.measured = None
            wait_for(lambda: page.locator(".worker[data-key^='desk/']:has-text('% CPU')").count() == 2, 8)
            self.end(page, attic, desk)

    def test_a_hive_whose_measuring_hangs(self):
        if WHY_NOT:
            return not_run(WHY_NOT)
        with Colony() as c:
            c.queen("--no-own-hive")
            with HeldFiles(c, "llorch-hive", "/statm") as files:
                c.hive("h", c.hive_port, worker_port=c.worker_port)
            status = lambda: c.call("GET", "/v1/status")[2]
            wait_for(lambda: status()["hives"])
            c.infer()
            worker = lambda: status()["workers"][0]
            wait_for(lambda: worker().get("measured_s_ago") is not None, 10)
            page = self.browser.tab(c.url + "/#fleet")
            page.wait_for_selector(".worker:has-text('% CPU')")
            files.hold()
            try:
                page.wait_for_selector(".machine:has-text('no figures for')")
                self.assertEqual(page.locator(".worker:has-text('% CPU')").count(), 0)
                first = worker()
                wait_for(lambda: worker()["measured_s_ago"] > first["measured_s_ago"] + 1, 10)
                self.assertEqual(worker()["uptime_s"], first["uptime_s"], "it is of the same measurement")
                self.assertLess(status()["hives"][0]["seen_s_ago"], worker()["measured_s_ago"], "it reports")
            finally:
                files.go_on()
            page.wait_for_selector(".worker:has-text('% CPU')")
            started = time.time() - worker()["measured_s_ago"] - worker()["uptime_s"]
            begun = pathlib.Path(f"/proc/{worker()['pid']}").stat().st_mtime
            self.assertLess(abs(started - begun), 5, "since the process was started")
            self.assertEqual(page.flaws, [])
            page.context.close()

    def test_memory_that_is_not_known_is_not_zero(self):
        with Colony() as c:
            page, attic, cellar, desk = self.fleet(c, "attic", "cellar", "desk")
            tile = lambda: page.inner_text("#tile-memory").replace("\n", " ")
            wait_for(lambda: "of 206 GB · 3 of 3 machines" in tile())
            wait_for(lambda: self.series(page, "memory") == 59)
            desk.measured = time.monotonic()
            wait_for(lambda: "of 137 GB · 2 of 3 machines" in tile(), 8)
            wait_for(lambda: self.series(page, "memory") < 59, 8)
            attic.measured = cellar.measured = desk.measured
            wait_for(lambda: "– known of 0 of 3 machines" in tile(), 8)
            attic.measured = cellar.measured = desk.measured = None
            wait_for(lambda: "of 206 GB · 3 of 3 machines" in tile() and self.series(page, "memory") == 59, 8)
            self.end(page, attic, cellar, desk)
        with Colony() as c:
            page, attic = self.fleet(c, "attic")
            attic.lost.set()
            wait_for(lambda: "– no machine is online" in page.inner_text("#tile-memory").replace("\n", " "), 60)
            self.assertIn("now –", page.locator("#tile-memory .plot").get_attribute("aria-label"))
            self.assertLess(self.series(page, "memory") or 0, 59)
            self.end(page, attic)

    def test_figures_of_gpus_say_how_old_they_are(self):
        with Colony() as c:
            c.queen("--no-own-hive")
            m = Machine("attic", 1)
            m.gpu = 0.2
            m.live(c)
            page = self.browser.tab(c.url + "/#fleet")
            row = page.locator(".device", has_text="cuda:0")
            wait_for(lambda: "8.59 GB free of 17.2 GB" in row.inner_text())
            self.assertNotIn("ago", row.inner_text())
            m.gpu = 5.0
            wait_for(lambda: "8.59 GB free of 17.2 GB · 5 s ago" in row.inner_text() or "8.59 GB free of 17.2 GB · 6 s ago" in row.inner_text())
            self.assertNotIn("no figures", page.inner_text(".machine"))
            self.end(page, m)

    def test_figures_that_another_queen_tells(self):
        with Colony() as c:
            page, attic = self.fleet(c, "attic")

            def by_another(route):
                answer = route.fetch()
                told = answer.json()
                for one in [told["hives"][0]["node"], *told["workers"]]:
                    one["measured_s_ago"] = seconds
                told["hives"][0] |= {"seen_s_ago": seconds, "via": "q2"}
                route.fulfill(response=answer, json=told)

            seconds = 7
            page.route("**/v1/status", by_another)
            page.wait_for_selector(".machine:has-text('figures of 7 s ago, by another queen')")
            self.assertEqual(page.locator(".worker:has-text('% CPU')").count(), 2)
            self.assertIn("1 of 1 machine", page.inner_text("#tile-memory"))
            seconds = 13
            page.wait_for_selector(".machine:has-text('no figures for 13 s')")
            self.assertEqual(page.locator(".worker:has-text('no news')").count(), 2)
            page.unroute_all(behavior="wait")
            self.end(page, attic)

    def test_a_hidden_page_does_not_say_that_the_queen_is_gone(self):
        with Colony() as c:
            page, attic = self.fleet(c, "attic")
            page.evaluate("() => { window.lost = 0; new MutationObserver(() => (window.lost += !document.querySelector('.lost').hidden)).observe(document.querySelector('.lost'), {attributes: true, childList: true, subtree: true}); }")
            page.evaluate(HIDE, True)
            page.wait_for_timeout(4000)  # it asks every five seconds then
            self.assertEqual(page.evaluate("window.lost"), 0)
            page.evaluate(HIDE, False)
            page.wait_for_selector(".worker:has-text('% CPU')")
            self.assertEqual(page.evaluate("window.lost"), 0, "it looks first")
            # Whoever looks is told of a queen that does not answer.
            page.route("**/v1/status", lambda route: None)
            page.wait_for_selector(".lost:has-text('does not answer')")
            page.evaluate(HIDE, True)
            page.evaluate(HIDE, False)
            page.wait_for_selector(".lost:has-text('does not answer')")
            page.unroute("**/v1/status")
            self.end(page, attic)

    def test_nothing_can_be_pressed_before_the_first_answer(self):
        with Colony() as c:
            c.queen("--no-own-hive")
            page = self.browser.chromium.new_context(**WIDE).new_page()
            errors, waiting = [], []
            page.on("pageerror", lambda e: errors.append(str(e)))
            page.route("**/v1/status", lambda route: waiting.append(route))
            page.goto(c.url + "/#fleet")
            wait_for(lambda: page.locator("#machines").is_visible() and (waiting or page.wait_for_timeout(50)))
            for button in ("#start-worker", "#add-name", "#invite", "#download"):
                if page.locator(button).is_visible():
                    page.click(button)
                    page.keyboard.press("Escape")
                self.assertEqual(errors, [], button)
                self.assertFalse(page.locator(button).is_visible(), button)
            page.unroute("**/v1/status")  # those that wait go on
            page.wait_for_selector("#start-worker")
            page.click("#start-worker")
            page.wait_for_selector("dialog")
            self.assertEqual(errors, [])
            page.context.close()

    def test_a_machine_that_is_not_online_is_called_what_it_is(self):
        with Colony() as c:
            c.queen()
            page = self.browser.tab(c.url + "/#fleet")
            c.infer()
            page.wait_for_selector(".worker")
            hive = c.call("GET", "/v1/status")[2]["hives"][0]
            c.call("POST", "/v1/shutdown", {}, {"Authorization": "Bearer " + c.node_key()}, port=c.hive_port)
            page.wait_for_selector(".machine.offline:has-text('asleep until it is needed')", timeout=60000)
            self.assertEqual(page.locator(".machine.offline").get_attribute("aria-label"), f"Machine {hive['id']}, asleep until it is needed")
            self.assertEqual(accessible(page), [])
            page.context.close()

    def test_the_page_stays_when_an_activity_goes(self):
        with Colony() as c:
            page, attic = self.fleet(c, "attic", count=8)
            page.click("[aria-label='Pin builtin:haiku: its workers stay']")
            page.wait_for_selector(".activity.good")
            view = page.locator(".fleet-view")
            view.evaluate("(e) => e.scrollTo(0, e.scrollHeight)")
            place = view.evaluate("(e) => e.scrollTop")
            self.assertGreater(place, 0)
            page.wait_for_selector(".activity", state="detached")
            page.wait_for_timeout(100)
            self.assertEqual(view.evaluate("(e) => e.scrollTop"), place)
            self.end(page, attic)


if __name__ == "__main__":
    main()
