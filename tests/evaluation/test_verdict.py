"""The sentences, on rows made by hand."""

import math

import pytest

from tfshape.evaluation import verdict
from tfshape.evaluation.frontier import Comparison

pytestmark = pytest.mark.one_stack

CLIP = "clip(1)|noise(1)"
NEXT_ADAPTIVE = "Next: run with adaptive=True; an attacker who knows the defense may succeed more often."
STRONGER = (
    "Next: use a stronger attack (more poisons, or a larger eps) or more trials; "
    "a defense can only be judged against an attack that works."
)


def rows(defense, data, wins, accuracy=0.84, trials=20, **more):
    """The first `wins` trials succeed; undefended victims have checkpoints at accuracies 0.60, 0.75, 0.80 and the last,
    where a tenth, a quarter, half and all of them have succeeded."""
    engine = "fast" if defense.startswith("clip") else None
    out = []
    for trial in range(trials):
        row = {"trial": trial, "defense": defense, "data": data, "engine": engine, "count": None, **more}
        row.update(accuracy=accuracy, success=trial < wins)
        if defense == "none":
            shares = (0.60, wins // 10), (0.75, wins // 4), (0.80, wins // 2), (accuracy, wins)
            row["checkpoints"] = [(10 * 2**n, level, trial < most) for n, (level, most) in enumerate(shares)]
        out.append(row)
    return out


def harmed(defense, attacked, alone, trials=10):
    """Rows of an indiscriminate attack: undefended victims lose half as much at checkpoint 1, of accuracy 0.80."""
    out = []
    for trial in range(trials):
        for data, level in (("poison", attacked), ("control", alone)):
            noise = 0.001 * (trial % 3)
            points = [(1, (0.80 if data == "control" else 0.80 - (alone - attacked) / 2) + noise, None)]
            row = {"trial": trial, "defense": defense, "data": data, "count": None, "engine": None}
            out.append({**row, "accuracy": level + noise, "checkpoints": [*points, (2, level + noise, None)]})
    return out


def rates(defense, data, rate, accuracy=0.84, trials=10):
    out = []
    for trial in range(trials):
        noise = 0.001 * (trial % 3)
        row = {"trial": trial, "defense": defense, "data": data, "accuracy": accuracy + noise, "success": rate + noise}
        row["checkpoints"] = [(1, 0.80 + noise, rate / 2), (2, accuracy + noise, rate + noise)]
        out.append(row)
    return out


UNDEFENDED, CONTROL = rows("none", "poison", 14), rows("none", "control", 0)


def said(*groups):
    return str(verdict.verdict(row for group in groups for row in group))


def test_a_defense_that_helps():
    assert said(UNDEFENDED, CONTROL, rows(CLIP, "poison", 0, 0.80)) == (
        f"{CLIP} lowered success from 14/20 to 0/20 and accuracy from 0.84 to 0.80. Undefended training stopped at the "
        f"same accuracy gives 7/20: the defense helps beyond that (p = 0.016). {NEXT_ADAPTIVE}"
    )


def test_a_defense_that_only_costs_accuracy():
    found = verdict.verdict(UNDEFENDED + CONTROL + rows(CLIP, "poison", 4, 0.80))
    assert found.sentences[-1] == (
        "Undefended training stopped at the same accuracy gives 7/20: "
        "no benefit beyond lower accuracy can be shown at 20 trials (p = 0.25)."
    )
    assert found.next_step.startswith("Next: run about ") and not found.findings[0].helps
    words = said(UNDEFENDED, CONTROL, rows(CLIP, "poison", 9, 0.80))
    assert "gives 7/20: the defense shows no benefit beyond lower accuracy. " in words
    assert words.endswith("Next: try settings that cost less accuracy.")


def test_an_interpolated_number_is_called_about():
    assert "gives about 4/20" in said(UNDEFENDED, CONTROL, rows(CLIP, "poison", 1, 0.765))


def test_a_defense_more_accurate_than_all_of_undefended_training():
    words = said(UNDEFENDED, rows("none", "control", 1), rows("knn", "poison", 1, 0.86))
    assert words == (
        "knn lowered success from 14/20 (1/20 without the attack) to 1/20 and raised accuracy from 0.84 to 0.86. "
        "Undefended training never reaches this accuracy; at its best, 0.84, success is 14/20: "
        "the defense helps beyond that (p < 0.001). Next: repeat with another seed."
    )
    words = said(UNDEFENDED, CONTROL, rows("knn", "poison", 12, 0.86))
    assert "success is 14/20: no benefit can be shown at 20 trials (p = 0.5)." in words


def test_the_stronger_attacker_counts():
    plain, weak, strong = rows(CLIP, "poison", 3, 0.8), rows(CLIP, "adaptive", 1, 0.8), rows(CLIP, "adaptive", 7, 0.8)
    words = said(UNDEFENDED, CONTROL, plain, strong)
    assert words.startswith(f"Against an attacker who adapts to it, {CLIP} lowered success from 14/20 to 7/20 and")
    assert f"{CLIP} lowered success from 14/20 to 3/20" in said(UNDEFENDED, CONTROL, plain, weak)
    assert not said(UNDEFENDED, CONTROL, rows(CLIP, "poison", 0, 0.8), weak).endswith(NEXT_ADAPTIVE)


def test_several_defenses_are_corrected_for_their_number():
    found = verdict.verdict(
        UNDEFENDED
        + CONTROL
        + rows(CLIP, "poison", 1, 0.80)
        + rows("clip(1)", "poison", 0, 0.80)
        + rows("knn", "poison", 0, 0.84)
        + rows("trim", "poison", 9, 0.80)
        + rows("krum", "poison", 0, 0.30)
    )
    p_value = {one.defense: (one.comparison.p_value, one.p_value) for one in found.findings}
    assert p_value["clip(1)"] == (pytest.approx(1 / 64), pytest.approx(3 / 64))
    assert p_value[CLIP] == (pytest.approx(1 / 32, abs=0.003), pytest.approx(2 / 32, abs=0.006))
    assert math.isnan(p_value["krum"][1])
    assert found.sentences == (
        "Success on undefended training is 14/20, at accuracy 0.84.",
        "Beyond lower accuracy these defenses help: clip(1) (0/20 against 7/20 at equal accuracy, p = 0.047) and knn "
        "(0/20 against 14/20 at equal accuracy, p < 0.001); p-values are corrected for 4 defenses.",
        f"At 20 trials, no benefit beyond lower accuracy can be shown for {CLIP} (1/20 against 7/20 at equal accuracy, "
        "p = 0.062) and trim (9/20 against 7/20 at equal accuracy).",
        "Nothing can be compared at equal accuracy for krum.",
    )
    assert found.next_step == NEXT_ADAPTIVE


def test_long_lists_are_shortened():
    many = [rows(f"knn({k})", "poison", 0, 0.84) for k in range(1, 8)]
    assert "knn(4) (0/20 against 14/20 at equal accuracy, p < 0.001) and 3 more;" in said(UNDEFENDED, CONTROL, *many)


@pytest.mark.parametrize(("wins", "chance"), [(1, 1), (3, 0), (14, 12), (2, 9)])
def test_an_attack_that_does_not_work_credits_nobody(wins, chance):
    words = said(rows("none", "poison", wins), rows("none", "control", chance), rows(CLIP, "poison", 0, 0.8))
    assert words == (
        "The attack cannot be shown to work on undefended training at 20 trials: "
        f"success is {wins}/20 with it and {chance}/20 without it. {STRONGER}"
    )


def test_without_controls():
    words = said(UNDEFENDED, rows("knn", "poison", 0, 0.84))
    assert "helps beyond" in words and words.endswith(verdict._CONTROLS)
    words = said(rows("none", "poison", 0), rows("knn", "poison", 0))
    assert words == f"The attack never succeeds on undefended training (0/20). {STRONGER}"


def test_without_checkpoints_or_results():
    bare = [{name: value for name, value in row.items() if name != "checkpoints"} for row in UNDEFENDED]
    assert said(bare, CONTROL, rows(CLIP, "poison", 2, 0.84)) == (
        f"{CLIP} lowered success from 14/20 to 2/20 and left accuracy at 0.84. Without checkpoints of undefended "
        "training, nothing shows whether lower accuracy explains that. "
        "Next: run again with checkpoints of undefended training."
    )
    assert said([]) == "There are no results of undefended training yet. Next: finish the run."
    assert said(UNDEFENDED, CONTROL).endswith("is 14/20, at accuracy 0.84. Next: add a defense.")
    words = said(UNDEFENDED, CONTROL, rows(CLIP, "poison", 16, 0.5))
    assert f"{CLIP} raised success from 14/20 to 16/20 and lowered accuracy from 0.84 to 0.50. Undefended" in words
    assert "is more accurate than 0.50 from its first checkpoint on: nothing can be compared" in words


def test_one_trial_shows_nothing():
    groups = rows("none", "poison", 1, trials=1), rows("none", "control", 0, trials=1)
    assert "cannot be shown to work on undefended training at 1 trial:" in said(*groups)
    words = said(groups[0], rows(CLIP, "poison", 0, 0.82, trials=1))
    assert "no benefit beyond lower accuracy can be shown at 1 trial. Next:" in words


def test_rates_of_backdoors():
    base = rates("none", "poison", 0.9), rates("none", "control", 0.02)
    words = said(*base, rates("knn", "poison", 0.1, 0.80))
    assert words.startswith("knn lowered success from 0.901 (0.021 without the attack) to 0.101 and accuracy from 0.84")
    assert "gives 0.450: the defense helps beyond that (p = 0.002)." in words
    few = [row for group in (*base, rates("knn", "poison", 0.1, 0.8)) for row in group if row["trial"] < 3]
    assert "can be shown at 3 trials (p = 0.25). Next: run about 10 trials" in said(few)


def test_indiscriminate_attacks_are_matched_by_accuracy_without_them():
    base = harmed("none", 0.72, 0.84)
    helps = said(base, harmed("knn", 0.79, 0.80))
    assert helps == (
        "knn has accuracy 0.791 under attack and 0.801 without it; undefended training has 0.721 and 0.841. "
        "The attack takes 0.010 from it, and 0.060 from undefended training stopped at the same accuracy without "
        "attack: the defense helps beyond that (p = 0.002). Next: repeat with another seed."
    )
    still = said(harmed("none", 0.79, 0.84), harmed("trim", 0.785, 0.80))
    assert "helps beyond that (p = 0.002). But undefended training is at least as accurate under attack. Next" in still
    assert "the defense shows no benefit beyond lower accuracy." in said(base, harmed("knn", 0.70, 0.80))
    several = said(base, harmed("knn", 0.79, 0.80), harmed("trim", 0.70, 0.80))
    assert several.startswith("The attack takes 0.120 from undefended training, which has accuracy 0.84 without it.")
    assert "knn (0.010 against 0.060 at equal accuracy, p = 0.0039)" in several
    harmless = said(harmed("none", 0.84, 0.84), harmed("knn", 0.84, 0.84))
    assert "at 10 trials: accuracy is 0.841 with it and 0.841 without it." in harmless
    alone = said([row for row in base if row["data"] == "poison"])
    assert alone.startswith("Undefended training has accuracy 0.72 under attack. Without controls,")


def test_of_several_numbers_of_poisons_the_largest_counts():
    few = rows("none", "poison", 3, count=5) + rows(CLIP, "poison", 0, 0.8, count=5)
    most = rows("none", "poison", 14, count=50) + rows(CLIP, "poison", 0, 0.8, count=50)
    assert said(few, most).startswith(f"With 50 poisons: {CLIP} lowered success from 14/20 to 0/20")


def test_the_number_of_trials_that_would_show_a_difference():
    seen = Comparison("on", 20, beyond=-0.2, low=-0.5, high=0.1)
    # the standard error is 0.153 at 20 trials, and has to be 0.2 / 2.8 = 0.071
    assert verdict.trials_needed(seen) == 95
    assert verdict.trials_needed(seen, comparisons=4) > 95
    assert verdict.trials_needed(Comparison("on", 3, beyond=-0.5, low=-0.6, high=-0.4)) == 10
    assert verdict.trials_needed(Comparison("on", 20, beyond=0.1, low=-0.1, high=0.3)) is None
    assert verdict.trials_needed(Comparison("below", 20)) is None
