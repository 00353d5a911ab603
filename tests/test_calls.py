"""Reading calls from flags: literals only, and every refusal in one line."""

import re

import pytest

from tfshape import calls


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name", ("name", (), {})),
        (" name() ", ("name", (), {})),
        ("f(1, 'a', -2.5, key=[1, 2], other={3: 4})", ("f", (1, "a", -2.5), {"key": [1, 2], "other": {3: 4}})),
    ],
)
def test_calls_of_literals_are_read(text, expected):
    assert calls.parse("flag", text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "f(",
        "f(x)",
        "f(*[1])",
        "f(**{'a': 1})",
        "a.b(1)",
        "f(g())",
        "f(1);f(2)",
        "f(1)(2)",
        "__import__('os').x()",
        "f(" + "(" * 2000 + ")" * 2000 + ")",
    ],
    ids=lambda text: text[:20],
)
def test_anything_else_is_refused_without_being_run(text):
    with pytest.raises(ValueError, match=r"^flag must be a name or a call "):
        calls.parse("flag", text)


@pytest.mark.parametrize("read", [calls.parse, calls.split])
def test_a_text_that_nobody_types_is_refused_before_it_is_read(read):
    with pytest.raises(ValueError, match=r"^flag must be at most 10000 characters long, got 'f\(1,1,") as caught:
        read("flag", "f(" + "1," * 500_000 + ")")
    assert len(str(caught.value)) < 300


def test_odd_escapes_are_read_without_a_warning(recwarn):
    assert calls.parse("flag", r"f('\d')") == ("f", (r"\d",), {})
    assert not recwarn.list


def test_build_names_what_is_wrong():
    choices = {"double": lambda value, by=2: value * by, "nothing": lambda: None}
    assert calls.build("flag", "double(3, by=5)", choices) == 15
    with pytest.raises(ValueError, match=r"^flag must be one of double, nothing, got 'treble'"):
        calls.build("flag", "treble(1)", choices)
    words = "option of flag double must be one of value, by, got 'bye'. Did you mean 'by'?"
    with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
        calls.build("flag", "double(3, bye=5)", choices)
    with pytest.raises(ValueError, match=r"^flag='double\(\)': .*missing"):
        calls.build("flag", "double()", choices)
