"""The queen's page in headless Chromium: a chat that loses nothing (U-01). The machine is a double that a test tells what a model says."""
import json
import pathlib
import re
import time
import unittest

from browser import LOOKS, PHONE, WIDE, Browser, Cable, accessible, answered, ask, too_wide, unreached
from colony import Colony, main, wait_for
from fleet import CALL, HUGE, TOOLS, Machine


class Chat(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()
        cls.colony = Colony()
        cls.colony.queen("--no-own-hive")
        models = ["builtin:haiku", "hf:org/writer@main"]
        cls.machine = Machine("attic", 4, lambda i: models[i // 2], models=models)
        cls.machine.live(cls.colony)

    @classmethod
    def tearDownClass(cls):
        cls.machine.close()
        cls.browser.close()
        cls.colony.close()

    def open(self, **how):
        return self.browser.tab(self.colony.url + "/", **how)

    def done(self, page):
        self.assertEqual(page.flaws, [])
        self.assertFalse(too_wide(page))
        page.context.close()

    def test_markdown_at_all_widths_and_schemes_for_everybody(self):
        for name, how in LOOKS.items():
            with self.subTest(name):
                page = self.open(**how)
                self.assertEqual(accessible(page), [])
                answer = ask(page, "some markdown", 1)
                wait_for(lambda: [answer.locator(t).count() for t in ("h2", "strong", "em", "ol li", "td", "blockquote", ".code pre")] == [1, 1, 1, 2, 6, 1, 1])
                self.assertEqual(answer.locator(".code-head span").inner_text(), "python")
                self.assertEqual(answer.locator("a").get_attribute("rel"), "noopener noreferrer nofollow")
                ask(page, "think of a colour", 2)
                self.assertRegex(page.locator(".thoughts summary").last.inner_text(), r"^Thought for \d+\.\d s$")
                page.click("#open-settings")
                page.fill("#set-tools", TOOLS)
                self.assertEqual(accessible(page), [])
                page.keyboard.press("Escape")
                self.assertEqual(ask(page, "weather?", 3).locator("td").all_inner_texts(), [CALL["city"], "2"])
                self.assertEqual(accessible(page), [])
                self.done(page)

    def test_the_view_stays_at_the_end_until_a_person_goes_up(self):
        away = lambda page: page.evaluate("(() => { const s = document.querySelector('.scroll'); return s.scrollHeight - s.scrollTop - s.clientHeight; })()")
        for name, how in (("wide", WIDE), ("phone", PHONE)):
            with self.subTest(name):
                page = self.open(**how)
                for count in range(1, 4):
                    ask(page, "some markdown", count)
                    self.assertLess(away(page), 2, count)
                page.fill("#text", "\n".join("a long question" for _ in range(12)))
                page.wait_for_timeout(100)
                self.assertLess(away(page), 2, "the end stays in sight when the text field grows")
                page.fill("#text", "slow one")
                page.press("#text", "Enter")
                page.wait_for_selector(".assistant.busy .md:has-text('word60')")
                self.assertLess(away(page), 30)
                # What was said becomes shorter for a moment, and longer before the browser tells of it.
                page.evaluate("""() => new Promise((done) => {
                    const log = document.querySelector('#log'), pad = log.appendChild(document.createElement('div'));
                    const frames = (n, f) => requestAnimationFrame(() => (n ? frames(n - 1, f) : f()));
                    pad.style.minHeight = '900px';
                    frames(3, () => { pad.style.minHeight = '1px'; const c = new MessageChannel(); c.port1.onmessage = () => { pad.style.minHeight = '1500px'; frames(3, () => { pad.remove(); frames(3, done); }); }; c.port2.postMessage(0); });
                })""")
                page.wait_for_selector(".assistant.busy .md:has-text('word100')")
                self.assertLess(away(page), 30, "it is followed all the same")
                if how is WIDE:
                    page.hover(".assistant >> nth=-1")
                    page.mouse.wheel(0, -400)
                else:
                    page.locator(".assistant").first.locator("[aria-label='Copy answer']").focus()
                page.wait_for_selector("[aria-label='To the end']")
                top = page.evaluate("document.querySelector('.scroll').scrollTop")
                page.wait_for_selector(".assistant.busy .md:has-text('word150')")
                self.assertLess(abs(page.evaluate("document.querySelector('.scroll').scrollTop") - top), 2, "who reads is left in peace")
                page.click("[aria-label='To the end']")
                page.wait_for_selector(".assistant.busy .md:has-text('word200')")
                self.assertLess(away(page), 30)
                page.keyboard.press("Escape")
                answered(page, 4)
                self.done(page)

    def test_what_a_model_writes_is_harmless(self):
        page = self.open()
        answer = ask(page, "hostile", 1)
        self.assertIn("<script>window.hurt=1</script>", answer.inner_text())
        self.assertIn('<img src=x onerror="window.hurt=1">', answer.inner_text())
        self.assertEqual(answer.locator("img, script, iframe, svg:not(.icon), style, form, .md div[onclick], input").count(), 0)
        self.assertEqual([a for a in answer.locator("a").evaluate_all("all => all.map((a) => a.protocol)") if a not in ("http:", "https:", "mailto:")], [])
        for link in answer.locator(".md *").evaluate_all("all => all.flatMap((e) => e.getAttributeNames().filter((n) => n.startsWith('on')))"):
            self.fail(link)
        self.assertIsNone(page.evaluate("window.hurt ?? null"))
        self.done(page)

    def test_five_megabytes_stay_smooth(self):
        for question in ("a huge answer", "one line"):
            with self.subTest(question):
                page = self.open()
                page.evaluate("""() => { window.longest = 0; let last = performance.now(); const beat = () => { const now = performance.now(); window.longest = Math.max(window.longest, now - last); last = now; requestAnimationFrame(beat); }; requestAnimationFrame(beat); }""")
                start = time.monotonic()
                ask(page, question)
                wait_for(lambda: page.locator(".assistant.busy").count(), 30)
                wait_for(lambda: not page.locator(".assistant.busy").count(), 300)
                length = lambda: page.evaluate("document.querySelector('.assistant .md').textContent.length")
                wait_for(lambda: length() > HUGE * 0.98, 300)
                took = (time.monotonic() - start) * 1000
                self.assertLess(page.evaluate("window.longest"), max(1500, took / 3), "the page stands still for a good part of the time")
                page.fill("#text", "it still takes what is typed")
                self.done(page)

    def test_two_conversations_at_once_and_a_reload(self):
        page = self.open()
        ask(page, "slow one")
        page.wait_for_selector(".assistant.busy .md:has-text('word3')")
        page.click("#new")
        self.assertIn("haiku", page.input_value("#model"))
        ask(page, "Write something short", 1)
        self.assertIn("kettle", page.inner_text(".assistant"))
        page.click(".conversations .open:has-text('slow one')")
        page.wait_for_selector(".assistant.busy .md:has-text('word9')")
        page.reload()
        page.wait_for_selector(".md:has-text('word12')")
        answer = answered(page, 1, 40)
        self.assertEqual(answer.locator(".md").inner_text(), " ".join(f"word{i}" for i in range(400)), "nothing is lost or doubled by the reload")
        self.assertEqual(page.locator(".conversations .open").count(), 2)
        page.fill("#search", "kettle whistles")
        self.assertEqual(page.locator(".conversations .open").all_inner_texts(), ["Write something short"])
        page.click(".conversations .open")
        page.reload()
        page.wait_for_selector("text=The kettle whistles")
        self.done(page)

    def kept(self, page):
        """The conversations that this browser keeps."""
        return page.evaluate("() => new Promise((r) => { indexedDB.open('llorch').onsuccess = (e) => { e.target.result.transaction('conversations').objectStore('conversations').getAll().onsuccess = (f) => r(f.target.result); }; })")

    def test_what_is_kept_is_as_far_as_its_place_in_the_stream(self):
        page = self.open()
        ask(page, "in bursts")
        running = lambda: [(m["job"], m["content"].split()) for c in self.kept(page) for m in c["messages"] if m.get("job") and m["content"]]
        seen = []
        for _ in range(2):
            seen += wait_for(running)
            page.wait_for_timeout(1100)
        url, context = page.url, page.context
        page.close()  # without a word
        page = self.browser.tab(url, context)
        page.flaws = []  # the address of the conversation is its own base
        answer = answered(page, 1, 60)
        self.assertEqual(answer.locator(".md").inner_text().split(), [f"word{i}" for i in range(100, 500)], "nothing is lost or doubled")
        stream = page.evaluate("(url) => fetch(url).then((r) => r.text())", seen[0][0]["url"])
        ids = re.findall(r"^id: (\d+)\nevent: token$", stream, re.M)
        self.assertEqual([job["last"] for job, _ in seen], [ids[len(words) - 1] for _, words in seen], "what is kept ends with the event that is named")
        context.close()

    def test_two_tabs_keep_what_both_were_told(self):
        page = self.open()
        ask(page, "First", 1)
        other = self.browser.tab(page.url, page.context)
        other.wait_for_selector(".said:has-text('First')")
        ask(page, "Of the one tab", 2)
        ask(other, "Of the other tab", 2)
        ask(page, "Of the one again", 3)
        questions = lambda: [m["content"] for c in self.kept(page) for m in c["messages"] if m["role"] == "user"]
        wait_for(lambda: len(questions()) == 4)
        self.assertEqual(questions(), ["First", "Of the one tab", "Of the other tab", "Of the one again"])
        wait_for(lambda: [m["state"] for c in self.kept(page) for m in c["messages"] if m["role"] == "assistant"] == ["done"] * 4)
        # What a tab takes out of what it knows stays out; a title that the other one gave stays.
        other.locator(".conversations li").last.hover()
        other.locator(".conversations li [aria-label=Rename]").last.click()
        other.fill("dialog input", "A title")
        other.keyboard.press("Enter")
        wait_for(lambda: self.kept(page)[0].get("title") == "A title")
        page.locator(".user").nth(1).hover()
        page.locator(".user").nth(1).locator("[aria-label=Edit]").click()
        page.fill(".edit textarea", "Edited")
        page.press(".edit textarea", "Enter")
        answered(page, 2)
        wait_for(lambda: questions() == ["First", "Of the other tab", "Edited"])
        self.assertEqual(self.kept(page)[0]["title"], "A title")
        page.reload()
        page.wait_for_selector(".said:has-text('Of the other tab')")
        self.assertEqual(page.locator(".said").all_inner_texts(), ["First", "Of the other tab", "Edited"])
        self.done(page)

    def test_what_another_tab_deleted_stays_deleted(self):
        page = self.open()
        ask(page, "A secret", 1)
        wait_for(lambda: [m["state"] for c in self.kept(page) for m in c["messages"] if m["role"] == "assistant"] == ["done"])
        other = self.browser.tab(page.url, page.context)
        other.wait_for_selector(".said:has-text('A secret')")
        other.click("#delete-all")
        other.locator("dialog button:has-text('Delete all')").click()
        wait_for(lambda: not self.kept(page))
        ask(page, "And more", 2)
        page.wait_for_selector("text=This conversation was deleted in another tab: it is not kept any more.")
        self.assertEqual((self.kept(page), page.locator(".conversations li").count()), ([], 0))
        page.click("#new")
        ask(page, "Anew", 1)
        wait_for(lambda: [m["content"] for c in self.kept(page) for m in c["messages"] if m["role"] == "user"] == ["Anew"])
        self.done(page)

    def test_rename_export_delete(self):
        page = self.open()
        ask(page, "The first question", 1)
        item = page.locator(".conversations li").last
        item.hover()
        item.locator("[aria-label=Rename]").click()
        page.fill("dialog input", "A better title")
        page.keyboard.press("Enter")
        page.wait_for_selector(".open:has-text('A better title')")
        item.hover()
        with page.expect_download() as kept:
            item.locator("[aria-label=Export]").click()
        self.assertEqual(kept.value.suggested_filename, "a-better-title.md")
        text = pathlib.Path(kept.value.path()).read_text()
        self.assertIn("# A better title", text)
        self.assertIn("The kettle whistles", text)
        with page.expect_download() as kept:
            page.click("#export-all")
        self.assertEqual(json.loads(pathlib.Path(kept.value.path()).read_text())[0]["messages"][0]["content"], "The first question")
        page.click("#new")
        ask(page, "Another", 1)
        page.locator(".conversations li:has-text('A better title')").hover()
        page.locator(".conversations li:has-text('A better title') [aria-label=Delete]").click()
        self.assertEqual(accessible(page), [])
        page.click("dialog .danger")
        wait_for(lambda: page.locator(".conversations .open").all_inner_texts() == ["Another"])
        page.click("#delete-all")
        page.keyboard.press("Escape")
        self.assertEqual(page.locator(".conversations .open").count(), 1)
        page.click("#delete-all")
        page.click("dialog .danger")
        wait_for(lambda: not page.locator(".conversations .open").count() and not page.locator(".turn").count())
        page.reload()
        page.wait_for_selector("#hello:visible")
        self.assertEqual(page.locator(".conversations .open").count(), 0)
        self.done(page)

    def test_edit_regenerate_and_a_model_that_changes(self):
        page = self.open()
        ask(page, "First", 1)
        ask(page, "Second", 2)
        page.locator("[aria-label=Regenerate]").last.click()
        answered(page, 2)
        page.click("#model")
        page.wait_for_selector("[role=option]:has-text('hf:org/writer@main')")
        page.click("[role=option]:has-text('hf:org/writer@main')")
        self.assertEqual(page.locator(".turn").count(), 4, "the talk stays")
        ask(page, "Third", 3)
        self.assertIn("hf:org/writer@main", page.locator(".facts").last.inner_text())
        self.assertIn("builtin:haiku", page.locator(".facts").first.inner_text())
        page.locator(".user").nth(1).hover()
        page.locator(".user").nth(1).locator("[aria-label=Edit]").click()
        page.fill(".edit textarea", "Second, edited")
        page.press(".edit textarea", "Enter")
        answered(page, 2)
        self.assertEqual(page.locator(".user .said").all_inner_texts(), ["First", "Second, edited"])
        # A name that no list has is typed; it is refused, and nothing is lost.
        page.fill("#model", "hf:nobody/nothing")
        page.press("#model", "Enter")
        page.allowed = ["Failed to load resource"]
        page.fill("#text", "To a model that is not there")
        with page.expect_response("**/v1/jobs") as r:
            page.press("#text", "Enter")
        self.assertEqual(r.value.request.post_data_json["model"], "hf:nobody/nothing")
        page.click("#stop")
        answered(page, 3)
        self.done(page)

    def test_an_answer_that_fails_is_told_beside_the_input(self):
        page = self.open()
        answer = ask(page, "fail, please", 1)
        self.assertIn("This begins well", answer.inner_text())
        self.assertIn("cut off", answer.inner_text())
        self.assertIn("ran out of memory", page.inner_text("#problem"))
        page.click("#problem >> text=Try again")
        answered(page, 1)
        page.click("[aria-label=Dismiss]")
        self.assertTrue(page.locator("#problem").is_hidden())
        self.done(page)

    def test_a_lost_connection_is_taken_up_again(self):
        cable = Cable(self.colony.queen_port)
        page = self.browser.tab(cable.url + "/")
        page.allowed = ["Failed to load resource"]
        resumed = []
        page.on("request", lambda r: resumed.append(r.headers["last-event-id"]) if "last-event-id" in r.headers else None)
        ask(page, "slow one")
        page.wait_for_selector(".assistant.busy .md:has-text('word5')")
        cable.cut()
        page.wait_for_selector(".note:has-text('connection is lost')")
        page.wait_for_selector("#state.bad:has-text('connection lost')")
        cable.plug()
        page.wait_for_selector("#state.good:has-text('answering')")
        answer = answered(page, 1, 60)
        self.assertGreaterEqual(len(resumed), 1)
        self.assertGreater(int(resumed[0]), 5)
        self.assertEqual(answer.locator(".md").inner_text(), " ".join(f"word{i}" for i in range(400)))
        self.assertTrue(page.locator("#problem").is_hidden())
        self.done(page)
        cable.close()

    def test_a_lost_connection_with_tools_is_taken_up_again(self):
        cable = Cable(self.colony.queen_port)
        page = self.browser.tab(cable.url + "/")
        page.allowed = ["Failed to load resource"]
        resumed = []
        page.on("request", lambda r: resumed.append((r.url, int(r.headers["last-event-id"]))) if "last-event-id" in r.headers else None)
        page.click("#open-settings")
        page.fill("#set-tools", TOOLS)
        page.keyboard.press("Escape")
        with page.expect_request("**/v1/chat/completions"):
            ask(page, "slow one")
        page.wait_for_selector(".assistant.busy .md:has-text('word5')")
        cable.cut()
        page.wait_for_selector(".note:has-text('connection is lost')")
        cable.plug()
        answer = answered(page, 1, 60)
        self.assertEqual(answer.locator(".md").inner_text(), " ".join(f"word{i}" for i in range(400)), "nothing is lost or doubled")
        self.assertRegex(resumed[0][0], r"/v1/jobs/job-[0-9a-f-]+/stream$")
        self.assertGreater(resumed[0][1], 5)
        # After a reload, too; and what is stopped ends the work.
        ask(page, "slow again")
        page.wait_for_selector(".assistant.busy .md:has-text('word9')")
        page.reload()
        page.wait_for_selector(".assistant.busy .md:has-text('word20')")
        before = self.machine.aborted
        page.keyboard.press("Escape")
        self.assertIn("stopped", answered(page, 2).inner_text())
        wait_for(lambda: self.machine.aborted > before, 10)
        # An answer that fails says so once, and is not taken up.
        answer = ask(page, "fail, please", 3)
        self.assertIn("This begins well", answer.inner_text())
        self.assertIn("ran out of memory", page.inner_text("#problem"))
        self.done(page)
        cable.close()

    def test_stop_keeps_what_came_and_ends_the_work(self):
        page = self.open()
        ask(page, "slow one")
        page.wait_for_selector(".assistant.busy .md:has-text('word3')")
        before = self.machine.aborted
        page.keyboard.press("Escape")
        self.assertIn("word2", answered(page, 1).inner_text())
        self.assertIn("stopped", page.inner_text(".facts"))
        wait_for(lambda: self.machine.aborted > before, 10)
        self.done(page)

    def test_by_keyboard_alone(self):
        for how in (WIDE, PHONE):
            page = self.open(**how)
            focus = lambda: page.evaluate("(() => { const e = document.activeElement; return e.id || e.getAttribute('aria-label') || e.textContent; })()")
            press = lambda *keys: [page.keyboard.press(k) for k in keys]

            def reach(name, key="Tab"):
                for _ in range(80):
                    if focus() == name:
                        return
                    page.keyboard.press(key)
                self.fail(f"the keyboard does not reach {name}")

            page.locator("#text").focus()
            page.keyboard.type("By keys")
            press("Shift+Enter")
            page.keyboard.type("and two lines")
            press("Enter")
            answered(page, 1)
            self.assertEqual(page.inner_text(".said"), "By keys\nand two lines")
            reach("Regenerate", "Shift+Tab")
            press("Enter")
            answered(page, 1)
            page.locator("#text").focus()
            press("ArrowUp")
            self.assertEqual(focus(), "Edit the message")
            page.keyboard.type("Anew: ")
            press("Enter")
            answered(page, 1)
            reach("model")
            press("ArrowDown", "ArrowDown", "Enter")
            self.assertEqual(page.input_value("#model"), "hf:org/writer@main")
            reach("open-settings", "Shift+Tab")
            press("Enter")
            self.assertEqual(focus(), "set-system")
            page.keyboard.type("Be brief.")
            press("Escape")
            self.assertEqual(focus(), "open-settings")
            if how is PHONE:
                reach("menu", "Shift+Tab")
                press("Enter")
                self.assertEqual(focus(), "search")
            reach("Delete", "Shift+Tab" if how is PHONE else "Tab") if how is WIDE else reach("Delete")
            press("Enter")
            self.assertEqual(focus(), "Cancel")
            press("Tab", "Enter")
            wait_for(lambda: not page.locator(".turn").count())
            ask(page, "some markdown", 1)
            self.assertEqual(unreached(page), [])
            if how is PHONE:
                if not page.locator("#new").is_visible():
                    page.click("#menu")
                page.click("#new")
                self.assertFalse(page.locator("#search").is_visible(), "the new chat is in sight")
            self.done(page)


if __name__ == "__main__":
    main()
