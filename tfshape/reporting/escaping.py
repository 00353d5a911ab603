"""Text of any origin as HTML and as Markdown that is nothing but that text; control characters are shown as escapes."""

from __future__ import annotations

import html as html_lib
import re
from typing import Any

from tfshape import checks


def html(text: Any) -> str:
    """Text for an element or an attribute of a page."""
    return html_lib.escape(checks.escaped(str(text)), quote=True)


def cell(text: Any) -> str:
    """Text for a cell of a Markdown table: no markup, no link, no other line, no HTML."""
    text = checks.escaped(" ".join(str(text).split())).replace("\\", "\\\\")
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"[|`*~$]|\](?=[(\[:])|\b_|_\b", r"\\\g<0>", text)


def paragraph(text: Any) -> str:
    """As `cell`, and nothing that begins a heading, a list, a quotation or a rule."""
    return re.sub(r"^(\d*)([#+=>.)-])", r"\1\\\2", cell(text))
