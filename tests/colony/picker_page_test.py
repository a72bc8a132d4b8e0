"""The model of a conversation on the queen's page: a name that is typed counts however the box is left."""
import unittest

from browser import Browser, answered
from colony import Colony, main, wait_for
from fleet import Machine

OWN, HAIKU = "file:/models/own.gguf", "builtin:haiku"


class Picker(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.close)

    def setUp(self):
        self.colony = Colony()
        self.addCleanup(self.colony.close)
        self.queen = self.colony.queen("--no-own-hive")

    def machine(self, loaded, known):
        machine = Machine("attic", 1, lambda i: loaded, models=known, capabilities={m: ["chat"] for m in known})
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
                        page.wait_for_timeout(100)
                        if page.locator("#stop").is_visible():
                            page.click("#stop")
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


if __name__ == "__main__":
    main()
