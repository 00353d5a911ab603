"""Names to classes and functions: what `register` refuses, entry points, and the names of every room."""

import pytest

import tfshape as ts
from tfshape import registry
from tfshape.gradients import rules


class Attack:
    name = "one_of_a_test"
    kind = "indiscriminate"

    def craft(self, problem):
        raise NotImplementedError


def test_register_refuses_what_is_no_attack_and_what_is_taken():
    found = registry.Registry("nothing", ("name", "kind", "craft"), {"taken": "there:There"})
    assert found.register(Attack) is Attack and found.register(Attack) is Attack
    assert found.names() == ("taken", "one_of_a_test") and found.get("one_of_a_test") is Attack
    with pytest.raises(ValueError, match=r"without kind, craft$"):
        found.register(type("Half", (), {"name": "half"}))
    with pytest.raises(
        ValueError, match=r"^name of a nothing must be one that is not taken, got 'taken' of .*, which there:There has$"
    ):
        found.register(type("Other", (Attack,), {"name": "taken"}))
    with pytest.raises(ValueError, match=r"nothing must be one of taken, one_of_a_test, got 'token'. Did you mean 'ta"):
        found.get("token")
    with pytest.raises(ValueError, match="name of a nothing must be an identifier, got 'a-b'"):
        found.register(type("Other", (Attack,), {"name": "a-b"}))


def test_functions_go_by_their_names_or_by_another():
    found = registry.Registry("nothing")

    @found.register
    def one():
        return 1

    assert found.register(lambda: 2, "two")() == 2 and found.get("one") is one and found.names() == ("one", "two")
    with pytest.raises(ValueError, match=r"must have __name__, __call__, got .* without __name__, __call__$"):
        found.register(3)


def test_our_own_names_are_those_of_their_classes():
    assert all(ts.attacks.get(name).name == name for name in ts.attacks.names())
    assert all(getattr(ts.attacks, name) for name in ts.attacks.__all__)
    assert all(ts.defenses.get(name).name == name for name in ts.defenses.names())
    assert all(ts.shaping.get(name).spelling == name for name in ts.shaping.names())
    assert all(ts.models.get(name).__name__ == name for name in ts.models.names())


def test_the_old_order_of_a_model_s_name_and_its_function_warns(monkeypatch):
    monkeypatch.setattr(ts.models.registry.REGISTRY, "_items", {})
    with pytest.warns(DeprecationWarning, match=r"write register\(build, name\)"):
        ts.models.register("of_a_test", len)
    assert ts.models.get("of_a_test") is len


class Point:
    """Stands for an entry point of an installed package."""

    def __init__(self, name, item):
        self.name, self.value, self._item = name, f"some_package:{name}", item

    def load(self):
        if isinstance(self._item, Exception):
            raise self._item
        return self._item


def test_a_foreign_class_that_cannot_be_loaded_or_goes_by_another_name_is_told(monkeypatch):
    points = {"broken": Point("broken", ImportError("no module named nowhere")), "other": Point("other", Attack)}
    monkeypatch.setattr(registry, "_entry_points", lambda group: points if group == "tfshape.attacks" else {})
    attacks = registry.Registry("attack", ("name",))
    with pytest.raises(ValueError, match=r"attack 'broken' of some_package:broken cannot be loaded: no module named"):
        attacks.get("broken")
    with pytest.raises(ValueError, match=r"attack 'other' of some_package:other calls itself 'one_of_a_test'"):
        attacks.get("other")


@pytest.mark.parametrize("room", [ts.attacks, ts.defenses, ts.shaping.base, ts.models.registry, ts.datasets.registry])
def test_each_room_asks_for_its_own_entry_points(room, monkeypatch):
    asked = []
    monkeypatch.setattr(registry, "_entry_points", lambda group: asked.append(group) or {})
    assert room.REGISTRY.names() == tuple(dict.fromkeys(room.REGISTRY))
    assert set(asked) == {f"tfshape.{room.REGISTRY.kind}s"}


def test_a_layer_rule_of_a_package_is_asked_before_ours_and_after_those_registered(monkeypatch):
    asked = []

    def rule(name):
        def matches(layer):
            asked.append(name)
            return False

        return type(name, (rules.base.Rule,), {"matches": staticmethod(matches), "known": None.__class__, "parts": len})

    points = {"Packaged": Point("Packaged", rule("Packaged"))}
    monkeypatch.setattr(rules.REGISTRY, "_items", {})
    monkeypatch.setattr(registry, "_entry_points", lambda group: points if group == "tfshape.rules" else {})
    for name in ("First", "Second"):
        ts.gradients.register(rule(name))
    model = ts.models.build("lr", (4,), 3)
    unit = rules.unit(model.layers[-1], {id(v): v for v in model.trainable_variables}, whole=False)
    assert asked == ["Second", "First", "Packaged"] and type(unit) is rules.dense.Rule
