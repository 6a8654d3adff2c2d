"""One HTML file with everything in it: no network, no string of a run taken for markup."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from importlib.resources import files
from typing import Any

ASSETS = files("grokscope.analysis.report") / "assets"
SCRIPTS = ("decode", "look", "lines", "heat", "frames", "panel", "table", "main")
PAGE = """<!doctype html>
<html lang="en" data-theme="light">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>grokscope</title>
<style>{style}</style>
</head>
<body>
<header>
<h1 id="title"></h1>
<p class="verdict" id="verdict"></p>
<nav id="nav" aria-label="Sections"></nav>
</header>
<main>
<div id="facts"></div>
<div id="main"></div>
<noscript>The pictures need JavaScript; it is in this file, nothing is loaded.</noscript>
</main>
<footer>grokscope, <span id="stamp"></span>. Drawn with uPlot 1.6.32 (MIT, Leon Sorokin).</footer>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def page_html(document: dict[str, Any]) -> str:
    """The page of a document (:mod:`grokscope.analysis.report.document`).

    The content security policy allows the page's own script and style by their hashes and nothing
    else; only a live page may ask its own server. What comes from a run stands in a JSON block
    without any ``<``, and reaches the page as text.
    """
    style, script = _assets()
    policy = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "img-src": "data: blob:",
        "connect-src": "'self'" if document.get("live") else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return PAGE.format(
        policy="; ".join(f"{name} {value}" for name, value in policy.items()),
        style=style,
        script=script,
        data=document_json(document),
    )


def document_json(document: dict[str, Any]) -> str:
    """JSON that is safe within a ``script`` element."""
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


@cache
def _assets() -> tuple[str, str]:
    """Style and script."""
    style = "\n".join(_text(f"{name}.css") for name in ("uplot", "page"))
    own = "\n".join(_text(f"{name}.js") for name in SCRIPTS)
    return style, f'{_text("uplot.js")}\n(() => {{\n"use strict";\n{own}\n}})();'


def _text(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"
