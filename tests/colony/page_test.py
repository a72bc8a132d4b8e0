"""The queen's page in a real browser: it tells the truth about the colony, and any model can be asked there (U-01)."""
import os
import unittest

from playwright.sync_api import sync_playwright

from colony import Colony, free_port, main, wait_for

SHOTS = os.environ.get("LLORCH_SCREENSHOTS")


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.play = sync_playwright().start()
        cls.browser = cls.play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        cls.play.stop()

    def test_from_asleep_to_answers(self):
        with Colony() as c:
            queen = c.queen()
            page = self.browser.new_page()
            problems, foreign = [], []
            page.on("pageerror", lambda e: problems.append(str(e)))
            page.on("request", lambda r: foreign.append(r.url) if not r.url.startswith((c.url, "data:")) else None)
            page.goto(c.url + "/")
            page.wait_for_selector("#state.good")
            self.assertIn("No hive is online", page.inner_text("#hives"))
            page.fill("#text", "Write a haiku about <b>moss</b>")
            page.press("#text", "Enter")
            wait_for(lambda: page.locator(".assistant").count() == 1 and not page.locator(".busy").count(), 30)
            self.assertRegex(page.inner_text(".assistant"), r"\w+\s+\w+")
            self.assertRegex(page.inner_text(".told"), r"\d+ tokens")
            self.assertEqual(page.inner_text(".user"), "Write a haiku about <b>moss</b>")
            wait_for(lambda: "worker-cpu-" in page.inner_text("#workers"))
            self.assertIn("builtin:haiku", page.inner_text("#models"))
            self.assertIn("free", page.inner_text("#hives"))
            c.hive("second", free_port())
            wait_for(lambda: "second" in page.inner_text("#hives"))
            for name, how in (("queen-light", {}), ("queen-dark", {"color_scheme": "dark"}), ("queen-phone", {"viewport": {"width": 360, "height": 640}, "color_scheme": "dark"})):
                other = self.browser.new_page(**how)
                other.goto(c.url + "/")
                wait_for(lambda: "worker-cpu-" in other.inner_text("#workers"))
                other.fill("#text", "Write a haiku about the sea")
                other.click("#send")
                wait_for(lambda: other.locator(".assistant").count() == 1 and not other.locator(".busy").count(), 20)
                self.assertFalse(other.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"), name)
                if SHOTS:
                    other.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)
                other.close()
            hive = self.browser.new_page(viewport={"width": 360, "height": 640})
            hive.on("pageerror", lambda e: problems.append(str(e)))
            hive.goto(f"http://127.0.0.1:{c.hive_port}/")
            hive.wait_for_selector("#state.good")
            wait_for(lambda: "of a core" in hive.inner_text("#workers"), 15)
            self.assertRegex(hive.inner_text("#workers"), r"worker-cpu-\d+")
            self.assertIn("GiB free", hive.inner_text("#devices"))
            self.assertIn("builtin:haiku", hive.inner_text("#models"))
            self.assertIn("llorch-worker-cpu", hive.inner_text("#programs"))
            self.assertFalse(hive.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))
            if SHOTS:
                hive.screenshot(path=f"{SHOTS}/hive-phone.png", full_page=True)
            self.assertEqual((problems, foreign), ([], []))
            queen.terminate()
            queen.wait(20)
            wait_for(lambda: "gone" in page.inner_text("#state"))
            wait_for(lambda: "gone" in hive.inner_text("#state"))  # the hive went with her
            page.close()


if __name__ == "__main__":
    main()
