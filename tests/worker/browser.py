"""Pages in headless Chromium, for suites: what a page must not do (an error, a request elsewhere) is noted and asserted."""
import contextlib
import pathlib
import socket
import threading

import axe_playwright_python
from playwright.sync_api import sync_playwright

from harness import wait_for

WIDE, PHONE = {"viewport": {"width": 1280, "height": 800}}, {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
LOOKS = {f"{size}-{scheme}": {**how, "color_scheme": scheme} for size, how in (("1280", WIDE), ("390", PHONE)) for scheme in ("light", "dark")}


class Browser:
    def __init__(self, program="/usr/bin/chromium"):
        self.play = sync_playwright().start()
        self.chromium = self.play.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])

    def close(self):
        self.chromium.close()
        self.play.stop()

    def tab(self, url, context=None, **how):
        """A page at `url`, in a browser of its own unless a context is given; its `flaws` are what it must not have done."""
        page = (context or self.chromium.new_context(**(how or WIDE), accept_downloads=True)).new_page()
        page.flaws, page.allowed = [], []
        page.on("pageerror", lambda e: page.flaws.append(f"error: {e}"))
        page.on("console", lambda m: page.flaws.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") and not any(a in m.text for a in page.allowed) else None)
        page.on("request", lambda r: page.flaws.append(f"elsewhere: {r.url}") if not r.url.startswith((url.split("#")[0], "data:", "blob:")) else None)
        page.set_default_timeout(10000)
        page.goto(url)
        page.wait_for_selector("#state.good", timeout=10000)
        return page


def answered(page, count, seconds=20):
    """Until so many answers are there and whole; the last one."""
    wait_for(lambda: page.locator(".assistant").count() == count and not page.locator(".assistant.busy").count(), seconds)
    page.wait_for_timeout(60)  # a frame or two: what has come is drawn
    return page.locator(".assistant").last


def ask(page, text, count=None):
    """Asks by the page's form; the answer, where it is to be awaited."""
    page.fill("#text", text)
    page.press("#text", "Enter")
    return answered(page, count) if count else None


PAGE_BYTES_MAX = 200_000


def loaded_bytes(browser, url):
    """Bytes of a page and of all that it loads, by address; and its content security policy."""
    page = browser.chromium.new_context().new_page()
    bodies = {}
    page.on("response", lambda r: bodies.__setitem__(r.url, len(r.body())) if r.request.resource_type in ("document", "script", "stylesheet") else None)
    policy = page.goto(url).headers["content-security-policy"]
    page.wait_for_selector("#state.good")
    page.context.close()
    return bodies, policy


def too_wide(page):
    return page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


AXE = pathlib.Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text()


def accessible(page):
    """Violations of axe-core's rules, as rule and elements."""
    page.evaluate(AXE)
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations'], runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']})")
    return [f"{v['id']}: " + "; ".join(n["html"][:160] for n in v["nodes"][:4]) for v in found["violations"]]


CONTROLS = "a[href], button, input, select, textarea, summary, [tabindex='0']"


def unreached(page):
    """Controls in sight that the Tab key does not reach from the top of the page."""
    page.evaluate("""(controls) => { document.activeElement.blur(); window.left = new Set([...document.querySelectorAll(controls)].filter((e) => !e.disabled && e.checkVisibility({visibilityProperty: true, opacityProperty: false}))); window.all = window.left.size;
        document.addEventListener('focusin', (e) => window.left.delete(e.target)); }""", CONTROLS)
    for _ in range(page.evaluate("window.all") + 5):
        page.keyboard.press("Tab")
    return page.evaluate("[...window.left].map((e) => e.outerHTML.slice(0, 120))")


class Cable:
    """Connections to a port, which can all be cut, and kept cut."""

    def __init__(self, port):
        self.target, self.pairs, self.plugged = port, [], True
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                near = self.listener.accept()[0]
                if not self.plugged:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self.target))
                self.pairs.append((near, far))
                for a, b in ((near, far), (far, near)):
                    threading.Thread(target=self.pump, args=(a, b), daemon=True).start()

    @staticmethod
    def pump(a, b):
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                b.sendall(data)
        for s in (a, b):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def cut(self):
        self.plugged = False
        for pair in self.pairs:
            for s in pair:
                with contextlib.suppress(OSError):
                    s.shutdown(socket.SHUT_RDWR)
        self.pairs = []

    def plug(self):
        self.plugged = True

    def close(self):
        self.cut()
        self.listener.close()
