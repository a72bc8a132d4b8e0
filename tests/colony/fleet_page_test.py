"""The fleet on the queen's page in headless Chromium: figures that are true, and what can be done (U-01). Machines are doubles where
a test decides what a machine does; test_from_asleep_to_answers has real ones."""
import json
import os
import pathlib
import tempfile
import unittest

from browser import PAGE_BYTES_MAX, PHONE, WIDE, Browser, accessible, answered, ask, loaded_bytes, too_wide, unreached
from colony import Colony, free_port, main, wait_for
from fleet import Machine


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
                page.reload()
                page.wait_for_selector(".activity:has-text('Download') .meter")  # it goes on, and is told of
                self.act(page, "Download")
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
                self.names(page, c)
                page.click("[aria-label='Load hf:org/other@main']")
                self.assertEqual(accessible(page), [])
                page.select_option("dialog [name=hive_id]", "cellar")
                page.select_option("dialog [name=kind]", "cpu")
                page.fill("dialog [name=device]", "cpu")
                page.press("dialog [name=device]", "Enter")
                self.act(page, "Load hf:org/other@main")
                wait_for(lambda: page.locator(".worker").count() == 17)
                self.assertEqual([(o["model"], o["worker"], o["device"]) for o in machines["cellar"].orders.values() if o["operation"] == "worker_spawn"], [("hf:org/other@main", "cpu", "cpu")])
                page.click("#start-worker")
                self.assertEqual(accessible(page), [])
                page.select_option("dialog [name=model]", "hf:org/other@main")
                page.select_option("dialog [name=hive_id]", "cellar")
                page.select_option("dialog [name=kind]", "cpu")
                page.click("dialog button:has-text('Start')")
                self.act(page, "Start a worker with hf:org/other@main")
                wait_for(lambda: page.locator(".worker").count() == 18)
                self.assertEqual([(o["model"], o["worker"]) for o in machines["cellar"].orders.values() if o["operation"] == "worker_spawn"], [("hf:org/other@main", "cpu")] * 2)
                page.click("[aria-label='Unload builtin:haiku']")
                page.select_option("dialog [name=hive_id]", "desk")
                page.press("dialog button:has-text('Unload')", "Enter")
                self.act(page, "Unload builtin:haiku")
                wait_for(lambda: page.locator(".worker").count() == 14)
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
                    m.close()
                page.context.close()

    def names(self, page, c):
        """Names are listed, given and taken back, by keys and by clicks."""
        told = lambda: c.call("GET", "/v1/aliases")[2]["aliases"]
        row = lambda name: f"#names [role=listitem]:has(b:text-is('{name}'))"
        self.assertIn("hf:org/writer@main", page.inner_text(row("writer")))
        self.assertFalse(page.locator("[aria-label='Remove the name haiku']").is_visible(), "a builtin's name is its for ever")
        page.focus("#add-name")
        page.keyboard.press("Enter")
        self.assertEqual(accessible(page), [])
        page.keyboard.type("haiku")
        page.keyboard.press("Tab")
        page.keyboard.type("hf:org/other@main")
        page.keyboard.press("Enter")
        page.wait_for_selector("dialog .error:has-text('haiku')")
        page.fill("dialog [name=name]", "poet")
        page.press("dialog [name=name]", "Enter")
        self.act(page, "Name poet")
        page.wait_for_selector(row("poet"))
        self.assertEqual(told()["poet"], "hf:org/other@main")
        page.click("[aria-label='Remove the name poet']")
        page.press("dialog button:has-text('Remove')", "Enter")
        self.act(page, "Remove poet")
        page.wait_for_selector(row("poet"), state="detached")
        self.assertNotIn("poet", told())

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
            self.assertEqual(page.locator("[role=option] span").all_inner_texts(), ["builtin:haiku", "hf:a/chat@main", "hf:z/unknown@main", "haiku"])
            page.keyboard.press("Escape")
            page.click("#tab-fleet")
            page.wait_for_selector(".model:has-text('vectors')")
            facts = [row.inner_text() for row in page.locator(".model .who").all()]
            for model, words in (("base", "text, without a chat template"), ("vectors", "embeddings"), ("order", "reranking")):
                self.assertEqual([words in f for f in facts if model in f.split()[0]], [True], facts)
            self.assertEqual(page.flaws, [])
            page.context.close()
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
