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
                for facts in page.locator(".assistant .facts").all_text_contents():
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
        wait_for(lambda: not self.w.metric("llorch_worker_kv_pages_used"), 50)
        self.assertGreater(self.w.metric("llorch_worker_requests_total"), before)
        self.assertEqual(page.flaws, [])
        page.context.close()

    def test_what_did_not_change_is_not_drawn_again(self):
        page = self.open()
        ask(page, "Write a haiku about the sea", 1)
        page.wait_for_timeout(300)
        page.evaluate("""() => { getSelection().selectAllChildren(document.querySelector('.assistant .md')); window.selected = getSelection().toString(); window.changes = []; window.lexed = 0;
            const lex = marked.Lexer.prototype.lex; marked.Lexer.prototype.lex = function (text) { ++window.lexed; return lex.call(this, text); };
            new MutationObserver((all) => { for (const m of all) window.changes.push(m.type + ' ' + m.target.className); }).observe(document.querySelector('.chat-view'), {subtree: true, childList: true, characterData: true}); }""")
        for _ in range(3):
            with page.expect_response("**/health"):
                pass
        page.wait_for_timeout(300)  # some frames
        self.assertEqual(page.evaluate("window.changes"), [])
        self.assertEqual(page.evaluate("window.lexed"), 0)
        self.assertTrue(page.evaluate("window.selected"))
        self.assertEqual(page.evaluate("getSelection().toString()"), page.evaluate("window.selected"))
        self.assertEqual(page.flaws, [])
        page.context.close()

    def drawn(self, page, text, step):
        """The HTML of a text that came in steps, how many characters the lexer got at most, and in all after the text had ended."""
        return page.evaluate("""async ([text, step]) => {
            const { MarkdownView } = await import("/page/markdown.js");
            const host = document.body.appendChild(document.createElement("div")), view = new MarkdownView(host), lex = marked.Lexer.prototype.lex;
            let most = 0, all = 0;
            marked.Lexer.prototype.lex = function (text) { most = Math.max(most, text.length); all += text.length; return lex.call(this, text); };
            const settle = async () => { do await new Promise(requestAnimationFrame); while (view.frame); };
            for (let i = step; i < text.length + step; i += step) { view.update(text.slice(0, i)); if (step < text.length) view.draw(); }
            await settle();
            all = 0;
            view.update(text, true);
            await settle();
            marked.Lexer.prototype.lex = lex;
            host.remove();
            view.live.remove();
            host.querySelectorAll(".code-head").forEach((e) => e.remove());
            return { most, end: all, html: host.innerHTML.trim(), text: host.textContent, plain: host.querySelectorAll("pre.plain").length };
        }""", [text, step])

    def test_no_text_makes_the_lexer_stand_still(self):
        page = self.open()
        page.set_default_timeout(60000)
        for step in (1200, 30000):
            with self.subTest(step):
                text = "*a_" * 8000 + "\n\nThe end."
                got = self.drawn(page, text, step)
                self.assertLessEqual(got["most"], 6000)
                self.assertLess(got["end"], 100, "what is drawn is not read again")
                self.assertEqual(got["text"].rstrip(), text)
                self.assertTrue(got["html"].endswith("<p>The end.</p>"), got["html"][-80:])
        fenced = "```\n" + "a\n" * 10 + "```~\n" + "*a_" * 8000 + "\n```\n"
        self.assertLessEqual(self.drawn(page, fenced, len(fenced))["most"], 6000)
        page.context.close()

    def test_pieces_are_drawn_as_the_whole(self):
        page = self.open()
        texts = {
            "loose list": "1. one\n\n2. two\n\n3. three\n\nafter\n",
            "list and heading": "- a\n- b\n# head\n\ntext\n",
            "tabs": "```go\nif x {\n\treturn\n\t\ty\n}\n```\nafter\n\n\tcode\n\nlast\n",
            "code like text": "Before.\n\n```python\n# a comment\n- x\n> y\n<script>\n1. z\n***\n```\n\nafter\n\n~~~\n# b\n``` no end\n~~~\nlast\n",
            "code in a list": "1. run\n\n   ```sh\n   # a comment\n   - x\n   ```\n2. look\n\nend\n",
            "line ends": "one\r\ntwo\r\n\r\n- a\r\n- b\r\n\r\n```\r\nx\r\n```\r\nafter\r\n\r\nlast",
            "links": "See [a] and [the b][b].\n\nMore.\n\n[a]: https://a.example\n[b]: https://b.example\n",
            "table": "| a | b |\n| --- | --- |\n| 1 | 2 |\n\nafter **it**\n***\n> quoted\n\nend",
        }
        for name, text in texts.items():
            with self.subTest(name):
                expected = page.evaluate("(text) => { const d = document.createElement('div'); d.innerHTML = marked.parse(text); return d.textContent; }", text)
                whole = self.drawn(page, text, len(text))
                self.assertEqual(whole["text"].split(), expected.split())
                for step in (1, 3, 7):
                    self.assertEqual(self.drawn(page, text, step)["html"].replace("\n", ""), whole["html"].replace("\n", ""), step)
        long = {"list": "".join(f"{i}. item number {i}\n" for i in range(1, 801)), "code": "```\n" + "x = 1\n" * 3000 + "```\n", "paragraphs": "Some words.\n\n" * 3000}
        for name, text in long.items():
            with self.subTest(name):
                got = self.drawn(page, text, 4000)
                self.assertEqual(got["plain"], 0)
                self.assertEqual([got["html"].count(t) for t in ("<li>", "x = 1", "<p>")], [800 * (name == "list"), 3000 * (name == "code"), 3000 * (name == "paragraphs")])
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

    @staticmethod
    def answering(status):
        """A route on which whoever has a key gets this status."""
        return lambda route: route.fulfill(status=status) if "authorization" in route.request.headers else route.continue_()

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
                # A daemon that is starting again is no reason to forget the key: only a refusal is.
                for status, words in ((503, "answered 503"), (502, "answered 502"), (429, "Too many attempts")):
                    page.route(w.url + "/", self.answering(status))
                    page.reload()
                    page.wait_for_selector(f"#problem:has-text('{words}')")
                    self.assertEqual(page.evaluate("sessionStorage.getItem('llorch-key')"), "a-long-enough-secret")
                    page.unroute(w.url + "/")
                page.click("button")
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
