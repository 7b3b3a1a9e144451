"""The page `Audit a network`: it shows the results of Python, and readers can use it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from browser.chromium import PHONE, Chromium, page
from browser.test_built import LOADED, MEGABYTE
from browser.test_pages import COLOURS, SIDEWAYS
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from efficientformer_edu.audit import COUNTERS, count
from efficientformer_edu.config import PRESETS, EfficientFormerConfig
from efficientformer_edu.plots.live import answer
from tools.page_python import ARCHIVE, PYODIDE

pytestmark = pytest.mark.slow

Words = dict[str, str]
FIRST = {"depths": "3,2,6,4", "embed_dims": "48,96,224,448", "num_vit": "1", "resolution": "224,224"}
HTML = ("diagram", "summary", "ledger", "kinds", "counters", "explanation")

# The content of the page, without the boxes that wide tables scroll in.
SHOWN = """
const shown = {}
for (const box of document.querySelectorAll("[data-piece]")) {
    const copy = box.cloneNode(true)
    for (const wrap of copy.querySelectorAll(".md-typeset__scrollwrap")) wrap.replaceWith(wrap.querySelector("table"))
    shown[box.dataset.piece] = copy.innerHTML
}
for (const text of document.querySelectorAll("[data-text]")) shown[text.dataset.text] = text.textContent
return shown
"""
# Pieces of HTML, written as this browser writes them.
PARSED = """
const box = document.createElement("div")
return arguments[0].map((html) => { box.innerHTML = html; return box.innerHTML })
"""
# Enter text into the fields as a reader would, and notify the page once.
ENTER = """
for (const [name, value] of Object.entries(arguments[0])) {
    const controls = [...document.querySelectorAll(`.audit [name=${name}]`)]
    const values = value.split(",")
    controls.forEach((control, i) => {
        if (control.type === "radio") control.checked = control.value === value
        else control.value = controls.length === 1 ? value : values[i]
    })
    controls[0].dispatchEvent(new Event("input", { bubbles: true }))
}
"""
READY = "return Boolean(document.querySelector('.audit').dataset.milliseconds)"
FORM = "return !document.querySelector('.audit').hidden"
ADDRESS = "return location.search === '?' + arguments[0]"
INVALID = "return [...document.querySelectorAll('[aria-invalid=true]')].map(one => [one.name, one.value])"
SEEN = "return [...document.querySelectorAll(arguments[0])].map(one => one.checkVisibility() && one.innerText)"
CLIPBOARD = "navigator.clipboard.readText().then(arguments[0], error => arguments[0](String(error)))"


def shown_for(chromium: Chromium, entries: Words) -> Words:
    """The expected content of the page for these entries, computed by Python here."""
    expected = answer(entries)
    parsed = chromium.ask(PARSED, [expected[name] for name in HTML])
    start = chromium.ask("return location.origin + location.pathname")
    texts = {"yaml": expected["yaml"], "python": expected["python"], "link": f"{start}?{expected['link']}"}
    return {**dict(zip(HTML, parsed, strict=True)), **texts}


def open_page(chromium: Chromium, start: str, query: str = "") -> None:
    """Open the page; with a query, it loads Python by itself."""
    chromium.open(f"{start}{page('served', 'audit')}{query}")
    assert chromium.wait(READY if query else FORM), "the page is not ready"


@pytest.fixture
def audit(chromium: Chromium, addresses: dict[str, str]) -> Chromium:
    """The page with L1 and Python loaded; every test starts from this state."""
    here = chromium.driver.current_url.partition("?")[0] == addresses["served"] + page("served", "audit")
    if not (here and chromium.ask(READY)):
        open_page(chromium, addresses["served"], "?model=l1")
    chromium.resize((1280, 900))
    choose(chromium, "audit-model", "l1")
    enter(chromium, {"resolution": "224,224", "form": "trained", "counter": "fvcore"})
    return chromium


def enter(chromium: Chromium, entries: Words) -> None:
    chromium.ask(ENTER, entries)


def choose(chromium: Chromium, control: str, value: str) -> None:
    chromium.ask(
        "const [id, value] = arguments, one = document.getElementById(id)\n"
        "one.value = value\none.dispatchEvent(new Event('input', { bubbles: true }))",
        control,
        value,
    )


def random_words(seed: int) -> Words:
    """A random network that the form can describe."""
    draw = random.Random(seed)
    depths = [draw.randint(1, 9) for _ in range(4)]
    per_stage = ",".join(str(draw.randint(0, depth)) for depth in depths)
    return {
        "depths": ",".join(map(str, depths)),
        "embed_dims": ",".join(str(draw.randrange(8, 513)) for _ in range(4)),
        "num_vit": draw.choice([str(draw.randint(0, depths[-1])), per_stage]),
        "resolution": f"{draw.randint(32, 640)},{draw.randint(32, 640)}",
        "form": draw.choice(["trained", "folded"]),
        "counter": draw.choice(list(COUNTERS)),
    }


def test_the_page_begins_with_the_audit_of_l1_and_is_light(chromium: Chromium, addresses: dict[str, str]) -> None:
    """It is shown before Python is loaded: nothing of Python is requested until the first edit."""
    open_page(chromium, addresses["served"])
    assert chromium.ask(SHOWN) == shown_for(chromium, {})
    assert sum(chromium.ask(LOADED)) < MEGABYTE / 2
    requested = {address.rpartition("/")[2] for address in chromium.requests() if "assets/python" in address}
    assert requested == {"sizes.json"}


def test_the_first_edit_loads_python_from_this_site(
    chromium: Chromium, addresses: dict[str, str], built: dict[str, Path]
) -> None:
    open_page(chromium, addresses["served"])
    enter(chromium, {"num_vit": "2"})
    assert chromium.ask(SEEN, "progress, [data-part=stale]") == ["", "Below is the last network that was counted."]
    enter(chromium, {"num_vit": "3"})  # while it loads
    assert chromium.wait(READY)
    assert chromium.ask(SHOWN) == shown_for(chromium, {"num_vit": "3"})
    assert chromium.ask(SEEN, "progress, [data-part=stale]") == [False, False]
    requests = chromium.requests()
    assert {*PYODIDE, ARCHIVE} <= {address.rpartition("/")[2] for address in requests}
    assert [url for url in requests if not url.startswith((addresses["served"], "data:", "blob:"))] == []
    assert chromium.errors() == []
    folder = built["served"] / "assets" / "python"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 15 * MEGABYTE
    assert not (built["folder"] / "assets" / "python").exists()


@pytest.mark.parametrize("seed", range(20))
def test_the_page_shows_the_results_of_python(audit: Chromium, seed: int) -> None:
    entries = random_words(seed)
    enter(audit, entries)
    assert audit.ask(SHOWN) == shown_for(audit, entries)
    assert audit.wait(ADDRESS, answer(entries)["link"])


def test_a_published_network_is_selected_and_left(audit: Chromium) -> None:
    for name, config in PRESETS.items():
        choose(audit, "audit-model", name)
        assert audit.ask(SHOWN) == shown_for(audit, {"model": name})
        enter(audit, {"num_vit": "0"})
        assert audit.ask("return document.getElementById('audit-model').value") == ""
        enter(audit, {"num_vit": str(config.num_vit)})
        assert audit.ask("return document.getElementById('audit-model').value") == name


def test_a_link_leads_to_the_same_audit(chromium: Chromium, addresses: dict[str, str]) -> None:
    entries = {
        "model": "efficientformer_l3",
        "depths": "2,2,3,3",
        "num_vit": "0,0,1,2",
        "resolution": "384x640",
        "form": "folded",
        "counter": "thop",
        "pool_size": "5",  # which the form does not include
    }
    open_page(chromium, addresses["served"], f"?{urlencode(entries)}")
    expected = shown_for(chromium, entries)
    assert chromium.ask(SHOWN) == expected
    assert "pool_size=5" in chromium.ask(SEEN, "[data-part=others]")[0]
    assert chromium.wait(ADDRESS, answer(entries)["link"])
    open_page(chromium, addresses["served"], chromium.ask("return location.search"))
    assert chromium.ask(SHOWN) == expected
    held = "return [...new FormData(document.querySelector('.audit form'))].map(([name, value]) => `${name}=${value}`)"
    assert "&".join(chromium.ask(held)) == (
        "depths=2&depths=2&depths=3&depths=3&embed_dims=64&embed_dims=128&embed_dims=320&embed_dims=512"
        "&num_vit=0,0,1,2&resolution=384&resolution=640&form=folded&counter=thop"
    )
    enter(chromium, {"resolution": "224,224"})
    assert chromium.ask(SHOWN) == shown_for(chromium, entries | {"resolution": "224"})
    choose(chromium, "audit-model", "l7")
    assert chromium.ask(SHOWN) == shown_for(chromium, {"model": "l7", "form": "folded", "counter": "thop"})
    assert chromium.ask(SEEN, "[data-part=others]") == [""]


@pytest.mark.parametrize(
    ("words", "invalid"),
    [
        ({"num_vit": "99"}, [["num_vit", "99"]]),
        ({"depths": "0,2,6,4"}, [["depths", "0"]]),
        ({"resolution": "16,224"}, [["resolution", "16"]]),
        ({"embed_dims": ",96,224,448"}, [["embed_dims", ""]]),
    ],
)
def test_a_wrong_value_is_explained_next_to_its_field(audit: Chromium, words: Words, invalid: list[list[str]]) -> None:
    before = audit.ask(SHOWN)
    enter(audit, words)
    (name,) = words
    (sentence,) = audit.ask(SEEN, f"[data-field={name}] .audit-error")
    assert sentence == answer(words)["error"]
    assert audit.ask(INVALID) == invalid
    described = "return document.querySelector('[aria-invalid]').getAttribute('aria-describedby').split(' ').at(-1)"
    assert audit.ask(SEEN, "#" + audit.ask(described)) == [sentence]
    assert audit.ask(SHOWN) == before
    assert audit.ask(SEEN, "[data-part=stale]") == ["Below is the last network that was counted."]
    assert audit.axe() == []
    enter(audit, {name: FIRST[name]})
    assert audit.ask(SHOWN) == before
    assert audit.ask(INVALID) == [] and audit.ask(SEEN, "[data-part=stale]") == [False]
    assert not any(audit.ask(SEEN, ".audit-error"))


@pytest.mark.parametrize(
    ("query", "place"),
    [("depth=3", "[data-part=error]"), ("model=l9", "#audit-model-error"), ("counter=flops", "#audit-counter-error")],
)
def test_a_wrong_link_is_explained(chromium: Chromium, addresses: dict[str, str], query: str, place: str) -> None:
    open_page(chromium, addresses["served"], f"?{query}")
    name, _, value = query.partition("=")
    assert chromium.ask(SEEN, place) == [answer({name: value})["error"]]
    choose(chromium, "audit-model", "l3")
    enter(chromium, {"counter": "thop"})
    assert chromium.ask(SHOWN) == shown_for(chromium, {"model": "l3", "counter": "thop"})


def test_everything_is_done_by_keyboard(audit: Chromium) -> None:
    keyboard = audit.driver.switch_to
    audit.driver.find_element(By.ID, "audit-model").click()
    audit.driver.find_element(By.ID, "audit-model").send_keys(Keys.ESCAPE, Keys.TAB)
    keyboard.active_element.send_keys(Keys.ARROW_UP)  # one block more in stage 1
    entries = {"depths": "4,2,6,4"}
    assert audit.ask(SHOWN) == shown_for(audit, entries)
    for _ in range(4):
        keyboard.active_element.send_keys(Keys.TAB)
    keyboard.active_element.send_keys(Keys.ARROW_UP)  # stage 1 is one step wider
    entries["embed_dims"] = "64,96,224,448"
    assert audit.ask(SHOWN) == shown_for(audit, entries)
    while keyboard.active_element.get_attribute("type") != "radio":
        keyboard.active_element.send_keys(Keys.TAB)
    keyboard.active_element.send_keys(Keys.ARROW_RIGHT)
    entries["form"] = "folded"
    assert audit.ask(SHOWN) == shown_for(audit, entries)
    keyboard.active_element.send_keys(Keys.TAB)
    keyboard.active_element.send_keys("tho")
    entries["counter"] = "thop"
    assert audit.ask(SHOWN) == shown_for(audit, entries)
    outlines = []
    for _ in range(3):
        keyboard.active_element.send_keys(Keys.TAB)
        outlines.append(audit.ask("return getComputedStyle(document.activeElement).outlineStyle"))
    assert outlines == ["solid"] * 3
    keyboard.active_element.send_keys(Keys.ENTER)  # the last button
    assert audit.wait("return document.querySelector('[data-part=copied]').textContent") == "Copied as link."


@pytest.fixture
def clipboard(chromium: Chromium) -> Iterator[None]:
    chromium.command("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    yield
    chromium.command("Browser.resetPermissions")


@pytest.mark.usefixtures("clipboard")
def test_the_copied_text_is_the_network(audit: Chromium, tmp_path: Path) -> None:
    entries = random_words(99)
    enter(audit, entries)
    copied: dict[str, Any] = {}
    for button in audit.driver.find_elements(By.CSS_SELECTOR, "[data-copy]"):
        button.click()
        name, message = button.get_attribute("data-copy"), f"Copied as {button.text}."
        assert name and audit.wait("return document.querySelector('[data-part=copied]').textContent") == message
        copied[name] = audit.driver.execute_async_script(CLIPBOARD)
    shown = audit.ask(SHOWN)
    assert copied == {name: shown[name] for name in ("yaml", "python", "link")}
    (tmp_path / "mine.yaml").write_text(copied["yaml"], encoding="utf-8")
    namespace: dict[str, Any] = {"print": lambda text: None}
    exec(copied["python"], namespace)
    assert EfficientFormerConfig.from_yaml(tmp_path / "mine.yaml") == namespace["config"]
    assert f"{namespace['costs'].macs:,}" in shown["summary"]


def test_the_text_is_shown_if_copying_is_not_allowed(audit: Chromium) -> None:
    audit.ask("navigator.clipboard.writeText = () => Promise.reject(new Error('no'))")
    audit.driver.find_element(By.CSS_SELECTOR, "[data-copy=yaml]").click()
    assert "does not let" in audit.wait("return document.querySelector('[data-part=copied]').textContent")
    assert audit.ask(SEEN, "[data-text=yaml]")[0].strip() == PRESETS["l1"].to_yaml().strip()
    audit.driver.refresh()


def test_a_failed_download_of_python_is_explained_and_retried(chromium: Chromium, addresses: dict[str, str]) -> None:
    open_page(chromium, addresses["served"])
    chromium.command("Network.enable")
    chromium.command("Network.setBlockedURLs", urls=["*python_stdlib.zip"])
    enter(chromium, {"num_vit": "2"})
    failure = "return document.querySelector('[data-part=failure]').textContent"
    assert "Check the connection and try again" in chromium.wait(failure)
    chromium.command("Network.setBlockedURLs", urls=[])
    chromium.driver.find_element(By.CSS_SELECTOR, "[data-part=again]").click()
    assert chromium.wait(READY) and chromium.ask(failure) == ""
    assert chromium.ask(SHOWN) == shown_for(chromium, {"num_vit": "2"})


def test_axe_finds_nothing_serious_and_nothing_scrolls_sideways(audit: Chromium) -> None:
    audit.ask("document.querySelector('.audit details').open = true")
    assert audit.axe() == []
    audit.colours("dark")
    assert audit.axe(runOnly=COLOURS) == []
    audit.colours("light")
    audit.resize(PHONE)
    assert audit.ask(SIDEWAYS) == []
    wide = "[...document.querySelectorAll('.audit .md-typeset__scrollwrap')].filter(b => b.scrollWidth > b.clientWidth)"
    assert audit.ask(f"return {wide}.length") >= 3
    assert audit.wait(f"return {wide}.every(box => box.tabIndex === 0)")
    assert audit.axe() == []


def test_without_scripts_and_in_a_folder_the_tables_are_there_and_no_form(
    chromium: Chromium, addresses: dict[str, str], version: str
) -> None:
    try:
        chromium.command("Emulation.setScriptExecutionDisabled", value=version == "served")
        chromium.driver.get(addresses[version] + page(version, "audit"))
        assert chromium.ask(SEEN, ".audit, .audit button") == [False] * 4 + [False]
        assert "efficientformer-edu audit" in chromium.ask(SEEN, ".audit-needs")[0]
        tables = " ".join(filter(None, chromium.ask(SEEN, "main table")))
    finally:
        chromium.command("Emulation.setScriptExecutionDisabled", value=False)
    for name in PRESETS:
        assert f"{count(name).macs:,}" in tables and name.upper() in tables
    assert all(counter in tables for counter in COUNTERS)
