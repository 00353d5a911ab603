"""What the rows of an experiment show, in one to three plain sentences, and what to run next."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from scipy import stats

from tfshape.evaluation import frontier, statistics

LEVEL = 0.05  # of all tests
POWER = 0.8  # of the number of trials that is recommended
_MOST = 4  # defenses that a sentence lists

Row = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Finding:
    """One defense of the table.

    Attributes:
        defense: its name.
        adaptive: whether the attacker who succeeds more often is the one who adapts to the defense.
        shaped: whether it is a shaping, which attackers can adapt to.
        comparison: with undefended training stopped at the same accuracy, under the stronger attacker.
        p_value: of the comparison, corrected for the number of defenses in the table (Holm); nan without a comparison.
    """

    defense: str
    adaptive: bool
    shaped: bool
    comparison: frontier.Comparison
    p_value: float = math.nan

    @property
    def helps(self) -> bool:
        """Whether success is lower than lower accuracy explains."""
        return self.comparison.beyond < 0 and self.p_value < LEVEL


@dataclasses.dataclass(frozen=True)
class Verdict:
    """Sentences about an experiment. `str(verdict)` is all of them.

    Attributes:
        sentences: what the rows show, the answer about the defense last.
        next_step: one sentence: what to run next.
        findings: a `Finding` for each defense.
    """

    sentences: tuple[str, ...]
    next_step: str
    findings: tuple[Finding, ...] = ()

    def __str__(self) -> str:
        return " ".join((*self.sentences, self.next_step))


def verdict(rows: Iterable[Row]) -> Verdict:
    """Says whether the defenses of an experiment help beyond their lower accuracy.

    A defense is credited only if the attack works on undefended training, and if success is lower than that of
    undefended training stopped at the same accuracy (two-sided p < 0.05, by Holm's correction for the number of
    defenses). An attack works if it succeeds more often than in the controls: by the one-sided exact McNemar test at
    0.05 where success is true or false, else by the 95% Student interval. If the attacker adapted to a defense, the
    stronger of both attackers counts. Of several numbers of poisons, the largest counts.

    Args:
        rows: of trained victims: mappings with trial, defense ("none" if undefended), data ("poison", "adaptive" or
            "control"), accuracy, success (left out by indiscriminate attacks), checkpoints (as `frontier.compare` takes
            them), engine (None unless shaped) and count.

    Returns:
        A `Verdict`.
    """
    rows = list(rows)
    largest = max((row["count"] for row in rows if row.get("count") is not None), default=None)
    several = len({row.get("count") for row in rows}) > 1
    rows = [row for row in rows if row.get("count") == largest]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["defense"], row["data"]), []).append(row)
    plain, clean = groups.get(("none", "poison"), []), groups.get(("none", "control"), [])
    targeted = any("success" in row for row in rows)
    if not plain:
        return Verdict(("There are no results of undefended training yet.",), "Next: finish the run.")
    if not (targeted or clean):
        words = f"Undefended training has accuracy {_mean(plain, 'accuracy'):.2f} under attack."
        return Verdict((words, "Without controls, nothing shows how much the attack took."), _CONTROLS)
    base = plain if targeted else frontier.harm(plain, clean)
    failed = _failed(base, clean, targeted)
    if failed:
        return Verdict((failed,), _STRONGER)
    findings = _findings(groups, base, targeted)
    if len(findings) == 1:
        sentences = _one(findings[0], base, clean, groups, targeted)
    else:
        sentences = _many(findings, base, clean, targeted)
    if several:
        sentences[0] = f"With {largest} poisons: {sentences[0]}"
    return Verdict(tuple(sentences), _next(findings, bool(clean), groups), tuple(findings))


_CONTROLS = "Next: run with controls, which train the same victims without the attack."
_STRONGER = (
    "Next: use a stronger attack (more poisons, or a larger eps) or more trials; "
    "a defense can only be judged against an attack that works."
)


def _findings(groups, base, targeted):
    """A `Finding` for each defense, against the attacker who succeeds more often."""
    found = []
    for defense in dict.fromkeys(name for name, _ in groups if name != "none"):
        best = None
        for data in ("adaptive", "poison"):
            rows = groups.get((defense, data), [])
            if not targeted:
                rows = frontier.harm(rows, groups.get((defense, "control"), []))
            if rows and (best is None or _mean(rows, "success") > _mean(best[1], "success")):
                best = data, rows
        if best is not None:
            shaped = any(row.get("engine") is not None for row in groups[defense, best[0]])
            found.append((Finding(defense, best[0] == "adaptive", shaped, frontier.compare(best[1], base)), best[1]))
    corrected = statistics.holm([one.comparison.p_value for one, _ in found])
    out = []
    for (one, rows), p in zip(found, corrected):
        comparison = one.comparison
        if comparison.where == "no checkpoints":  # success and accuracy are known all the same
            known = {name: _mean(rows, name) for name in ("accuracy", "success")}
            comparison = dataclasses.replace(comparison, trials=len(rows), counted=_counted(rows), **known)
        out.append(dataclasses.replace(one, comparison=comparison, p_value=p))
    return out


def _failed(base, clean, targeted):
    """The sentence about an attack that undefended training withstands; "" if the attack works."""
    wins = {row["trial"]: row["success"] for row in base}
    by_chance = {row["trial"]: row["success"] if targeted else 0.0 for row in clean}
    shared = [trial for trial in wins if trial in by_chance]
    if not shared:
        never = not any(wins.values())
        return f"The attack never succeeds on undefended training ({_rate(base)})." if never else ""
    differences = [float(wins[trial]) - float(by_chance[trial]) for trial in shared]
    if _counted(base):
        works = np.mean(differences) > 0 and statistics.sign_flip(differences) / 2 < LEVEL
    else:
        works = statistics.mean_interval(differences)[0] > 0
    if works:
        return ""
    if targeted:
        numbers = f"success is {_rate(base)} with it and {_rate(clean)} without it"
    else:
        attacked, alone = (np.mean([row["accuracy"] - row["success"] for row in base]), _mean(base, "accuracy"))
        numbers = f"accuracy is {attacked:.3f} with it and {alone:.3f} without it"
    return f"The attack cannot be shown to work on undefended training at {_trials(len(shared))}: {numbers}."


def _one(finding, base, clean, groups, targeted):
    """The sentences about the only defense of a table."""
    found, name = finding.comparison, finding.defense
    answer = _answer(finding, _mean(base, "accuracy"), targeted)
    before = "Against an attacker who adapts to it, " if finding.adaptive else ""
    if targeted:
        start = f"{_rate(base)}{_by_chance(clean)}"
        success = _change("success", _mean(base, "success"), found.success, start, _shown(found, found.success))
        accuracies = _mean(base, "accuracy"), found.accuracy
        accuracy = _change("accuracy", *(round(value, 2) for value in accuracies), *map("{:.2f}".format, accuracies))
        both = f"{success[0]} {success[1]} and {accuracy[1] if accuracy[0] == success[0] else ' '.join(accuracy)}"
        sentences = [f"{before}{name} {both}.", answer]
    else:
        data = "adaptive" if finding.adaptive else "poison"
        ours, theirs = _mean(groups[name, data], "accuracy"), _mean(groups["none", "poison"], "accuracy")
        words = f"{before}{name} has accuracy {ours:.3f} under attack and {found.accuracy:.3f} without it; "
        words += f"undefended training has {theirs:.3f} and {_mean(base, 'accuracy'):.3f}."
        sentences = [words, answer]
        if finding.helps and ours <= theirs:
            sentences.append("But undefended training is at least as accurate under attack.")
    return sentences


def _answer(finding, accuracy, targeted):
    """Whether a defense helps. accuracy: of undefended training to its end."""
    found = finding.comparison
    if found.where == "no checkpoints":
        return "Without checkpoints of undefended training, nothing shows whether lower accuracy explains that."
    if found.where == "below":
        return (
            f"Undefended training is more accurate than {found.accuracy:.2f} from its first checkpoint on: "
            "nothing can be compared at equal accuracy."
        )
    theirs, best = _shown(found, found.undefended), f"{found.undefended_accuracy:.2f}"
    if not targeted:
        start = f"The attack takes {found.success:.3f} from it, and {theirs} from undefended training "
        start += (
            f"at its best, which is {best}" if found.where == "above" else "stopped at the same accuracy without attack"
        )
    elif found.where == "above":
        start = f"Undefended training never reaches this accuracy; at its best, {best}, success is {theirs}"
    else:
        start = f"Undefended training stopped at the same accuracy gives {theirs}"
    if finding.helps:
        return f"{start}: the defense helps beyond that ({_p(finding.p_value)})."
    price = " beyond lower accuracy" if found.accuracy < accuracy else ""
    if found.beyond >= 0:
        return f"{start}: the defense shows no benefit{price}."
    known = "" if math.isnan(finding.p_value) else f" ({_p(finding.p_value)})"
    return f"{start}: no benefit{price} can be shown at {_trials(found.trials)}{known}."


def _many(findings, base, clean, targeted):
    """The sentences about a table with no or several defenses."""
    accuracy = f"accuracy {_mean(base, 'accuracy'):.2f}"
    if targeted:
        sentences = [f"Success on undefended training is {_rate(base)}{_by_chance(clean)}, at {accuracy}."]
    else:
        sentences = [f"The attack takes {_rate(base)} from undefended training, which has {accuracy} without it."]
    known = [one for one in findings if not math.isnan(one.comparison.beyond)]
    helps, rest = ([one for one in known if one.helps is wanted] for wanted in (True, False))
    note = f"; p-values are corrected for {len(known)} defenses" if len(known) > 1 else ""
    if helps:
        sentences.append(f"Beyond lower accuracy these defenses help: {_listed(helps)}{note}.")
        note = ""
    if rest:
        trials = _trials(min(one.comparison.trials for one in rest))
        words = "no benefit beyond lower accuracy can be shown"
        sentences.append(f"At {trials}, {words} for {_listed(rest)}{note}.")
    if len(known) < len(findings):
        names = [one.defense for one in findings if one not in known]
        sentences.append(f"Nothing can be compared at equal accuracy for {_joined(names)}.")
    return sentences


def _listed(findings):
    def words(one):
        found, attacker = one.comparison, ", adaptive attacker" if one.adaptive else ""
        p = f", {_p(one.p_value)}" if found.beyond < 0 and not math.isnan(one.p_value) else ""
        against = _shown(found, found.undefended)
        return f"{one.defense} ({_shown(found, found.success)} against {against} at equal accuracy{p}{attacker})"

    return _joined([words(one) for one in findings])


def _next(findings, controls, groups):
    """One sentence: what to run next."""
    if not findings:
        return "Next: add a defense."
    if any(one.comparison.where == "no checkpoints" for one in findings):
        return "Next: run again with checkpoints of undefended training."
    if not controls:
        return _CONTROLS
    if any(one.helps and one.shaped and (one.defense, "adaptive") not in groups for one in findings):
        return "Next: run with adaptive=True; an attacker who knows the defense may succeed more often."
    needs = [need for one in findings if not one.helps and (need := trials_needed(one.comparison, len(findings)))]
    if needs:
        least = f"about {min(needs):,}" if min(needs) <= 1000 else "more than 1,000"
        return f"Next: run {least} trials, which would show a difference of the observed size in 4 of 5 experiments."
    if all(one.helps for one in findings):
        return "Next: repeat with another seed."
    return "Next: try settings that cost less accuracy."


def trials_needed(comparison: frontier.Comparison, comparisons: int = 1) -> int | None:
    """The number of trials at which a difference of the observed size would be shown with probability 0.8.

    The interval is taken to shrink with the root of the number of trials.

    Args:
        comparison: of a defense.
        comparisons: the number of defenses in the table, which p-values are corrected for.

    Returns:
        A multiple of 5, larger than the number of trials so far; None if no success less was observed or no interval
        is known.
    """
    half = comparison.high - comparison.beyond
    if not (comparison.beyond < 0 and half > 0):  # nan included
        return None
    z = stats.norm.isf(LEVEL / 2 / comparisons) + stats.norm.ppf(POWER)
    needed = comparison.trials * (z * half / stats.norm.isf(0.025) / comparison.beyond) ** 2
    least = 1 + math.log2(comparisons / LEVEL)  # with fewer, no exact test has a p-value that small
    return 5 * math.ceil(max(needed, least, comparison.trials + 1) / 5)


def _mean(rows, name):
    return float(np.mean([row[name] for row in rows]))


def _rate(rows):
    wins = [row["success"] for row in rows]
    return f"{sum(wins)}/{len(wins)}" if _counted(rows) else f"{np.mean(wins):.3f}"


def _counted(rows):
    return all(isinstance(row["success"], (bool, np.bool_)) for row in rows)


def _by_chance(clean):
    """The share of controls that give the attacker's class, in parentheses; "" if none do."""
    wins = [row for row in clean if "success" in row]
    return f" ({_rate(wins)} without the attack)" if wins and any(row["success"] for row in wins) else ""


def _shown(comparison, success):
    """A mean success of as many trials as a comparison has."""
    if not comparison.counted:
        return f"{success:.3f}"
    wins = success * comparison.trials
    about = "" if abs(wins - round(wins)) < 1e-6 else "about "
    return f"{about}{round(wins)}/{comparison.trials}"


def _change(name, before, after, start, end):
    """-> a verb and its object."""
    if before == after:
        return "left", f"{name} at {start}"
    return "lowered" if after < before else "raised", f"{name} from {start} to {end}"


def _joined(words):
    if len(words) > _MOST:
        words = [*words[:_MOST], f"{len(words) - _MOST} more"]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _trials(number):
    return f"{number} trial{'' if number == 1 else 's'}"


def _p(value):
    return "p < 0.001" if value < 0.001 else f"p = {value:.2g}"
