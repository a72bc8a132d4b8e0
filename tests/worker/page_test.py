"""The worker's page in headless Chromium: answers stream in, stop works, every state of the worker is told, nothing is loaded from elsewhere."""
import json
import os
import tempfile
import unittest

from agents_test import CALL, TEMPLATE, TOOLS, says
from browser import LOOKS, PAGE_BYTES_MAX, PHONE, Browser, answered, ask, loaded_bytes, too_wide
from harness import STORIES, Worker, main, not_run, wait_for


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()
        cls.w = Worker("--max-batch", "1", "--queue-capacity", "0")

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        if cls.w.process.poll() is None:
            cls.w.stop()

    def open(self, w=None, **how):
        return self.browser.tab((w or self.w).url + "/", **how)

    def add_fields(self, page, **fields):
        """Puts these into the page's requests on their way."""
        page.evaluate("""(fields) => { const send = window.asked || (window.asked = window.fetch); window.fetch = (u, o) => { if (o?.body) o.body = JSON.stringify({...JSON.parse(o.body), ...fields}); return send(u, o); }; }""", fields)

    def test_a_conversation_at_all_widths_and_schemes(self):
        for name, how in LOOKS.items():
            with self.subTest(name):
                page = self.open(**how)
                for count, text in enumerate(("Write a haiku about the sea", "Write a haiku about <b>moss</b>"), 1):
                    ask(page, text, count)
                self.assertEqual(page.locator(".user .said").all_inner_texts(), ["Write a haiku about the sea", "Write a haiku about <b>moss</b>"])
                for facts in page.locator(".assistant .facts").all_inner_texts():
                    self.assertRegex(facts, r"^builtin:haiku · \d+ tokens · (\d[\d.]* tokens/s · )?first after \d+ ms$")
                self.assertFalse(too_wide(page))
                page.click("#open-settings")
                hints = {name: (page.input_value(f"#set-{name}"), page.get_attribute(f"#set-{name}", "placeholder")) for name in ("temperature", "top_p", "top_k")}
                self.assertEqual(hints, {"temperature": ("", "0.8"), "top_p": ("", "0.95"), "top_k": ("", "40")}, "what the worker says it does")
                page.fill("#set-max_tokens", "3")
                page.fill("#set-temperature", "0")
                page.keyboard.press("Escape")
                self.assertIn("3 tokens", ask(page, "Write a haiku about rain", 3).inner_text())
                self.assertIn("ended at its length limit", page.locator(".facts").last.inner_text())
                self.assertEqual(page.flaws, [])
                page.context.close()

    def test_it_is_small_and_its_policy_is_strict(self):
        bodies, policy = loaded_bytes(self.browser, self.w.url + "/")
        self.assertNotIn("unsafe", policy)
        self.assertIn("default-src 'none'", policy)
        self.assertGreater(len(bodies), 10)
        self.assertLess(sum(bodies.values()), PAGE_BYTES_MAX, bodies)
        self.assertNotRegex(self.w.get("/")[2], r"<style|style=|<script>| on\w+=")
        for path, status in (("/page/chat.js", 200), ("/page/page.html", 404), ("/page/nothing.js", 404)):
            self.assertEqual(self.w.get(path)[0], status, path)

    def test_text_arrives_piece_by_piece_and_stop_stops(self):
        page = self.open()
        page.evaluate("""() => { window.sizes = new Set(); window.states = new Set();
            new MutationObserver(() => { window.sizes.add(document.querySelector('.assistant .md')?.textContent.length || 0); window.states.add(document.querySelector('#state').textContent); }).observe(document.body, {subtree: true, childList: true, characterData: true}); }""")
        ask(page, "Write a haiku about the moon", 1)
        self.assertGreater(page.evaluate("window.sizes.size"), 1)
        self.assertIn("answering", page.evaluate("[...window.states]"), "the state follows at once")
        self.assertEqual(page.inner_text("#state"), "ready")
        before = self.w.metric("llorch_worker_requests_total")
        self.add_fields(page, ignore_eos=True)
        page.evaluate("""() => { const send = window.fetch; window.fetch = (u, o) => send(u, o).then((r) => { if (String(u).endsWith('/stream')) document.querySelector('#stop').click(); return r; }); }""")
        ask(page, "Go on", 2)
        self.assertIn("stopped", page.locator(".facts").last.inner_text())
        wait_for(lambda: not self.w.metric("llorch_worker_kv_pages_used"), 5)
        self.assertGreater(self.w.metric("llorch_worker_requests_total"), before)
        self.assertEqual(page.flaws, [])
        page.context.close()

    def test_thoughts_are_folded(self):
        with tempfile.NamedTemporaryFile("w", suffix=".jinja") as template:
            template.write("{% for m in messages %}{{ m.content.split('</think>')[-1] }}{% endfor %}{% if add_generation_prompt %}<think>\n{% endif %}")
            template.flush()
            with Worker("--chat-template", template.name) as w:
                page = self.open(w=w)
                page.click("#open-settings")
                page.fill("#set-thinking_budget", "5")
                page.fill("#set-max_tokens", "40")
                page.click("#open-settings")
                self.add_fields(page, ignore_eos=True)
                ask(page, "Write a haiku about the sea", 1)
                folded = page.locator(".assistant details.thoughts")
                self.assertEqual(folded.count(), 1)
                self.assertIsNone(folded.get_attribute("open"))
                self.assertRegex(folded.locator("summary").inner_text(), r"^Thought for \d+\.\d s$")
                thought = folded.locator(".thought").text_content()
                self.assertTrue(thought.strip())
                self.assertNotIn("think>", page.inner_text(".assistant"))
                self.assertFalse(folded.locator(".thought").is_visible())
                folded.locator("summary").click()
                self.assertTrue(folded.locator(".thought").is_visible())
                sent = []
                page.on("request", lambda r: sent.append(r.post_data_json) if r.method == "POST" else None)
                ask(page, "Another", 2)
                history = sent[0]["messages"][1]
                self.assertEqual(history["role"], "assistant")
                self.assertNotIn(thought.strip(), history["content"], "no thought goes back")
                self.assertEqual(page.flaws, [])
                page.context.close()

    def test_calls_are_cards_and_are_answered(self):
        if not STORIES.exists():
            return not_run(f"no {STORIES}")
        with tempfile.NamedTemporaryFile("w", suffix=".jinja") as template:
            template.write(TEMPLATE)
            template.flush()
            with Worker("--chat-template", template.name, "--max-tokens-out", "400", model=STORIES) as w:
                page = self.open(w=w, **PHONE)
                page.click("#open-settings")
                page.fill("#set-tools", json.dumps([t["function"] for t in TOOLS]))
                page.click(".panel [aria-label='Close settings']")
                evil = "<img src=x onerror=alert(1)><b>Oslo</b>"
                self.add_fields(page, grammar=says("I look. " + CALL.replace("Oslo", evil) + '<<call>>{"name": "clock", "arguments": {}}<</call>>'), max_tokens=300)
                ask(page, "Weather?", 1)
                cards = page.locator(".assistant .call")
                self.assertEqual(cards.locator("h3 b").all_inner_texts(), ["weather", "clock"])
                self.assertEqual([c.all_inner_texts() for c in (cards.locator("th"), cards.locator("td"))], [["city", "days"], [evil, "2"]])
                self.assertEqual(page.locator(".assistant img, .assistant td b").count(), 0)
                self.assertIn("I look.", page.inner_text(".assistant"))
                self.assertFalse(too_wide(page))
                sent = []
                page.on("request", lambda r: sent.append(r.post_data_json) if r.method == "POST" else None)
                self.add_fields(page, grammar=says("Twelve degrees."))
                page.fill("[aria-label='result of weather']", "12 degrees")
                page.click("text=Send results")
                answered(page, 2)
                self.assertEqual([m["content"] for m in sent[0]["messages"] if m["role"] == "tool"], ["12 degrees", ""])
                self.assertIn("12 degrees", cards.first.inner_text())
                page.click("#open-settings")
                page.fill("#set-tools", "[{")
                page.click(".panel [aria-label='Close settings']")
                page.fill("#text", "Weather again?")
                page.press("#text", "Enter")
                page.wait_for_selector("#problem:has-text('The tools are no JSON')")
                self.assertEqual(page.input_value("#text"), "Weather again?")
                self.assertEqual(page.flaws, [])
                page.context.close()

    def test_a_key_is_asked_for_and_kept_in_the_tab(self):
        with tempfile.TemporaryDirectory() as d:
            with open(f"{d}/token", "w") as f:
                f.write("a-long-enough-secret")
            os.chmod(f"{d}/token", 0o600)
            with Worker("--token-file", f"{d}/token", local=False) as w:
                page = self.browser.chromium.new_context(**PHONE).new_page()
                self.assertEqual(page.goto(w.url + "/").status, 401)
                page.wait_for_selector("text=This server wants a key")
                self.assertEqual(page.locator("#text").count(), 0, "the chat itself is not told")
                page.fill("#key", "a-wrong-one")
                page.click("button")
                page.wait_for_selector("text=This key does not open it")
                page.fill("#key", "a-long-enough-secret")
                page.press("#key", "Enter")
                for way in (lambda: None, page.reload):
                    way()
                    page.wait_for_selector("#state.good", timeout=10000)
                ask(page, "Write a haiku about the sea", 1)
                self.assertRegex(page.locator(".assistant").inner_text(), r"\d+ tokens")
                kept = page.evaluate("async () => JSON.stringify([Object.keys(localStorage), document.cookie, await new Promise((r) => { indexedDB.open('llorch').onsuccess = (e) => { e.target.result.transaction('settings').objectStore('settings').getAll().onsuccess = (f) => r(f.target.result); }; })])")
                self.assertNotIn("a-long-enough-secret", kept)
                page.context.close()

    def test_refused_busy_gone_and_the_text_stays(self):
        page = self.open()
        page.allowed = ["Failed to load resource"]

        def refused(text, words):
            page.fill("#text", text)
            page.press("#text", "Enter")
            page.wait_for_selector(f"#problem:has-text('{words}')", timeout=10000)
            self.assertEqual(page.input_value("#text").strip(), text.strip())
            box, composer = page.locator("#problem").bounding_box(), page.locator("#form").bounding_box()
            self.assertLess(composer["y"] - box["y"] - box["height"], 40, "beside the input")
            self.assertLessEqual(composer["y"] + composer["height"], 800, "in sight")

        refused(("word " * 300).strip(), "context")
        page.route("**/v1/inference", lambda r: r.fulfill(status=429, content_type="application/json", body='{"error":{"code":"QUEUE_FULL","message":"the queue is full"}}'))
        refused("y", "busy")
        page.unroute("**/v1/inference")
        ask(page, "z", 1)
        self.assertTrue(page.locator("#problem").is_hidden())
        self.w.process.kill()
        self.w.process.wait()
        refused("and now", "cannot be reached")
        page.wait_for_selector("#state.bad:has-text('gone')", timeout=10000)
        self.assertEqual(page.flaws, [])
        type(self).w = Worker("--max-batch", "1", "--queue-capacity", "0")
        page.context.close()


if __name__ == "__main__":
    main()
