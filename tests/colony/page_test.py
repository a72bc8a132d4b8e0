"""The queen's page in a real browser: it tells the truth about the colony, and any model can be asked there (U-01)."""
import json
import os
import tempfile
import unittest

from playwright.sync_api import sync_playwright

from answer_test import CALL, TEMPLATE, TOOLS, model, says
from colony import STORIES, Colony, free_port, main, not_run, wait_for

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

    def test_thoughts_and_calls(self):
        if not STORIES.exists():
            return not_run(f"no {STORIES}")
        thinking = "{% if add_generation_prompt and not tools %}<think>\n{% endif %}"
        with tempfile.TemporaryDirectory() as folder, Colony() as c:
            path = model(folder, TEMPLATE.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] if m.content else '' }}") + thinking)
            c.queen()
            for order in ({"operation": "model_alias", "name": "poet", "model": f"file:{path}"}, {"operation": "model_load", "model": "poet"}):
                self.assertEqual(c.job(order)[-1][1], "end")
            page = self.browser.new_page()
            problems = []
            page.on("pageerror", lambda e: problems.append(str(e)))
            page.goto(c.url + "/")
            page.wait_for_selector("#state.good")
            wait_for(lambda: page.locator("#model option").count() > 1)
            page.select_option("#model", [v for v in page.locator("#model option").evaluate_all("all => all.map((o) => o.value)") if "haiku" not in v][0])
            evil = "<img src=x onerror=alert(1)>"
            page.evaluate("""(fields) => { const send = window.fetch; window.fetch = (u, o) => { const body = o?.body && JSON.parse(o.body); if (body?.messages) o.body = JSON.stringify({...body, ...(body.tools ? {grammar: fields.grammar, max_tokens: 150, thinking_budget: 1} : {max_tokens: 30})}); return send(u, o); }; }""", {"grammar": says(CALL.replace("Oslo", evil))})

            def ask(count):
                page.fill("#text", "Once upon a time")
                page.press("#text", "Enter")
                wait_for(lambda: page.locator(".assistant").count() == count and not page.locator(".busy").count(), 30)

            ask(1)
            folded = page.locator(".assistant details.thoughts")
            self.assertRegex(folded.locator("summary").inner_text(), r"^thought for \d+\.\d s$")
            self.assertIsNone(folded.get_attribute("open"))
            self.assertRegex(folded.locator("div").text_content(), r"\w+ \w+")
            self.assertEqual(page.locator(".told").last.inner_text().split(" · ")[0], "30 tokens")
            page.click("summary:has-text('Tools')")
            page.fill("#tools", json.dumps(TOOLS))
            ask(2)
            card = page.locator(".assistant").last.locator(".call")
            self.assertEqual([card.locator(kind).all_inner_texts() for kind in ("> b", "th", "td")], [["weather"], ["city", "days"], [evil, "2"]])
            self.assertEqual(page.locator("img").count(), 0)
            if SHOTS:
                page.screenshot(path=f"{SHOTS}/queen-calls.png", full_page=True)
            self.assertEqual(problems, [])
            page.close()


if __name__ == "__main__":
    main()
