"""What a shaper is called, declares and refuses; nothing here trains."""

import dataclasses
import json
import math

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tfshape as ts

S = ts.shaping
SPELLINGS = [
    "clip(1.0)",
    "clip(1.0)|noise(1.0)",
    "normalize()",
    "normalize(0.5, gamma=0.1)|noise(0.3)",
    "per_layer_clip(2.0)|clip(1.0)|noise(1.0)",
    "adaptive_clip()",
    "adaptive_clip(0.7, initial=0.1, count_stddev=5.0)|noise(1.0)",
    "orient()",
    "orient(0.2, reference='momentum', decay=0.5)|clip(1.0)|noise(1.0)",
    "orient(-0.5, reference='geometric_median', drop=True)",
    "geometric_median()",
    "geometric_median(20, smoothing=0.1)|noise(stddev=0.5)",
    "krum(0.2, keep=1)",
    "trim(0.3)",
    "noise(stddev=0.1)",
]


@pytest.mark.parametrize("text", SPELLINGS)
def test_every_form_round_trips(text):
    shaping = S.parse(text)
    assert str(shaping) == shaping.name == text
    assert S.parse(str(shaping)) == shaping
    assert S.Shaper.from_config(json.loads(json.dumps(shaping.to_config()))) == shaping
    assert type(shaping).from_config(shaping.get_config()) == shaping
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(shaping)) == shaping
    assert hash(shaping) == hash(S.parse(text))
    with pytest.raises(dataclasses.FrozenInstanceError):
        shaping.anything = 1


def test_every_shaper_is_among_those_forms():
    used = {type(shaper) for text in SPELLINGS for shaper in S.parse(text).shapers}
    assert used | {S.Chain} == set(map(S.get, S.names()))
    assert all(getattr(S, cls.__name__) is cls for cls in map(S.get, S.names()))


@given(st.floats(1e-6, 1e6), st.floats(0, 1e6))
def test_numbers_round_trip(clip, noise):
    shaping = S.dp_sgd(clip, noise)
    assert S.parse(str(shaping)) == shaping
    assert shaping.noise_stddev == noise * clip


def test_other_ways_to_write():
    assert S.parse("none") is None
    assert S.parse(" clip( clip = 1 ) | noise( 2 ) ") == S.dp_sgd(1.0, 2.0)
    assert S.parse("dp_sgd(1.0, 2.0)") == S.parse("dp_sgd(noise=2.0)") == S.dp_sgd(1.0, 2.0)
    assert S.parse("geometric_median|noise(stddev=1)") == S.Chain([S.GeometricMedian(), S.GaussianNoise(stddev=1.0)])
    assert S.Chain([S.Clip(1.0), S.Chain([S.Normalize(), S.GaussianNoise(1.0)])]).shapers[1] == S.Normalize()


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "shaping must be a name or a call"),
        ("clip(1.0", "shaping must be a name or a call"),
        (None, "shaping must be a string such as"),
        ("clop(1.0)", "shaping must be one of adaptive_clip, clip, dp_sgd"),
        ("clop(1.0)", r"got 'clop'. Did you mean 'clip'\?$"),
        ("clip(1.0)|geometric_mean", r"Did you mean 'geometric_median'\?$"),
        ("normalize(gama=0.1)", r"normalize takes clip, gamma, got .*Did you mean 'gamma'\?$"),
        ("orient(reference='momentun')", r"got 'momentun'. Did you mean 'momentum'\?$"),
        ("dp_sgd(nois=1)", r"Did you mean 'noise'\?$"),
        ("clip(" + "9" * 400 + "z)", r"9…$"),
        ("clip(1.0)|none", "shaping must be one of .*, got 'none'"),
        ("clip(1.0)+noise(1.0)", "shaping must be a name or a call"),
        ("__import__('os').system('true')", "shaping must be a name or a call"),
        ("chain(1.0)", "shaping must be one of"),
        ("clip(open('x'))", "shaping must be a name or a call"),
        ("clip(*[1.0])", "shaping must be a name or a call"),
        ("clip(**{'clip': 1.0})", "shaping must be a name or a call"),
        ("clip(1.0, 2.0)", "clip takes clip"),
        ("clip(1.0, clip=2.0)", "clip takes clip"),
        ("clip(limit=1.0)", "clip takes clip"),
        ("clip()", "clip needs clip"),
        ("clip(0)", r"clip must be a number > 0, got 0"),
        ("clip('1')", "clip must be a number"),
        ("clip(True)", "clip must be a number"),
        ("normalize(gamma=0)", "gamma must be a number"),
        ("per_layer_clip(-1)", "clip must be a number"),
        ("adaptive_clip(1.5)", r"quantile must be a number >= 0 and <= 1, got 1.5"),
        ("adaptive_clip(initial=0)", "initial must be"),
        ("adaptive_clip(learning_rate=0)", "learning_rate must be"),
        ("adaptive_clip(count_stddev=-1)", "count_stddev must be"),
        ("orient(2)", "cosine must be"),
        ("orient(-1)", "cosine must be"),
        (
            "orient(reference='mean')",
            "reference must be one of batch_mean, momentum, geometric_median or an .npz file, got 'mean'",
        ),
        ("orient(drop=1)", "drop must be one of True, False, got 1"),
        ("orient(decay=1)", "decay must be"),
        ("geometric_median(0)", "iterations must be an integer >= 1, got 0"),
        ("geometric_median(smoothing=0)", "smoothing must be"),
        ("krum(0.5)", r"rate must be a number >= 0 and < 0.5, got 0.5"),
        ("krum(keep=0)", "keep must be an integer >= 1, got 0"),
        ("trim(1)", "rate must be"),
        ("noise()", "noise takes exactly one of multiplier and stddev"),
        ("noise(1, stddev=1)", "noise takes exactly one of multiplier and stddev"),
        ("noise(-1)", "noise multiplier must be"),
        ("noise(1)|clip(1)", r"noise\(1.0\) must be the last"),
        ("krum()|noise(1)", r"noise\(1.0\) follows shapers without a sensitivity"),
        ("per_layer_clip(1)|krum()", r"krum\(\) cannot follow per_layer_clip"),
        ("per_layer_clip(1)|clip(1)|orient(reference='momentum')", "cannot follow per_layer_clip"),
    ],
)
def test_mistakes_are_one_line(text, words):
    with pytest.raises(ValueError, match=words) as caught:
        S.parse(text)
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_numbers():
    import numpy as np

    one, two = np.float32(1), np.int64(2)
    assert S.dp_sgd(one, two) == S.dp_sgd(1.0, 2.0) and str(S.dp_sgd(one, two)) == "clip(1.0)|noise(2.0)"
    assert str(S.Krum(np.float64(0.25), keep=two)) == "krum(0.25, keep=2)"
    assert str(S.Trim(np.float16(0.5))) == "trim(0.5)"
    assert str(S.GeometricMedian(np.int8(3), np.array(0.5))) == "geometric_median(3, smoothing=0.5)"
    assert str(S.Orient(np.float64(0.5), drop=np.True_)) == "orient(0.5, drop=True)"
    assert json.loads(json.dumps(S.AdaptiveClip(np.float32(0.5), initial=two).to_config()))["initial"] == 2.0
    model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(3)])
    shaped = ts.shape(model, S.Clip(one), batch_size=np.int64(8), microbatch=np.uint8(4), seed=np.array(3))
    config = shaped.get_config()
    assert [(config[key], type(config[key])) for key in ("batch_size", "microbatch", "seed")] == [
        (8, int),
        (4, int),
        (3, int),
    ]


def test_configs_are_checked():
    with pytest.raises(ValueError, match=r"shaper must be one of .*Did you mean 'noise'\?$"):
        S.Shaper.from_config({"shaper": "noize"})
    with pytest.raises(ValueError, match="shaper must be one of"):
        S.Shaper.from_config({"shaper": "eval"})
    with pytest.raises(ValueError, match="clip takes clip, got 'size'"):
        S.Shaper.from_config({"shaper": "clip", "size": 1})
    with pytest.raises(ValueError, match="Chain needs at least one"):
        S.Chain([])
    with pytest.raises(ValueError, match="Chain takes shapers"):
        S.Chain([1.0])


@pytest.mark.parametrize(
    "text, sensitivity, stddev, multiplier",
    [
        ("clip(2.0)", 2.0, 0.0, 0.0),
        ("clip(2.0)|noise(3.0)", 2.0, 6.0, 3.0),
        ("clip(2.0)|noise(stddev=3.0)", 2.0, 3.0, 1.5),
        ("clip(2.0)|clip(3.0)|noise(1.0)", 2.0, 2.0, 1.0),
        ("normalize(0.5)|noise(1.0)", 0.5, 0.5, 1.0),
        ("per_layer_clip(0.5)|noise(1.0)", 0.5, 0.5, 1.0),
        ("adaptive_clip(initial=0.1, count_stddev=10.0)|noise(1.0)", 0.1, 0.1, (1 + 1 / 400) ** -0.5),
        ("adaptive_clip(count_stddev=0.5)|noise(1.0)", 1.0, 1.0, 0.5**0.5),
        ("adaptive_clip(count_stddev=0.0)|noise(1.0)", 1.0, 1.0, 0.0),
        ("adaptive_clip()", 1.0, 0.0, 0.0),
        ("orient(reference='momentum')|clip(1.0)|noise(1.0)", 1.0, 1.0, 1.0),
        ("clip(1.0)|orient(reference='momentum')|noise(1.0)", 1.0, 1.0, 1.0),
        ("orient(reference='momentum')", None, 0.0, None),
        # A clip behind weights that depend on the batch does not bring a sensitivity back.
        ("orient()|clip(1.0)|noise(stddev=1.0)", None, 1.0, None),
        ("clip(1.0)|geometric_median()|noise(stddev=1.0)", None, 1.0, None),
        ("clip(1.0)|krum()", None, 0.0, None),
        ("clip(1.0)|trim()", None, 0.0, None),
        ("noise(stddev=1.0)", None, 1.0, None),
    ],
)
def test_what_an_accountant_reads(text, sensitivity, stddev, multiplier):
    shaping = S.parse(text)
    assert shaping.sensitivity == sensitivity
    assert shaping.noise_stddev == stddev
    assert shaping.noise_multiplier == multiplier or math.isclose(shaping.noise_multiplier, multiplier)
