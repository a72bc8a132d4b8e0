"""The model of a conversation on the queen's page: a name that is typed counts however the box is left, and the model stays when the queen was away."""
import unittest

from browser import Browser, answered, ask
from colony import Colony, main, wait_for
from fleet import Machine

OWN, HAIKU = "file:/models/own.gguf", "builtin:haiku"
AWAY = "The server cannot be reached"


class Without(Machine):
    """A machine on which the file OWN is not."""

    def operate(self, out, order):
        if order.get("model") == OWN:
            out.fail(f"{OWN}: no such file")
        super().operate(out, order)


class Picker(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.close)

    def setUp(self):
        self.colony = Colony()
        self.addCleanup(self.colony.close)
        self.queen = self.colony.queen("--no-own-hive")

    def machine(self, loaded, known, kind=Machine):
        machine = kind("attic", 1, lambda i: loaded, models=known, capabilities={m: ["chat"] for m in known})
        self.addCleanup(machine.close)
        self.addCleanup(machine.lost.set)
        machine.live(self.colony)
        return machine

    def open(self):
        page = self.browser.tab(self.colony.url + "/")
        page.allowed = ["Failed to load resource"]
        wait_for(lambda: page.input_value("#model"))
        return page

    def done(self, page):
        self.assertEqual(page.flaws, [])
        page.context.close()

    def asked(self, page, text):
        """The model that a question is sent to."""
        page.fill("#text", text)
        with page.expect_request(lambda r: r.url.endswith("/v1/jobs") and r.method == "POST") as r:
            page.press("#text", "Enter")
        return r.value.post_data_json["model"]

    def refused(self, page, text):
        """What is said beside the input of a question that was not answered, and whose text is kept."""
        wait_for(lambda: page.locator("#problem").is_visible() and not page.locator("#stop").is_visible())
        self.assertEqual(page.input_value("#text"), text)
        return page.inner_text("#problem")

    def test_a_name_that_was_typed_counts_however_the_box_is_left(self):
        self.machine(OWN, [OWN, HAIKU])
        page = self.open()
        leave = {
            "tab": lambda: page.keyboard.press("Tab"),
            "back": lambda: page.keyboard.press("Shift+Tab"),
            "input": lambda: page.click("#text"),
            "elsewhere": lambda: page.click("#hello"),
            "enter": lambda: page.keyboard.press("Enter"),
        }
        for how, go in leave.items():
            for name in ("nosuchmodel", "haiku"):
                with self.subTest(how, name=name):
                    page.click("#new")
                    page.click("#model")
                    page.keyboard.press("Control+A")
                    page.keyboard.type(f" {name}")
                    go()
                    self.assertTrue(page.locator(".popup").is_hidden())
                    self.assertEqual(page.input_value("#model"), name)
                    page.wait_for_timeout(1200)  # the page draws every second
                    self.assertEqual(page.input_value("#model"), name)
                    self.assertEqual(self.asked(page, "Who are you?"), name)
                    if name == "nosuchmodel":
                        self.assertIn("There is no such model", self.refused(page, "Who are you?"))
                        self.assertEqual(page.locator(".turn").count(), 0)
                    else:
                        page.keyboard.press("Escape")  # stops it, unless it has ended already
                        wait_for(lambda: not page.locator("#stop").is_visible())
        self.done(page)

    def test_what_was_not_typed_or_taken_back_does_not_count(self):
        self.machine(OWN, [OWN, HAIKU])
        page = self.open()

        def typed(name):
            page.click("#model")
            page.keyboard.press("Control+A")
            page.keyboard.type(name)

        typed("nosuchmodel")
        page.keyboard.press("Escape")
        self.assertEqual(page.input_value("#model"), OWN)
        page.keyboard.press("Tab")
        self.assertEqual(page.input_value("#model"), OWN)
        page.click("#model")  # looked at, and left
        page.keyboard.press("ArrowDown")
        page.click("#text")
        self.assertEqual(page.input_value("#model"), OWN)
        page.click("#model")  # emptied
        page.keyboard.press("Control+A")
        page.keyboard.press("Delete")
        page.click("#text")
        self.assertEqual(page.input_value("#model"), OWN)
        self.assertEqual(self.asked(page, "Who are you?"), OWN)
        answered(page, 1)
        typed("hai")  # a line of the list is the name, where a person went to it
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Tab")
        self.assertEqual(page.input_value("#model"), HAIKU)
        typed("bui")  # Enter takes the line that is marked: the first one, where the list has no such name
        page.keyboard.press("Enter")
        self.assertEqual(page.input_value("#model"), HAIKU)
        typed("haiku")
        page.click(f"[role=option]:has-text('{HAIKU}')")
        self.assertEqual(page.input_value("#model"), HAIKU)
        self.done(page)

    def test_a_conversation_keeps_its_model_when_the_queen_was_away(self):
        machine = self.machine(OWN, [OWN])
        page = self.open()
        self.assertEqual(page.input_value("#model"), OWN, "it is loaded, and nobody chose")
        ask(page, "First", 1)
        page.click("#new")
        ask(page, "Of another one", 1)
        machine.lost.set()
        self.queen.kill()
        self.queen.wait()
        page.wait_for_selector("#state.bad")
        ask(page, "Is anybody there?")
        self.assertIn(AWAY, self.refused(page, "Is anybody there?"))
        machine.close()
        self.queen = self.colony.queen("--no-own-hive")
        self.machine(HAIKU, [HAIKU], Without)
        page.wait_for_selector("#state.good")
        wait_for(lambda: page.locator("#problem").is_hidden(), 5)
        self.assertEqual(page.input_value("#text"), "Is anybody there?")
        for reloaded in (False, True):
            with self.subTest(reloaded=reloaded):
                if reloaded:
                    page.reload()
                    page.click(".conversations .open:has-text('First')")
                page.wait_for_selector("#state.good")
                page.wait_for_timeout(1500)
                self.assertEqual(page.input_value("#model"), OWN)
                self.assertEqual(self.asked(page, "Second"), OWN)
                self.assertIn("own.gguf", self.refused(page, "Second"))
                page.wait_for_timeout(1500)
                self.assertIn("own.gguf", page.inner_text("#problem"), "what the server refused is still said")
                self.assertEqual(page.locator(".turn").count(), 2)
        # The only answer made anew is of the same model.
        with page.expect_request(lambda r: r.url.endswith("/v1/jobs") and r.method == "POST") as r:
            page.locator("[aria-label=Regenerate]").last.click()
        self.assertEqual(r.value.post_data_json["model"], OWN)
        page.click("#new")
        wait_for(lambda: page.input_value("#model") == HAIKU, 5)
        self.done(page)


if __name__ == "__main__":
    main()
