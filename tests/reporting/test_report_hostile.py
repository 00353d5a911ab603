"""Reports of folders that a stranger made: nothing in them leaves its cell, and what is damaged is one line."""

import base64
import hashlib
import html.parser
import json
import re

import numpy as np
import pandas as pd
import pytest
from reporting_helpers import write_study

from tfshape import reporting
from tfshape.reporting.files import markdown
from tfshape.reporting.page import page

PAYLOADS = [
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style></svg><b>x</b>",
    "a|b\n# heading\n\n```\ncode\n| c | d |",
    "[x](javascript:alert(1)) ![y](http://example.org/z)",
    "\x1b[2J\u202eevil",
    "=cmd|' /C calc'!A0",
]


class Parsed(html.parser.HTMLParser):
    """The elements of a page, each with the names of its attributes, and its texts."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, tuple(name for name, _ in attributes)))

    handle_startendtag = handle_starttag

    def handle_data(self, text):
        self.texts.append(text)


def hostile(folder, payload):
    """Puts a payload into every text of a study, but for the words that say what a row is."""
    for path in folder.glob("*.csv"):
        frame = pd.read_csv(path)
        for name in set(frame.columns) - {"status", "file"}:
            if frame[name].dtype == object:
                frame[name] = [value if value != value else f"{value}{payload}" for value in frame[name]]
        frame.to_csv(path, index=False)
    about = json.loads((folder / "config.json").read_text())
    about["versions"] = {payload: payload, **about["versions"]}
    about.update(git=payload, platform=payload, command=[payload])
    (folder / "config.json").write_text(json.dumps(about))


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_value_leaves_its_element_or_its_cell(tmp_path, payload):
    folder = write_study(tmp_path / "study")
    plain = reporting.read(folder)
    benign, lines = Parsed(page(plain)), markdown(plain).splitlines()
    hostile(folder, payload)
    material = reporting.read(folder)
    text = page(material)
    found = Parsed(text)
    extra = {tag for tag, _ in found.elements} - {tag for tag, _ in benign.elements}
    allowed = {*benign.elements, ("td", ("class",))}  # of a cell with a long text
    assert not extra and set(found.elements) <= allowed
    assert [tag for tag, _ in found.elements].count("script") == 1
    assert "\x1b" not in text and "\u202e" not in text
    report = markdown(material)
    # the same headings and blocks, and tables of as many cells
    kinds = [re.sub(r"[^#|\s].*", "", line) if not line.startswith("|") else "table" for line in report.splitlines()]
    assert kinds == [re.sub(r"[^#|\s].*", "", line) if not line.startswith("|") else "table" for line in lines]
    cells = [len(re.findall(r"(?<!\\)\|", line)) for line in report.splitlines() if line.startswith("|")]
    assert cells == [len(re.findall(r"(?<!\\)\|", line)) for line in lines if line.startswith("|")]
    outside = [line for line in report.splitlines() if not line.startswith("    ")]
    assert not any(re.search(r"(?<!\\)\]\(|<(?=[a-z/])|(?<!\\)`", line) for line in outside)
    assert "\x1b" not in report and "\u202e" not in report


def test_the_policy_allows_the_two_texts_of_the_page_and_nothing_else(tmp_path):
    text = page(reporting.read(write_study(tmp_path / "study")))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    assert "unsafe" not in policy and policy.startswith("default-src 'none'") and " style=" not in text
    for kind in ("style", "script"):
        inline = re.findall(rf"<{kind}>(.*?)</{kind}>", text, re.DOTALL)
        allowed = re.search(rf"{kind}-src 'sha256-([^']*)'", policy)[1]
        assert [base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in inline] == [allowed]


def edit(name, column, value, row=0):
    def change(folder):
        frame = pd.read_csv(folder / name).astype(object)
        frame.loc[row, column] = value
        frame.to_csv(folder / name, index=False)

    return change


def drop(name, column):
    return lambda folder: pd.read_csv(folder / name).drop(columns=column).to_csv(folder / name, index=False)


def put(name, data):
    return lambda folder: (folder / name).write_bytes(data)


DAMAGED = {
    "a rate of words": edit("results.csv", "accuracy", "much"),
    "a rate above 1": edit("results.csv", "accuracy", 1e308),
    "an end that is infinite": edit("results.csv", "accuracy_low", "inf"),
    "no epsilon": edit("results.csv", "epsilon", None),
    "a negative count": edit("results.csv", "num_poisons", -1),
    "half a poison": edit("results.csv", "num_poisons", 0.5),
    "a count that is huge": edit("results.csv", "num_poisons", "1" * 400),
    "no defense": drop("results.csv", "defense"),
    "no point": drop("victims.csv", "point"),
    "a trial of words": edit("victims.csv", "trial", "x"),
    "not a table": put("results.csv", b"\x00\xff\x00"),
    "an empty table": put("trials.csv", b""),
    "rows of other lengths": put("artifacts.csv", b"a,b\n1,2,3,4\n1\n"),
    "not JSON": put("config.json", b"{"),
    "a list": put("config.json", b"[]"),
    "not an array": put("cache/pictures/f10", b"PK\x03\x04"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_named(tmp_path, name):
    folder = write_study(tmp_path / "study")
    DAMAGED[name](folder)
    with pytest.raises(ValueError, match=r"(is damaged|must )[^\n]*$"):
        reporting.read(folder)


def test_labels_that_do_not_fit_the_pictures_are_named(tmp_path):
    folder = write_study(tmp_path / "study")
    path = folder / "cache" / "pictures" / "f10"
    with np.load(path) as file:
        arrays = {**file, "poison_label": np.arange(2)}
    with open(path, "wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(ValueError, match="poison_label must be one integer for each poison"):
        reporting.read(folder)


@pytest.mark.parametrize("name", ["results.csv", "config.json", "cache/pictures/f10", "report.html"])
def test_a_link_is_not_followed(tmp_path, name):
    folder, elsewhere = write_study(tmp_path / "study"), tmp_path / "elsewhere"
    elsewhere.write_text("mine")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(elsewhere)
    with pytest.raises(ValueError, match="is a symbolic link"):
        reporting.write(reporting.read(folder), folder)
    assert elsewhere.read_text() == "mine"


def test_versions_of_any_type_are_text(tmp_path):
    folder = write_study(tmp_path / "study")
    for versions in (None, [1], "2.15", {"a": {"b": ["<i>"]}}):
        (folder / "config.json").write_text(json.dumps({"versions": versions, "git": 3}))
        assert "<i>" not in page(reporting.read(folder))
