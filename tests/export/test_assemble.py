"""One HTML file out of the files of the page."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import delira_nca.export
from delira_nca.export.html import MODULES, assemble, script

LIVE = Path(delira_nca.export.__file__).with_name("live")


class Page(HTMLParser):
    """Tags with their attributes, and the text of each script, title and heading."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.inside = [], {}, None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.inside = dict(attrs).get("id", tag)

    def handle_endtag(self, tag):
        self.inside = None

    def handle_data(self, data):
        if self.inside:
            self.texts[self.inside] = self.texts.get(self.inside, "") + data


NASTY = "</script><script>alert(1)</script><b>&amp; \"'\u2028 {{script}} \\u003c <!--"


def test_title_and_data_cannot_break_out_of_their_place():
    harmless, nasty = (Page(assemble({"title": text, "other": [text, {text: text}]})) for text in ("x", NASTY))
    assert [tag for tag, _ in nasty.tags] == [tag for tag, _ in harmless.tags]
    assert nasty.texts["title"] == nasty.texts["h1"] == NASTY
    assert json.loads(nasty.texts["page"]) == {"title": NASTY, "other": [NASTY, {NASTY: NASTY}]}
    for same in ("style", "update.glsl", "life.glsl"):
        assert nasty.texts[same] == harmless.texts[same]


def test_page_loads_nothing():
    text = assemble({"title": "x"})
    page = Page(text)
    links = [(tag, attributes) for tag, attributes in page.tags if attributes.keys() & {"src", "href", "action"}]
    assert links == [("link", {"rel": "icon", "href": "data:,"})]
    assert not re.search(r"https?:|//[a-z0-9-]+\.[a-z]{2,}|@import|url\(|\bfetch\(|XMLHttpRequest|WebSocket", text)
    (policy,) = [a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")


def test_every_file_of_the_page_is_on_it_and_no_nan():
    text = assemble({"title": "x"})
    assert "{{" not in text
    assert {file.stem for file in LIVE.glob("*.js")} == set(MODULES)
    assert {file.name for file in LIVE.iterdir()} == {
        *(f"{module}.js" for module in MODULES),
        *("page.html", "page.css", "update.glsl", "life.glsl"),
    }
    for file in [*LIVE.glob("*.glsl"), LIVE / "page.css"]:
        assert file.read_text().strip() in text
    with pytest.raises(ValueError, match="not JSON compliant"):
        assemble({"title": "x", "value": float("nan")})


def test_modules_import_only_from_those_before_them_and_make_one_script():
    for number, module in enumerate(MODULES):
        source = (LIVE / f"{module}.js").read_text()
        imported = re.findall(r'^import .*? from "\./(\w+)\.js";$', source, re.MULTILINE | re.DOTALL)
        assert len(imported) == len(re.findall(r"^import\b", source, re.MULTILINE))
        assert set(imported) <= set(MODULES[:number]), module
    text = script(MODULES)
    assert not re.search(r"^\s*(import|export)\b", text, re.MULTILINE)
    for name in ("class WebGLEngine", "class JavaScriptEngine", "function fires", "class World", "class App"):
        assert text.count(f"\n{name}") == 1
    assert script(("player",)).startswith("// Time")
