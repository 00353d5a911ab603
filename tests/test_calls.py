"""Reading calls from flags: literals only, and every refusal in one line."""

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
        "f(" + "(" * 5000 + ")" * 5000 + ")",
    ],
)
def test_anything_else_is_refused_without_being_run(text):
    with pytest.raises(ValueError, match=r"^flag="):
        calls.parse("flag", text)


def test_build_names_what_is_wrong():
    choices = {"double": lambda value, by=2: value * by, "nothing": dict}
    assert calls.build("flag", "double(3, by=5)", choices) == 15
    with pytest.raises(ValueError, match=r"^flag='treble\(1\)': unknown name 'treble'; allowed are double, nothing"):
        calls.build("flag", "treble(1)", choices)
    with pytest.raises(ValueError, match=r"^flag='double\(\)': .*missing"):
        calls.build("flag", "double()", choices)
