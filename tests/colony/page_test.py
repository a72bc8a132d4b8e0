"""The queen's page in headless Chromium: a chat that loses nothing, and a fleet that tells the truth (U-01). Machines are doubles where
a test decides what a model says or a machine does; test_from_asleep_to_answers has real ones."""
import json
import os
import pathlib
import re
import tempfile
import time
import unittest

import axe_playwright_python

from browser import LOOKS, PAGE_BYTES_MAX, PHONE, WIDE, Browser, Cable, answered, ask, loaded_bytes, too_wide
from colony import Colony, free_port, main, wait_for
from fleet import CALL, HUGE, TOOLS, Machine

AXE = pathlib.Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text()


def accessible(page):
    """Violations of axe-core's rules, as rule and elements."""
    page.evaluate(AXE)
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})")
    return [f"{v['id']}: " + "; ".join(n["html"][:160] for n in v["nodes"][:4]) for v in found["violations"]]


CONTROLS = "a[href], button, input, select, textarea, summary, [tabindex='0']"


def unreached(page):
    """Controls in sight that the Tab key does not reach from the top of the page."""
    page.evaluate("""(controls) => { document.activeElement.blur(); window.left = new Set([...document.querySelectorAll(controls)].filter((e) => !e.disabled && e.checkVisibility({visibilityProperty: true, opacityProperty: false}) && e.tabIndex >= 0)); window.all = window.left.size;
        document.addEventListener('focusin', (e) => window.left.delete(e.target)); }""", CONTROLS)
    for _ in range(page.evaluate("window.all") + 5):
        page.keyboard.press("Tab")
    return page.evaluate("[...window.left].map((e) => e.outerHTML.slice(0, 120))")


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
        cls.machine.lost.set()
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
                self.assertEqual([answer.locator(t).count() for t in ("h2", "strong", "em", "ol li", "td", "blockquote", ".code pre")], [1, 1, 1, 2, 6, 1, 1])
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
            self.done(page)


class Fleet(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()

    def colony_of_three(self, c):
        models = {"attic": lambda i: "builtin:haiku" if i < 4 else "hf:org/thinker@main", "cellar": lambda i: "hf:org/writer@main", "desk": lambda i: "builtin:haiku"}
        machines = {name: Machine(name, count, models[name], gib, known) for name, count, gib, known in (("attic", 8, 64, ["hf:org/thinker@main", "builtin:haiku"]), ("cellar", 8, 128, ["hf:org/writer@main", "hf:org/other@main"]), ("desk", 4, 32, []))}
        for m in machines.values():
            m.live(c)
        return machines

    def test_twenty_workers_live(self):
        with Colony() as c:
            c.queen("--no-own-hive", "--heartbeat-missed-threshold", "3")
            machines = self.colony_of_three(c)
            page = self.browser.tab(c.url + "/#fleet")
            wait_for(lambda: page.locator(".worker").count() == 20)
            self.assertEqual(page.locator(".machine h3").all_inner_texts(), ["attic", "cellar", "desk"])
            # Figures follow, and elements stay what they were: nothing flickers.
            page.evaluate("""() => { window.removed = 0; window.changes = 0; window.rows = [...document.querySelectorAll('.worker, .machine, .model')];
                new MutationObserver((all) => { for (const m of all) window.removed += [...m.removedNodes].filter((n) => n.nodeType === 1).length; }).observe(document.querySelector('.fleet'), {subtree: true, childList: true});
                new MutationObserver(() => ++window.changes).observe(document.querySelector('#tile-memory .figure'), {subtree: true, childList: true, characterData: true}); }""")
            asked = []
            page.on("request", lambda r: asked.append(r.url) if r.url.endswith("/v1/status") else None)
            # A machine writes the time into a figure of its own: how old it is when it is seen.
            machines["desk"].stamps = True
            figure = page.locator(".worker", has_text="desk/worker-cpu-0").locator(".number").last
            wait_for(lambda: figure.inner_text() not in [f"{n} % CPU" for n in range(80, 101)], 10)
            ages = []
            while len(asked) < 6 or len(ages) < 30:
                ages.append(machines["desk"].stamp() - int(figure.inner_text().split()[0]))
                page.wait_for_timeout(100)
            self.assertLess(sorted(ages)[len(ages) // 2], 200, f"figures are older than two seconds: {ages}")
            self.assertEqual(page.evaluate("window.removed"), 0)
            self.assertTrue(page.evaluate("window.rows.every((r) => r.isConnected)"))
            self.assertGreater(page.evaluate("window.changes"), len(asked) / 3, "the figures of most answers are other ones, and are shown")
            # Requests show as tokens per second at the worker that answers.
            made = [c.call("POST", "/v1/jobs", {"operation": "infer", "model": "builtin:haiku", "prompt": "slow one"})[2] for _ in range(3)]
            wait_for(lambda: float(page.inner_text("#tile-rate .figure")) > 5, 10)
            wait_for(lambda: page.inner_text("#tile-running .figure") == "3")
            for m in made:
                c.call("DELETE", f"/v1/jobs/{m['job_id']}")
            # A worker that is gone, a machine that leaves.
            machines["attic"].gone.add(7)
            wait_for(lambda: page.locator(".worker").count() == 19, 30)
            machines["desk"].lost.set()
            page.wait_for_selector(".machine.offline h3:has-text('desk')", timeout=10000)
            wait_for(lambda: page.locator(".worker").count() == 15)
            self.assertEqual(page.flaws, [])
            for m in machines.values():
                m.lost.set()
                m.close()
            page.context.close()

    def test_a_worker_that_makes_room(self):
        with Colony() as c:
            c.queen("--no-own-hive")
            machine = Machine("desk", 4, models=["hf:org/other@main"])
            machine.room = 4
            machine.live(c)
            page = self.browser.tab(c.url + "/#fleet")
            wait_for(lambda: page.locator(".worker").count() == 4)
            page.evaluate("""() => { window.rows = [...document.querySelectorAll('.worker, .machine, .model')]; window.told = '';
                new MutationObserver(() => (window.told += document.querySelector('.activities').innerText)).observe(document.querySelector('.activities'), {subtree: true, childList: true, characterData: true}); }""")
            page.click("[aria-label='Load hf:org/other@main']")
            page.click("dialog button:has-text('Load')")
            self.act(page, "Load hf:org/other@main")
            self.assertRegex(page.evaluate("window.told"), r"worker-cpu-\d on desk, with builtin:haiku, makes room")
            wait_for(lambda: page.locator(".worker .hint").all_inner_texts().count("hf:org/other@main on cpu") == 1)
            self.assertEqual(page.locator(".worker").count(), 4)
            self.assertEqual(page.evaluate("window.rows.filter((r) => !r.isConnected).length"), 1, "the rows of the others stay")
            self.assertEqual(page.flaws, [])
            machine.lost.set()
            machine.close()
            page.context.close()

    def act(self, page, title):
        """Until an activity of this title has ended well."""
        page.wait_for_selector(f".activity.good:has-text({json.dumps(title)})", timeout=15000)

    def test_what_can_be_done_with_models_and_workers(self):
        for name, how in (("wide", WIDE), ("phone", {**PHONE, "color_scheme": "dark"})):
            with self.subTest(name), Colony() as c:
                c.queen("--no-own-hive")
                machines = self.colony_of_three(c)
                page = self.browser.tab(c.url + "/#fleet", **how)
                wait_for(lambda: page.locator(".worker").count() == 20)
                self.assertEqual(accessible(page), [])
                self.assertEqual(unreached(page), [])
                page.fill("#reference", "hf:org/fresh@main")
                page.select_option("#download-to", "cellar")
                page.click("#download")
                page.wait_for_selector(".activity:has-text('GB of 4.29 GB · 42.0 MB/s')")
                self.act(page, "Download hf:org/fresh@main")
                page.wait_for_selector(".model:has-text('hf:org/fresh@main')")
                page.click("[aria-label='Pin hf:org/writer@main: its workers stay']")
                self.act(page, "Pin hf:org/writer@main")
                page.wait_for_selector("[aria-label='Pin hf:org/writer@main: its workers stay'][aria-pressed=true]")
                self.assertEqual(c.call("GET", "/v1/status")[2]["pinned"], ["hf:org/writer@main"])
                self.assertEqual([o["pinned"] for o in machines["cellar"].orders.values() if o["operation"] == "worker_pin"], [True] * 8)
                page.click("[aria-label='Unload hf:org/thinker@main']")
                self.act(page, "Unload hf:org/thinker@main")
                wait_for(lambda: page.locator(".worker").count() == 16)
                page.click("[aria-label='Settings of hf:org/writer@main']")
                self.assertEqual(accessible(page), [])
                page.fill("dialog [name=alias]", "writer")
                page.fill("dialog [name=ctx]", "16384")
                page.select_option("dialog [name=kv-type]", "q8_0")
                page.fill("dialog [name=device]", "nowhere")
                page.allowed = ["Failed to load resource"]
                page.keyboard.press("Enter")
                page.wait_for_selector("dialog .error:has-text('device')")
                page.fill("dialog [name=device]", "")
                page.keyboard.press("Enter")
                self.act(page, "Name writer")
                self.assertEqual(c.call("GET", "/v1/status")[2]["aliases"]["writer"], "hf:org/writer@main")
                told = lambda: {k: v["value"] for k, v in c.call("GET", "/v1/model-settings/writer")[2]["settings"].items()}
                self.assertEqual(told(), {"ctx": "16384", "kv-type": "q8_0"})
                page.click("[aria-label='Settings of hf:org/writer@main']")
                self.assertEqual([page.input_value(f"dialog [name={n}]") for n in ("alias", "ctx", "kv-type", "threads")], ["writer", "16384", "q8_0", ""])
                page.fill("dialog [name=ctx]", "")
                page.keyboard.press("Enter")
                self.act(page, "Settings of hf:org/writer@main")
                self.assertEqual(told(), {"kv-type": "q8_0"}, "an emptied field is taken back")
                page.click("[aria-label='Load hf:org/other@main']")
                self.assertEqual(accessible(page), [])
                page.select_option("dialog [name=hive_id]", "cellar")
                page.select_option("dialog [name=kind]", "cpu")
                page.fill("dialog [name=device]", "cpu")
                page.press("dialog [name=device]", "Enter")
                self.act(page, "Load hf:org/other@main")
                wait_for(lambda: page.locator(".worker").count() == 17)
                self.assertEqual([(o["model"], o["worker"], o["device"]) for o in machines["cellar"].orders.values() if o["operation"] == "worker_spawn"], [("hf:org/other@main", "cpu", "cpu")])
                page.click("[aria-label='Unload builtin:haiku']")
                page.select_option("dialog [name=hive_id]", "desk")
                page.press("dialog button:has-text('Unload')", "Enter")
                self.act(page, "Unload builtin:haiku")
                wait_for(lambda: page.locator(".worker").count() == 13)
                self.assertEqual([p for p in page.locator(".worker b").all_inner_texts() if "desk" in p], [])
                page.click("[aria-label='Unload hf:org/other@main']")
                self.act(page, "Unload hf:org/other@main")
                page.click("[aria-label='Delete hf:org/other@main']")
                page.click("dialog .danger")
                self.act(page, "Delete hf:org/other@main")
                page.wait_for_selector(".model:has-text('hf:org/other@main')", state="detached")
                page.click("[aria-label='Log of worker-cpu-1'] >> nth=0")
                page.wait_for_selector("dialog .log-lines:has-text('the model is loaded')")
                page.keyboard.press("Escape")
                page.click("[aria-label='Stop worker-cpu-1'] >> nth=0")
                self.act(page, "Stop attic/worker-cpu-1")
                wait_for(lambda: page.locator(".worker").count() == 11)
                self.assertFalse(too_wide(page))
                self.assertEqual(page.flaws, [])
                for m in machines.values():
                    m.lost.set()
                    m.close()
                page.context.close()

    def test_long_names_and_files_of_people(self):
        names = ["hf:somebody-with-a-name/A-Model-With-A-Long-Name-4B-Instruct-GGUF@main:Q4_K_M", "file:/home/somebody/models/another-model-with-a-long-name-q4_k_m.gguf"]
        with Colony() as c:
            c.queen("--no-own-hive")
            machine = Machine("attic", 2, lambda i: names[i], models=names[:1])
            machine.live(c)
            self.assertEqual(c.job({"operation": "model_alias", "name": "short", "model": names[0]})[-1][1], "end")
            for how in (WIDE, PHONE):
                page = self.browser.tab(c.url + "/", **how)
                page.click("#model")
                page.wait_for_selector("[role=option]:has-text('short')")
                for part in page.locator("[role=option] span, [role=option] small").all():
                    box = part.bounding_box()
                    self.assertLess(box["height"], 80, f"{part.inner_text()} stands in a narrow column")
                    self.assertLessEqual(box["x"] + box["width"], how["viewport"]["width"])
                page.keyboard.press("Escape")
                page.click("#tab-fleet")
                page.wait_for_selector(f".model:has-text({json.dumps(names[1])})")
                self.assertEqual([page.locator(f"[aria-label={json.dumps('Delete ' + name)}]").is_visible() for name in names], [True, False], "a person's file is not ours to delete")
                self.assertIn("4.29 GB", page.locator(f".model:has-text({json.dumps(names[0])})").inner_text(), "4 GiB in the terminal's unit")
                self.assertFalse(too_wide(page))
                self.assertEqual(page.flaws, [])
                page.context.close()
            machine.lost.set()
            machine.close()

    def test_models_that_do_not_chat(self):
        for_what = {"a/chat@main": ["text-gen", "chat", "embedding"], "a/base@main": ["text-gen", "embedding"], "a/vectors@main": ["embedding"], "a/order@main": ["rerank"], "z/unknown@main": []}
        models = {f"hf:{name}": can for name, can in for_what.items()}
        with Colony() as c:
            c.queen("--no-own-hive")
            machine = Machine("attic", 1, lambda i: "hf:a/vectors@main", models=list(models), capabilities=models)
            machine.live(c)
            self.assertEqual(c.job({"operation": "model_alias", "name": "vectors", "model": "hf:a/vectors@main"})[-1][1], "end")
            page = self.browser.tab(c.url + "/")
            wait_for(lambda: page.input_value("#model") == "hf:a/chat@main")
            page.click("#model")
            page.wait_for_selector("[role=option]:has-text('unknown')")
            self.assertEqual(page.locator("[role=option] span").all_inner_texts(), ["hf:a/chat@main", "hf:z/unknown@main", "haiku"])
            page.keyboard.press("Escape")
            page.click("#tab-fleet")
            page.wait_for_selector(".model:has-text('vectors')")
            facts = [row.inner_text() for row in page.locator(".model .who").all()]
            for model, words in (("base", "text, without a chat template"), ("vectors", "embeddings"), ("order", "reranking")):
                self.assertEqual([words in f for f in facts if model in f.split()[0]], [True], facts)
            self.assertEqual(page.flaws, [])
            page.context.close()
            machine.lost.set()
            machine.close()

    def test_keys_and_audit(self):
        with tempfile.TemporaryDirectory() as d, Colony() as c:
            token = pathlib.Path(d, "token")
            token.write_text("the-operators-own-token")
            token.chmod(0o600)
            c.queen("--token-file", token, "--keys-file", f"{d}/keys", "--audit-log", f"{d}/audit", "--no-own-hive", local=False)
            page = self.browser.chromium.new_context().new_page()
            errors = []
            page.on("pageerror", lambda e: errors.append(str(e)))
            page.goto(c.url + "/#fleet")
            self.enter(page, "the-operators-own-token")
            page.wait_for_selector("text=None besides the operator")
            page.click("#create-key")
            page.fill("dialog [name=name]", "laptop")
            page.keyboard.press("Enter")
            key = page.inner_text(".secret code")
            self.assertEqual(c.call("GET", "/v1/status", None, {"Authorization": f"Bearer {key}"})[0], 200)
            self.assertEqual(c.call("GET", "/v1/keys", None, {"Authorization": f"Bearer {key}"})[0], 403)
            page.wait_for_selector(".key:has-text('laptop')")
            self.assertNotIn(key, page.inner_text(".key"))
            wait_for(lambda: page.click("#look-again") or page.locator(".records:has-text('token_created')").count(), 10)
            self.assertEqual(accessible(page), [])
            page.click("#invite")
            page.keyboard.press("Enter")
            page.wait_for_selector(".secret:has-text('llorch hive join')")
            other = self.browser.chromium.new_context().new_page()
            other.goto(c.url + "/#fleet")
            self.enter(other, key)
            wait_for(lambda: other.locator(".looks-only").count())
            self.assertFalse(other.locator("#create-key").is_visible())
            page.click("[aria-label='Revoke laptop']")
            page.click("dialog .danger")
            page.wait_for_selector("text=None besides the operator")
            self.assertEqual(c.call("GET", "/v1/status", None, {"Authorization": f"Bearer {key}"})[0], 401)
            other.wait_for_selector("#state.bad:has-text('an API key is wanted')")
            self.assertEqual(errors, [])
            for p in (page, other):
                p.context.close()

    def enter(self, page, key):
        page.fill("#key", key)
        page.press("#key", "Enter")
        page.wait_for_selector("#state.good")

    def test_from_asleep_to_answers(self):
        with Colony() as c:
            queen = c.queen()
            page = self.browser.tab(c.url + "/")
            ask(page, "Write a haiku about <b>moss</b>")
            answer = answered(page, 1, 40)
            self.assertRegex(answer.inner_text(), r"(?s)\w+\s+\w+.*\d+ tokens")
            self.assertEqual(page.inner_text(".user .said"), "Write a haiku about <b>moss</b>")
            page.click("#tab-fleet")
            page.wait_for_selector(".worker:has-text('builtin:haiku')")
            self.assertIn("free", page.inner_text(".machine"))
            # What a worker takes is what it takes now, and not what it took when it had just begun.
            pid = c.call("GET", "/v1/status")[2]["workers"][0]["pid"]
            taken = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 2**20
            wait_for(lambda: abs((c.call("GET", "/v1/status")[2]["workers"][0]["rss_mb"] or 0) - taken) < 0.2 * taken + 12, 50)
            c.hive("second", free_port())
            page.wait_for_selector(".machine h3:has-text('second')")
            hive = self.browser.tab(f"http://127.0.0.1:{c.hive_port}/", **PHONE)
            hive.wait_for_selector("#workers:has-text('of a core')")
            self.assertRegex(hive.inner_text("#workers"), r"worker-cpu-\d+")
            self.assertIn("GB free", hive.inner_text("#devices"))
            self.assertIn("builtin:haiku", hive.inner_text("#models"))
            self.assertIn("llorch-worker-cpu", hive.inner_text("#programs"))
            self.assertEqual(accessible(hive), [])
            for url in (c.url, f"http://127.0.0.1:{c.hive_port}"):
                bodies, policy = loaded_bytes(self.browser, url + "/")
                self.assertLess(sum(bodies.values()), PAGE_BYTES_MAX, bodies)
                self.assertNotIn("unsafe", policy)
            self.assertFalse(too_wide(hive))
            self.assertEqual(page.flaws + hive.flaws, [])
            queen.terminate()
            queen.wait(20)
            page.wait_for_selector("#state.bad:has-text('gone')")
            hive.wait_for_selector("#state.bad:has-text('gone')")  # the hive went with her
            page.context.close()
            hive.context.close()


if __name__ == "__main__":
    main()
