"""The registry of defenses: names, spelling and refusals."""

import dataclasses

import pytest

import tfshape as ts

NAMES = (
    "none sphere slab knn loss spectral_signatures activation_clustering epic mixup cutmix deep_partition_aggregation"
)


def test_every_name_gets_a_frozen_class_of_that_name():
    assert ts.defenses.names() == tuple(NAMES.split())
    for name in ts.defenses.names():
        defense = ts.defenses.get(name)()
        assert defense.name == name and isinstance(defense, ts.defenses.Defense)
        assert str(defense) == name and ts.defenses.parse(name) == defense
        with pytest.raises(dataclasses.FrozenInstanceError):
            defense.name = "other"


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("sphere(0.1)", "sphere(rate=0.1)"),
        ("spectral_signatures(rate=0.05)", "spectral_signatures(rate=0.05)"),
        ("epic(subset=0.2, every=3)", "epic(subset=0.2, every=3)"),
        ("deep_partition_aggregation(20)", "deep_partition_aggregation(partitions=20)"),
        (" none() ", "none"),
        ("mixup(1.0)", "mixup"),
    ],
)
def test_a_spelling_is_given_back(text, spelled):
    assert str(ts.defenses.parse(text)) == spelled
    assert ts.defenses.parse(spelled) == ts.defenses.parse(text)


def test_numpy_scalars_are_numbers():
    import numpy as np

    assert str(ts.defenses.Knn(k=np.int64(3), agreement=np.float32(0.5))) == "knn(k=3, agreement=0.5)"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("spheres", "slab, spectral_signatures, sphere, got 'spheres'. Did you mean 'sphere'?"),
        ("sphere(radius=1)", "radius"),
        ("sphere(1.0)", "rate must be a number >= 0 and < 1, got 1.0"),
        ("sphere(-0.1)", "rate"),
        ("slab(rate='a')", "rate"),
        ("loss(rounds=0)", "rounds must be an integer >= 1, got 0"),
        ("loss(rate=True)", "rate"),
        ("knn(k=0)", "k must be"),
        ("knn(agreement=1)", "agreement"),
        ("spectral_signatures(rate=2)", "rate"),
        ("activation_clustering(components=0)", "components"),
        ("activation_clustering(size=0.6)", "size"),
        ("activation_clustering(silhouette=1)", "silhouette"),
        ("epic(subset=1.0)", "subset"),
        ("epic(warmup=0)", "warmup"),
        ("epic(every=0)", "every"),
        ("mixup(alpha=0)", "alpha"),
        ("cutmix(alpha=float('inf'))", "literal"),
        ("deep_partition_aggregation(2.5)", "partitions"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(text, words):
    with pytest.raises(ValueError, match="defense") as caught:
        ts.defenses.parse(text)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_defense_is_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"none, sphere, slab, .* got 'spectral'"):
        ts.defenses.get("spectral")
