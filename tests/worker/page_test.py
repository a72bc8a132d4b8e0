"""The chat page in a real browser (headless Chromium): answers stream in, stop works, every state of the worker is told."""
import json
import os
import sys
import tempfile
import time
import unittest

from playwright.sync_api import sync_playwright

from agents_test import CALL, TEMPLATE, TOOLS, says
from harness import STORIES, Worker, main, not_run, wait_for

SHOTS = os.environ.get("LLORCH_SCREENSHOTS")


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.play = sync_playwright().start()
        cls.browser = cls.play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"])
        cls.w = Worker("--max-batch", "1", "--queue-capacity", "0")

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        cls.play.stop()
        if cls.w.process.poll() is None:
            cls.w.stop()

    def open(self, w=None, **how):
        w = w or self.w
        page = self.browser.new_page(**how)
        self.problems, self.foreign = [], []
        page.on("pageerror", lambda e: self.problems.append(str(e)))
        page.on("request", lambda r: self.foreign.append(r.url) if not r.url.startswith((w.url, "data:")) else None)
        page.goto(w.url + "/")
        page.wait_for_selector("#state.good", timeout=10000)
        return page

    def answered(self, page, count):
        wait_for(lambda: page.locator(".assistant").count() == count and not page.locator(".busy").count(), 20)

    def shot(self, page, name):
        if SHOTS:
            page.screenshot(path=f"{SHOTS}/{name}.png")

    def test_a_conversation(self):
        for name, how in (("light", {}), ("dark", {"color_scheme": "dark"}), ("phone", {"viewport": {"width": 360, "height": 640}, "has_touch": True, "color_scheme": "dark"})):
            page = self.open(**how)
            self.assertIn("builtin:haiku", page.inner_text("#model"))
            for count, text in enumerate(("Write a haiku about the sea", "Write a haiku about <b>moss</b>"), 1):
                page.fill("#text", text)
                page.press("#text", "Enter")
                self.answered(page, count)
            self.assertEqual(page.locator(".user").all_inner_texts(), ["Write a haiku about the sea", "Write a haiku about <b>moss</b>"])
            for answer in page.locator(".assistant").all_inner_texts():
                self.assertRegex(answer, r"(?s)\w+.*\d+ tokens · ([\d.]+ tokens/s · )?first after \d+ ms")
            wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
            self.assertFalse(wide, f"{name}: the page is wider than the screen")
            self.shot(page, name)
            page.click("summary")
            hints = {name: (page.input_value(f"#{name}"), page.get_attribute(f"#{name}", "placeholder")) for name in ("temperature", "top_p", "top_k")}
            self.assertEqual(hints, {"temperature": ("", "0.8"), "top_p": ("", "0.95"), "top_k": ("", "40")}, "what the worker says it does")
            page.fill("#max_tokens", "3")
            page.fill("#temperature", "0")
            page.fill("#text", "Write a haiku about rain")
            page.click("#send")
            self.answered(page, 3)
            self.assertIn("3 tokens", page.locator(".assistant").last.inner_text())
            self.shot(page, name + "-parameters")
            self.assertEqual((self.problems, self.foreign), ([], []))
            page.close()

    def test_text_arrives_piece_by_piece_and_stop_stops(self):
        page = self.open()
        # The server side is watched: the page must show text before the answer ends.
        page.evaluate("""() => { window.sizes = new Set();
            new MutationObserver(() => window.sizes.add(document.querySelector('.assistant')?.textContent.length || 0)).observe(document.querySelector('#log'), {subtree: true, childList: true, characterData: true}); }""")
        page.fill("#text", "Write a haiku about the moon")
        page.click("#send")
        self.answered(page, 1)
        self.assertGreater(page.evaluate("window.sizes.size"), 3)
        before = self.w.metric("llorch_worker_requests_total")
        page.evaluate("""() => { const send = window.fetch; window.fetch = (u, o) => { if (o?.body) o.body = JSON.stringify({...JSON.parse(o.body), ignore_eos: true, messages: [{role: "user", content: "x"}]}); return send(u, o).then((r) => { if (o?.body) document.querySelector('#stop').click(); return r; }); }; }""")
        page.fill("#text", "Go on")
        page.click("#send")
        page.wait_for_selector(".facts:has-text('stopped')")
        end = time.monotonic() + 5
        while time.monotonic() < end and self.w.metric("llorch_worker_kv_pages_used"):
            time.sleep(0.01)
        self.assertEqual(self.w.metric("llorch_worker_kv_pages_used"), 0)
        self.assertGreater(self.w.metric("llorch_worker_requests_total"), before)
        page.close()

    def ask(self, page, text, count, **fields):
        """Asks by the page's form; `fields` are put into the request on its way."""
        page.evaluate("""(fields) => { const send = window.asked || (window.asked = window.fetch); window.fetch = (u, o) => { if (o?.body) o.body = JSON.stringify({...JSON.parse(o.body), ...fields}); return send(u, o); }; }""", fields)
        page.fill("#text", text)
        page.press("#text", "Enter")
        self.answered(page, count)

    def test_thoughts_are_folded(self):
        with tempfile.NamedTemporaryFile("w", suffix=".jinja") as template:
            template.write("{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}")
            template.flush()
            with Worker("--chat-template", template.name) as w:
                page = self.open(w=w)
                self.ask(page, "Write a haiku about the sea", 1, thinking_budget=5, max_tokens=40, ignore_eos=True)
                folded = page.locator(".assistant details.thoughts")
                self.assertEqual(folded.count(), 1)
                self.assertIsNone(folded.get_attribute("open"))
                self.assertRegex(folded.locator("summary").inner_text(), r"^thought for \d+\.\d s$")
                thought = folded.locator("div").text_content()
                self.assertTrue(thought.strip())
                self.assertNotIn("think>", page.inner_text(".assistant"))
                self.assertFalse(folded.locator("div").is_visible())
                folded.locator("summary").click()
                self.assertTrue(folded.locator("div").is_visible())
                self.shot(page, "thoughts")
                sent = []
                page.on("request", lambda r: sent.append(r.post_data_json) if r.method == "POST" else None)
                self.ask(page, "Another", 2, thinking_budget=5, max_tokens=40, ignore_eos=True)
                history = sent[0]["messages"][1]
                self.assertEqual(history["role"], "assistant")
                self.assertNotIn(thought.strip(), history["content"], "no thought goes back")
                self.assertEqual(self.problems, [])
                page.close()

    def test_calls_are_cards(self):
        if not STORIES.exists():
            return not_run(f"no {STORIES}")
        with tempfile.NamedTemporaryFile("w", suffix=".jinja") as template:
            template.write(TEMPLATE)
            template.flush()
            with Worker("--chat-template", template.name, "--max-tokens-out", "400", model=STORIES) as w:
                page = self.open(w=w, viewport={"width": 360, "height": 640})
                page.click("footer summary")
                page.fill("#tools", json.dumps([t["function"] for t in TOOLS]))
                evil = "<img src=x onerror=alert(1)><b>Oslo</b>"
                self.ask(page, "Weather?", 1, grammar=says("I look. " + CALL.replace("Oslo", evil) + '<<call>>{"name": "clock", "arguments": {}}<</call>>'), max_tokens=300)
                cards = page.locator(".assistant .call")
                self.assertEqual(cards.locator("> b").all_inner_texts(), ["weather", "clock"])
                self.assertEqual([c.all_inner_texts() for c in (cards.locator("th"), cards.locator("td"))], [["city", "days"], [evil, "2"]])
                self.assertEqual(page.locator(".assistant img, .assistant td b").count(), 0)
                self.assertIn("I look.", page.inner_text(".assistant"))
                self.assertFalse(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))
                self.shot(page, "calls")
                page.fill("#tools", "[{")
                page.fill("#text", "Weather?")
                page.press("#text", "Enter")
                page.wait_for_selector(".error:has-text('The tools are no JSON')")
                self.assertEqual(self.problems, [])
                page.close()

    def test_a_key_is_asked_for_and_kept_in_the_tab(self):
        with tempfile.TemporaryDirectory() as d:
            with open(f"{d}/token", "w") as f:
                f.write("a-long-enough-secret")
            os.chmod(f"{d}/token", 0o600)
            with Worker("--token-file", f"{d}/token", local=False) as w:
                page = self.browser.new_page(viewport={"width": 360, "height": 640})
                self.assertEqual(page.goto(w.url + "/").status, 401)
                page.wait_for_selector("text=This server wants a key")
                self.assertEqual(page.locator("#text").count(), 0, "the chat itself is not told")
                page.fill("#key", "a-wrong-one")
                page.click("button")
                page.wait_for_selector("text=This key does not open it")
                self.shot(page, "door")
                page.fill("#key", "a-long-enough-secret")
                page.press("#key", "Enter")
                for way in (lambda: None, page.reload):
                    way()
                    page.wait_for_selector("#state.good", timeout=10000)
                page.fill("#text", "Write a haiku about the sea")
                page.press("#text", "Enter")
                self.answered(page, 1)
                self.assertRegex(page.locator(".assistant").inner_text(), r"\d+ tokens")
                self.assertEqual(page.evaluate("Object.keys(localStorage).length + document.cookie.length"), 0)
                page.close()

    def test_refused_busy_gone(self):
        page = self.open()
        page.click("summary")
        page.fill("#text", "word " * 300)
        page.click("#send")
        page.wait_for_selector(".error:has-text('context')")
        page.route("**/v1/chat/completions", lambda r: r.fulfill(status=429, content_type="application/json", body='{"error":{"code":"QUEUE_FULL","message":"the queue is full"}}'))
        page.fill("#text", "y")
        page.click("#send")
        page.wait_for_selector(".error:has-text('busy')")
        page.unroute("**/v1/chat/completions")
        self.shot(page, "busy")
        self.w.process.kill()
        self.w.process.wait()
        page.fill("#text", "z")
        page.click("#send")
        page.wait_for_selector(".error:has-text('cannot be reached')")
        page.wait_for_selector("#state.bad:has-text('gone')", timeout=10000)
        self.shot(page, "gone")
        type(self).w = Worker("--max-batch", "1", "--queue-capacity", "0")
        page.close()


if __name__ == "__main__":
    main()
