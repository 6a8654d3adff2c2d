"""The file: one script, one style, both by their hashes, and data that is never markup."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from grokscope.analysis.report import write_report
from grokscope.analysis.report.document import run_document
from grokscope.analysis.report.page import document_json, page_html
from grokscope.analysis.run import Run
from grokscope.store.nofollow import NotPlainFileError

WORDS = ("</script>", "<!--", "<script>", "]]>", "\u2028", "\ud800", "{style}", "%s", "&lt;")
DOCUMENT = {"title": "".join(WORDS), "arrays": [], "panels": list(WORDS), "live": False}
LOADED = ("src", "href", "srcset", "action", "data", "poster", "background")


class Elements(HTMLParser):
    """Tags with their attributes, and the text of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] in self.texts and data.strip():
            self.texts[self.tags[-1][0]].append(data)


def policy(elements):
    found = [a["content"] for t, a in elements.tags if t == "meta" and "http-equiv" in a]
    assert len(found) == 1
    return dict(part.split(" ", 1) for part in found[0].split("; "))


def digest(text):
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@pytest.fixture(scope="module", params=["made up", "of a run"])
def html(request, finished):
    return page_html(DOCUMENT if request.param == "made up" else run_document(Run.open(finished)))


def test_the_policy_names_the_hashes_of_the_only_script_and_style(html):
    elements = Elements(html)
    allowed = policy(elements)
    data, script = elements.texts["script"]
    (style,) = elements.texts["style"]
    assert allowed["script-src"] == digest(script)
    assert allowed["style-src"] == digest(style)
    assert allowed["default-src"] == "'none'"
    assert json.loads(data)["live"] is False


def test_the_policy_comes_before_everything_that_it_governs(html):
    tags = [tag for tag, attributes in Elements(html).tags]
    metas = [i for i, (t, a) in enumerate(Elements(html).tags) if "http-equiv" in a]
    assert metas[0] < min(tags.index("script"), tags.index("style"))


def test_only_a_live_page_may_ask_its_server():
    still, live = (policy(Elements(page_html(DOCUMENT | {"live": x}))) for x in (False, True))
    assert still.pop("connect-src") == "'none'"
    assert live.pop("connect-src") == "'self'"
    assert still == live


def test_no_element_loads_anything(html):
    elements = Elements(html)
    assert [(t, a) for t, a in elements.tags if set(a) & set(LOADED)] == []
    assert [t for t, a in elements.tags if any(name.startswith("on") for name in a)] == []
    assert not re.search(r"@import|url\(", elements.texts["style"][0])
    names = {tag for tag, _ in elements.tags}
    assert not names & {"link", "img", "iframe", "object", "embed", "base", "video", "audio"}


def test_data_holds_no_angle_bracket_and_comes_back(html):
    block = html.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    assert "<" not in block
    assert json.loads(block)["arrays"] is not None
    text = document_json(DOCUMENT)
    assert "<" not in text
    assert text.isascii()
    assert json.loads(text) == DOCUMENT


def test_markup_in_the_data_adds_no_element():
    plain = Elements(page_html(DOCUMENT | {"title": "", "panels": []}))
    assert Elements(page_html(DOCUMENT)).tags == plain.tags


def test_the_script_does_not_end_itself():
    script = Elements(page_html(DOCUMENT)).texts["script"][1]
    assert "</script" not in script.lower()
    assert "<!--" not in script
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert forbidden not in script


def test_the_page_is_text_that_any_system_reads(html):
    html.encode("utf-8")
    assert html.index('<meta charset="utf-8">') < 1024


@pytest.mark.refusal
def test_a_number_that_json_lacks_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        document_json({"x": float("nan")})


def test_a_report_goes_into_the_run_s_folder_or_where_one_says(make, tmp_path):
    folder = make(tmp_path / "run", last=5)
    run = Run.open(folder)
    before = set(folder.iterdir())
    path = write_report(run)
    assert path == folder / "report.html"
    assert set(folder.iterdir()) - before == {path}
    other = write_report(run, tmp_path / "other.html")
    assert other.name == "other.html"
    assert not list(tmp_path.glob(".*"))
    again = write_report(run)
    assert again.stat().st_size == pytest.approx(path.stat().st_size, rel=0.01)


def test_the_licence_of_the_drawing_library_comes_along(html):
    assert "uPlot" in html
    assert "MIT" in html


def test_a_link_in_the_run_s_folder_is_not_followed(make, tmp_path):
    folder = make(tmp_path / "run", last=5)
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (folder / "report.html").symlink_to(precious)
    with pytest.raises(NotPlainFileError, match=r"report\.html must be a regular file or nothing"):
        write_report(Run.open(folder))
    assert precious.read_text() == "mine"
    assert (folder / "report.html").is_symlink()
