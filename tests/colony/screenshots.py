"""Pictures of every state of the pages, for people to look at: `./dev screenshots [FOLDER]`."""
import pathlib
import sys

from browser import LOOKS, Browser, Cable, answered, ask
from colony import Colony, free_port, listens, wait_for
from fleet import TOOLS, Machine
from harness import Worker


class Pictures:
    """Pictures of one look of the pages."""

    def __init__(self, browser, folder, name):
        self.browser, self.folder, self.name, self.count = browser, folder, name, 0

    def tab(self, url):
        return self.browser.tab(url, **LOOKS[self.name])

    def take(self, page, what, **how):
        page.wait_for_timeout(250)
        self.count += 1
        page.screenshot(path=self.folder / f"{what}-{self.name}.png", **how)


def chat(shots, url):
    page = shots.tab(url + "/")
    shots.take(page, "chat-01-empty")
    ask(page, "Write something short", 1)
    ask(page, "Show me some markdown", 2)
    shots.take(page, "chat-02-markdown")
    page.fill("#text", "A question that is not sent yet,\nof two lines")
    page.click("#model")
    shots.take(page, "chat-03-model-list")
    page.keyboard.press("Escape")
    page.fill("#text", "")
    ask(page, "think of a colour", 3)
    page.locator(".thoughts summary").last.click()
    shots.take(page, "chat-04-thoughts")
    page.click("#open-settings")
    shots.take(page, "chat-05-settings")
    page.fill("#set-tools", "[{")
    page.locator("#set-tools").scroll_into_view_if_needed()
    shots.take(page, "chat-06-settings-tools-wrong")
    page.fill("#set-tools", TOOLS)
    page.keyboard.press("Escape")
    ask(page, "weather?", 4)
    shots.take(page, "chat-07-tool-call")
    page.locator("#open-settings").click()
    page.fill("#set-tools", "")
    page.keyboard.press("Escape")
    page.click("#menu") if shots.name.startswith("390") else None
    shots.take(page, "chat-08-conversations")
    page.click("#new")
    page.keyboard.press("Escape")
    ask(page, "slow one")
    page.wait_for_selector(".assistant.busy .md:has-text('word30')")
    shots.take(page, "chat-09-answering")
    page.click("#stop")
    answered(page, 1)
    shots.take(page, "chat-10-stopped")
    ask(page, "fail, please", 2)
    shots.take(page, "chat-11-failed")
    ask(page, "hostile", 3)
    shots.take(page, "chat-12-hostile")
    page.locator(".user").last.hover()
    page.locator(".user [aria-label=Edit]").last.click()
    shots.take(page, "chat-13-edit")
    page.keyboard.press("Escape")
    page.click("#menu") if shots.name.startswith("390") else None
    page.click("#delete-all")
    shots.take(page, "chat-14-delete")
    page.context.close()


def trouble(shots, colony):
    cable = Cable(colony.queen_port)
    page = shots.tab(cable.url + "/")
    ask(page, "slow one")
    page.wait_for_selector(".assistant.busy .md:has-text('word9')")
    cable.cut()
    page.wait_for_selector(".note:has-text('connection is lost')")
    shots.take(page, "trouble-1-connection-lost")
    page.click("#stop")
    answered(page, 1)
    ask(page, "And what is this?")
    page.wait_for_selector("#problem:visible")
    page.wait_for_selector("#state.bad")
    shots.take(page, "trouble-2-unreachable")
    page.click("#tab-fleet")
    shots.take(page, "trouble-3-fleet-unreachable")
    page.context.close()
    cable.close()


def fleet(shots, url):
    page = shots.tab(url + "/#fleet")
    wait_for(lambda: page.locator(".worker").count() >= 12)
    page.wait_for_timeout(8000)
    shots.take(page, "fleet-1")
    bottom = lambda: page.locator(".fleet-view").evaluate("(e) => (e.scrollTop = e.scrollHeight)")
    page.locator("#models").scroll_into_view_if_needed()
    page.fill("#reference", "hf:org/fresh")
    page.click("#download")
    page.wait_for_selector(".activity:has-text('GB of 4.29 GB')")
    shots.take(page, "fleet-2-download")
    page.click("[aria-label='Settings of hf:org/writer@main']")
    page.wait_for_selector("dialog")
    shots.take(page, "fleet-3-model-settings")
    page.fill("dialog [name=device]", "nowhere")
    page.click("dialog button:has-text('Save')")
    page.wait_for_selector("dialog .error:visible")
    shots.take(page, "fleet-3-model-settings-wrong")
    page.keyboard.press("Escape")
    page.click("[aria-label='Load hf:org/other@main']")
    shots.take(page, "fleet-3-load")
    page.keyboard.press("Escape")
    page.click("#add-name")
    page.fill("dialog [name=name]", "poet")
    page.fill("dialog [name=model]", "hf:org/other@main")
    shots.take(page, "fleet-3-add-name")
    page.keyboard.press("Enter")
    page.wait_for_selector("#names :text-is('poet')")
    page.click("#start-worker")
    shots.take(page, "fleet-3-start-worker")
    page.keyboard.press("Escape")
    bottom()
    shots.take(page, "fleet-4-end")
    page.click("#create-key")
    page.fill("dialog [name=name]", f"laptop {shots.name}")
    shots.take(page, "fleet-5-create-key")
    page.keyboard.press("Enter")
    page.wait_for_selector(".secret")
    shots.take(page, "fleet-6-key-made")
    page.context.close()


def door(shots, url):
    page = shots.browser.chromium.new_context(**LOOKS[shots.name]).new_page()
    page.goto(url)
    page.fill("#key", "wrong")
    page.press("#key", "Enter")
    page.wait_for_selector("text=This key does not open it")
    shots.take(page, "door")
    page.context.close()


def with_a_key(browser, c):
    """The fleet's pages are seen by an operator: their calls show the token."""
    open_tab = browser.tab

    def tab(url, context=None, **how):
        context = context or browser.chromium.new_context(**how, extra_http_headers={"Authorization": "Bearer the-operators-own-token"})
        return open_tab(url, context)

    browser.tab = tab
    return open_tab


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    browser, count = Browser(), 0
    with Colony() as c, Colony() as keyed, Worker() as w:
        c.queen("--no-own-hive")
        token = keyed.home / "token"
        token.write_text("the-operators-own-token")
        token.chmod(0o600)
        keyed.queen("--heartbeat-missed-threshold", "100", "--token-file", token, "--keys-file", keyed.home / "keys", "--audit-log", keyed.home / "audit", "--no-own-hive", local=False)
        machines = []
        for colony, show in ((c, {}), (keyed, {"Authorization": "Bearer the-operators-own-token"})):
            for name, workers, model, gib, known in (("attic", 4, lambda i: ("builtin:haiku", "hf:org/thinker@main")[i % 2], 64, ["hf:org/thinker@main", "builtin:haiku"]), ("cellar", 6, lambda i: "hf:org/writer@main", 128, ["hf:org/writer@main", "hf:org/other@main"]), ("desk", 2, lambda i: "builtin:haiku", 32, [])):
                machines.append(Machine(name, workers, model, gib, known))
                machines[-1].live(colony, headers=show)
        for name in LOOKS:
            shots = Pictures(browser, folder, name)
            chat(shots, c.url)
            trouble(shots, c)
            door(shots, keyed.url)
            plain = with_a_key(browser, keyed)
            fleet(shots, keyed.url)
            browser.tab = plain
            page = shots.tab(w.url + "/")
            ask(page, "Write a haiku about the sea", 1)
            shots.take(page, "worker")
            page.context.close()
            port = free_port()
            hive = c.hive("real", port)
            wait_for(lambda: listens(port) and "real" in [h["id"] for h in c.call("GET", "/v1/status")[2]["hives"]])
            c.job({"operation": "model_load", "model": "builtin:haiku", "hive_id": "real"})
            page = shots.tab(f"http://127.0.0.1:{port}/")
            page.wait_for_selector("#workers:has-text('of a core')")
            page.wait_for_timeout(3000)
            shots.take(page, "hive")
            page.context.close()
            hive.terminate()
            hive.wait(20)
            count += shots.count
        machines[-1].lost.set()  # of the colony with keys
        plain = with_a_key(browser, keyed)
        for name in LOOKS:
            shots = Pictures(browser, folder, name)
            page = shots.tab(keyed.url + "/#fleet")
            page.wait_for_selector(".machine.unknown:has-text('no figures for')")
            shots.take(page, "fleet-7-no-figures", full_page=True)
            page.context.close()
            count += shots.count
        browser.tab = plain
        for m in machines:
            m.close()
        browser.close()
    print(f"{count} pictures in {folder}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
