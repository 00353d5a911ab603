"""JSON without NaN and Infinity, and records that show every change."""

import json
import math

import numpy as np
import pytest

from tfshape import strict_json

RECORD = {"trial": 3, "accuracy": 0.8125, "epsilon": math.inf, "low": -math.inf, "none": math.nan, "words": "é\n\"'"}


def test_numbers_that_json_lacks_are_told_and_come_back():
    text = strict_json.dumps({**RECORD, "many": (np.float32(0.5), np.int64(2), np.inf)})

    def refuse(name):
        raise AssertionError(name)

    assert json.loads(text, parse_constant=refuse) == strict_json.loads(text)
    found = strict_json.numbers(strict_json.loads(text))
    assert found == {**RECORD, "none": None, "many": [0.5, 2, math.inf]}
    assert strict_json.numbers("information") == "information"


@pytest.mark.parametrize(
    "text", [b"[NaN]", b"[1, -Infinity]", b'{"a": 1}{"b": 2}', b"\xff", b"[\x00]", b"[" * 10**6, b""]
)
def test_what_is_no_json_is_refused_in_a_line(text):
    with pytest.raises(ValueError, match=r"^it") as error:
        strict_json.loads(text)
    assert "\n" not in str(error.value)


def test_old_files_may_have_their_nan():
    assert strict_json.loads("[NaN, Infinity]", lenient=True)[1] == math.inf


def test_no_bit_of_a_record_changes_unseen(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(strict_json.write_text(RECORD))
    data = path.read_bytes()
    assert strict_json.read(path, "restore it") == strict_json.loads(strict_json.dumps(RECORD))
    refused = 0
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        try:
            assert strict_json.read(path, "restore it", required=True) == strict_json.loads(strict_json.dumps(RECORD))
        except ValueError as error:
            assert str(error).startswith(f"{path} is damaged: it") and str(error).endswith("; restore it")
            refused += 1
    assert refused > 0.97 * 8 * len(data)  # what passes are spaces between values


@pytest.mark.parametrize("text", ["[]", "3", "null", '"a"', "{", ""])
def test_what_is_no_record_is_refused(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"config\.json is damaged: it is not .*; restore it$"):
        strict_json.read(path, "restore it")
