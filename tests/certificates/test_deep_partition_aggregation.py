"""Deep partition aggregation: the vote, and its certificate checked against every change it speaks of."""

import itertools

import numpy as np
import pytest

import tfshape as ts
from tfshape.certificates import deep_partition_aggregation as dpa

RECIPE = ts.training.Recipe("adam", 0.02, batch_size=32, epochs=5)


def build():
    return ts.models.build("lr", (64,), 4, seed=3)


def examples(count=240):
    data = ts.datasets.load("digits", classes=[0, 1, 8, 3])
    x = data.train.x.reshape(-1, 64)
    return x[:count], data.train.y[:count], data.test.x.reshape(-1, 64), data.test.y


@pytest.mark.parametrize("models", [1, 2, 5, 6])
def test_withstood_is_what_brute_force_over_all_changed_votes_finds(models):
    for votes in itertools.product(range(3), repeat=models):
        table = np.bincount(votes, minlength=3)[None]
        for label in range(3):
            stands = -1
            for changed in range(models + 1):
                wrong = any(
                    np.bincount([*new, *(v for k, v in enumerate(votes) if k not in which)], minlength=3).argmax()
                    != label
                    for which in itertools.combinations(range(models), changed)
                    for new in itertools.product(range(3), repeat=changed)
                )
                if wrong:
                    break
                stands = changed
            found = int(dpa.withstood(table, np.array([label]))[0])
            # Where no change of any votes can turn it there is nothing left to change.
            assert found == stands


def test_an_example_more_fewer_or_relabelled_changes_one_part_and_a_replaced_one_two(rng):
    x, *_ = examples()
    parts = dpa.partition(x, 10)
    assert parts.min() >= 0 and parts.max() <= 9 and len(set(parts)) == 10
    order = rng.permutation(len(x))
    np.testing.assert_array_equal(dpa.partition(x[order], 10), parts[order])
    np.testing.assert_array_equal(dpa.partition(np.delete(x, 7, axis=0), 10), np.delete(parts, 7))
    changed = x.copy()
    changed[7, 0] += 0.25
    others = np.arange(len(x)) != 7
    np.testing.assert_array_equal(dpa.partition(changed, 10)[others], parts[others])


def test_the_classifier_does_not_depend_on_the_order_of_the_examples(rng):
    x, y, x_test, _ = examples()
    order = rng.permutation(len(x))
    defense = dpa.DeepPartitionAggregation(partitions=2)
    first = defense.train(build, x, y, 4, RECIPE, 1)
    again = defense.train(build, x[order], y[order], 4, RECIPE, 1)
    np.testing.assert_array_equal(first.predict(x_test), again.predict(x_test))


@pytest.mark.slow
def test_no_change_within_the_certificate_turns_a_prediction(rng):
    x, y, x_test, y_test = examples()
    defense = dpa.DeepPartitionAggregation(partitions=7)
    clean = defense.train(build, x, y, 4, RECIPE, 1)
    votes, certificate = clean.predict(x_test), clean.certificate(x_test, y_test)
    assert clean.kept is None and (votes.sum(axis=1) == 7).all()
    right = votes.argmax(axis=1) == y_test
    assert right.mean() > 0.7
    np.testing.assert_array_equal(certificate == -1, ~right)
    assert certificate.max() == 3 and len(set(certificate)) >= 3
    parts = dpa.partition(x, 7)
    for number in range(3):
        # All parts are poisoned at most here, one example each: as many changes as parts touched.
        touched = rng.choice(7, number + 1, replace=False)
        labels = y.copy()
        for part in touched:
            labels[rng.choice(np.flatnonzero(parts == part))] += 1
        poisoned = defense.train(build, x, labels % 4, 4, RECIPE, 1).predict(x_test)
        moved = np.abs(poisoned - votes).sum(axis=1) / 2
        assert (moved <= number + 1).all()
        safe = certificate >= number + 1
        assert (poisoned.argmax(axis=1) == y_test)[safe].all()


def test_whole_parts_may_be_rewritten_within_the_certificate():
    x, y, x_test, y_test = examples()
    defense = dpa.DeepPartitionAggregation(partitions=5)
    clean = defense.train(build, x, y, 4, RECIPE, 1)
    certificate, parts = clean.certificate(x_test, y_test), dpa.partition(x, 5)
    broken = np.zeros(len(y_test), bool)
    for touched in ((0, 1), (1, 2), (2, 3), (3, 4)):
        labels = np.where(np.isin(parts, touched), (y + 1) % 4, y)
        poisoned = defense.train(build, x, labels, 4, RECIPE, 1).predict(x_test)
        wrong = poisoned.argmax(axis=1) != y_test
        assert not wrong[certificate >= 2].any()
        broken |= wrong
    assert broken[certificate < 2].mean() > 0.5  # the certificate is not idle: beyond it, the attack works


def test_parts_may_be_empty_or_smaller_than_a_batch():
    x, y, x_test, _ = examples(12)
    trained = dpa.DeepPartitionAggregation(partitions=30).train(build, x, y, 4, RECIPE, 1)
    assert (trained.predict(x_test).sum(axis=1) == 30).all()
