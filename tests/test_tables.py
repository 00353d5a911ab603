"""CSV files that a spreadsheet shows and never runs."""

import csv
import pathlib
import re

import numpy as np
import pandas as pd
import pytest

from tfshape import tables

ROOT = pathlib.Path(__file__).resolve().parents[1]
FORMULAS = ["=cmd|'/C calc'!A0", "+1+cmd", "-2+3", "@SUM(1)", "\t=1", "\n=1", " =1", "\x00=1", "\ufeff=1", "\uff1d1"]
FORMULAS += ["-", "-0.5x", "+inf()", "-1e", "--1"]
HARMLESS = ["none", "clip(1)|noise(0.1)", "a=b", "a-b", "'=1", "", "1-2", "-0.5", "+3", "-1e-05", "-inf", ".5", "-.5"]
NUMBERS = [-0.5, -3, float("-inf"), np.float32(-0.1), None, True]


@pytest.mark.parametrize("value", FORMULAS)
def test_a_formula_is_made_text(value):
    assert tables.cell(value) == f"'{value}"
    assert tables.cell(tables.cell(value)) == f"'{value}"


@pytest.mark.parametrize("value", [*HARMLESS, *NUMBERS])
def test_other_cells_stay_as_they_are(value):
    assert tables.cell(value) is value


def test_no_cell_starts_another_row():
    assert tables.cell("a\r=1\r\n=2") == "a\n=1\n=2"
    assert tables.cell("\r=1") == "'\n=1"


def test_a_file_of_every_kind_of_cell(tmp_path):
    frame = pd.DataFrame({"text": [*FORMULAS, *HARMLESS]})
    frame["mixed"] = pd.Series(([3, None, -1.5, "=1"] * len(frame))[: len(frame)], dtype=object)
    frame["=head"] = -0.5
    frame["low"] = pd.Categorical(["-x"] * len(frame))
    before = frame.copy()
    tables.write_csv(tmp_path / "a.csv", frame)
    pd.testing.assert_frame_equal(frame, before)
    with open(tmp_path / "a.csv", newline="", encoding="utf-8") as file:
        heads, *rows = csv.reader(file)
    assert heads == ["text", "mixed", "'=head", "low"]
    assert [row[0] for row in rows] == [*(f"'{value}" for value in FORMULAS), *HARMLESS]
    assert [row[1] for row in rows[:4]] == ["3", "", "-1.5", "'=1"]
    assert {tuple(row[2:]) for row in rows} == {("-0.5", "'-x")}


def test_a_table_without_formulas_is_what_pandas_writes(tmp_path):
    frame = pd.DataFrame({"a": [1, 2], "b": [-0.1, np.nan], "c": ["x,\n", None], "d": [True, False]})
    frame["e"] = pd.Series([1, None], dtype=object)
    for number, table in enumerate((frame, frame.iloc[:0], pd.DataFrame(columns=["defense"]), pd.concat([frame] * 2))):
        tables.write_csv(tmp_path / f"{number}.csv", table)
        assert (tmp_path / f"{number}.csv").read_text("utf-8") == table.to_csv(index=False)


def test_no_file_writes_csv_by_itself():
    """But for the callback, which writes row by row and asks `tables.cell` for each value."""
    files = [path for path in (ROOT / "tfshape").rglob("*.py") if path.name not in ("tables.py", "callback.py")]
    found = [path.name for path in files if re.search(r"\.to_csv\(|csv\.writer|DictWriter", path.read_text("utf-8"))]
    assert not found
