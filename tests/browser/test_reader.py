"""Actions of a reader: search, change the colours, open a solution without a mouse."""

from __future__ import annotations

import pytest
from browser.chromium import PHONE, Chromium, page
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

pytestmark = pytest.mark.slow

FIRST = """
const links = [...document.querySelectorAll(".md-search-result__item:first-child .md-search-result__link")]
return links.length > 1 && links.map(({ pathname, hash }) => [pathname, hash])
"""
SCHEME = "return document.body.dataset.mdColorScheme"
SWITCH = "form[data-md-component=palette] label:not([hidden])"

DRAWN = """
return (async () => {
  const source = 'flowchart TB\\n a["A"]:::own\\n b["B"]\\n classDef own fill:#eeeeee,color:#112233'
  const place = document.body.appendChild(document.createElement("div"))
  place.innerHTML = (await mermaid.render("drawn", source)).svg
  return [...place.querySelectorAll(".node p")].map(words => getComputedStyle(words).color)
})()
"""


@pytest.mark.parametrize(
    ("words", "place", "anchor"),
    [
        ("EfficientFormerConfig", "api/config", "efficientformer_edu.config.EfficientFormerConfig"),
        ("layer scale", "chapters/02_building_blocks", "layer-scale"),
    ],
)
def test_the_first_search_result_is_the_intended_section(
    chromium: Chromium, addresses: dict[str, str], version: str, words: str, place: str, anchor: str
) -> None:
    chromium.open(addresses[version] + page(version, "index"))
    field = chromium.driver.find_element(By.CSS_SELECTOR, "[data-md-component=search-query]")
    field.send_keys(words)
    first_result = chromium.wait(FIRST)
    assert first_result, f"nothing is found for {words}"
    (first, _), (same, section), *_ = first_result  # the page, and under it the best matching section
    assert first == same and first.endswith("/" + page(version, place))
    assert section.startswith("#" + anchor)


def test_the_colours_follow_the_system_and_then_the_reader(
    chromium: Chromium, addresses: dict[str, str], version: str
) -> None:
    chromium.open(addresses[version] + page(version, "index"))
    assert chromium.ask(SCHEME) == "default"
    chromium.colours("dark")
    assert chromium.wait(f"{SCHEME} === 'slate'")
    for scheme in ("default", "slate"):  # the reader's own choice: light, then dark
        chromium.driver.find_element(By.CSS_SELECTOR, SWITCH).click()
        assert chromium.wait(f"{SCHEME} === arguments[0]", scheme)
    chromium.open(addresses[version] + page(version, "glossary"))
    assert chromium.ask(SCHEME) == "slate"  # and the choice is stored
    chromium.driver.find_element(By.CSS_SELECTOR, SWITCH).click()
    assert chromium.wait(f"{SCHEME} === 'default'")  # the system's scheme again, which is light by now


def test_text_on_a_coloured_node_keeps_its_colour_in_dark_mode(
    chromium: Chromium, addresses: dict[str, str], version: str
) -> None:
    chromium.open(addresses[version] + page(version, "dense"))
    chromium.colours("dark")
    assert chromium.wait(f"{SCHEME} === 'slate'")
    assert chromium.wait("return document.querySelector('div.mermaid') !== null")  # set up by the theme
    own, other = chromium.ask(DRAWN)
    assert own == "rgb(17, 34, 51)"
    assert other not in (own, "rgb(0, 0, 0)")


def test_hints_and_solutions_open_by_keyboard(chromium: Chromium, addresses: dict[str, str], version: str) -> None:
    chromium.open(addresses[version] + page(version, "chapters/02_building_blocks"))
    folds = chromium.driver.find_elements(By.CSS_SELECTOR, "details:is(.tip, .success)")
    assert len(folds) >= 6
    keyboard = chromium.driver.switch_to
    for fold in folds[:2]:  # the hint and the solution of the first exercise
        chromium.ask("arguments[0].focus()", fold.find_element(By.XPATH, "preceding::a[1]"))
        summary, steps = fold.find_element(By.TAG_NAME, "summary"), 0
        while keyboard.active_element != summary:
            keyboard.active_element.send_keys(Keys.TAB)
            assert (steps := steps + 1) < 5, "the fold is not reached"
        assert not fold.get_property("open")
        keyboard.active_element.send_keys(Keys.ENTER)
        assert fold.get_property("open")
        keyboard.active_element.send_keys(Keys.SPACE)
        assert not fold.get_property("open")


def test_horizontal_scrolling_works_by_keyboard(chromium: Chromium, addresses: dict[str, str], version: str) -> None:
    chromium.open(addresses[version] + page(version, "chapters/03_the_network"), PHONE)
    boxes = "[...document.querySelectorAll('pre > code, .md-typeset__scrollwrap, div.arithmatex, .mermaid')]"
    scrolling = f"{boxes}.filter(box => box.scrollWidth > box.clientWidth)"
    chromium.ask("document.querySelectorAll('details').forEach(fold => fold.open = true)")
    assert chromium.ask(f"return {scrolling}.length") > 10
    assert chromium.wait(f"return {scrolling}.every(box => box.tabIndex === 0)")
