"""Numbers of groups of runs: intervals over seeds, what is marked as best, what a score cost, equal terms."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limner.compare.contenders import Contender, Group
from limner.compare.cost import choose_goal, cost_of, reached, seconds_at
from limner.compare.scores import Column, Estimate, columns, t_quantile
from limner.compare.terms import TERMS, check_ignored, check_terms
from limner.errors import LimnerError
from limner.metrics.card import Card
from limner.models.dcgan import DCGAN, DCGANConfig
from limner.training.log import standing
from limner.training.record import RunRecord
from test_card import card as make_card

FACTS: dict[str, Any] = {
    "config": {"model_name": "dcgan", "seed": 0, "kimg": 4.0, "batch_size": 8, "model": {"width": 4}},
    "resolution": 16,
    "labels": {"names": ["bright"], "count": 1, "rows": "gA=="},
    "dataset": {"name": "tiny", "manifest_sha256": "a" * 64, "count": 64, "crop": "none"},
}


def contender(name: str, *cards: Card, events: list[dict[str, Any]] | None = None, **facts: Any) -> Contender:
    record = RunRecord(Path(name), FACTS["config"], standing(events or []), events or [], list(cards))
    return Contender(record, {**FACTS, **facts}, facts.get("images_seen", 4000))


def group(name: str, *runs: Contender, codes: tuple[str, ...] = ()) -> Group:
    model = DCGAN(DCGANConfig(latent_dim=2, width=2), 16)
    model.code_parts = codes  # type: ignore[assignment]
    return Group(name, runs, model)


def scored(name: str, *values: float, metric: str = "swd", **fields: Any) -> Group:
    """A group with a seed a value."""
    fields = {"metric": metric, "images_seen": 4000, "extractor": None, "values": {}, **fields}
    return group(name, *(contender(f"{name}-{n}", make_card(value=v, **fields)) for n, v in enumerate(values)))


# --- intervals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("freedom", [1, 2, 3, 5, 9, 20, 21, 30, 100])
def test_t_quantiles_hold_95_percent(freedom: int) -> None:
    """The density of Student's t, integrated: a substitution to the sine makes the tails finite."""
    angle = np.linspace(0, math.atan(t_quantile(freedom) / math.sqrt(freedom)), 20001)
    height = np.cos(angle) ** (freedom - 1)
    constant = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
    assert 2 * constant * np.trapezoid(height, angle) == pytest.approx(0.95, abs=2e-5)


def test_an_interval_is_students_and_one_seed_has_none() -> None:
    estimate = Estimate.of([1.0, 2.0, 3.0])
    assert (estimate.mean, estimate.values) == (2.0, (1.0, 2.0, 3.0))
    assert estimate.half_width == pytest.approx(4.3027 / math.sqrt(3), rel=1e-5)
    assert Estimate.of([7.0]) == Estimate(7.0, None, (7.0,))


def best(*groups: Group) -> str | None:
    (column,), _ = columns(groups, ())
    found = column.best(groups)
    return found.name if found else None


def test_only_what_is_better_by_more_than_both_intervals_is_best() -> None:
    sure, other = scored("sure", 1.0, 1.1, 1.2), scored("other", 3.0, 3.1, 3.2)  # each ± 0.248
    assert best(sure, other) == "sure"
    assert best(other, sure) == "sure"
    assert best(sure, scored("near", 1.49, 1.59, 1.69)) is None, "0.49 apart, and 0.248 + 0.248 wide"
    assert best(sure, scored("near", 1.51, 1.61, 1.71)) == "sure"
    assert best(sure, other, scored("wide", 1.0, 9.0, 20.0)) is None
    assert best(sure, scored("once", 9.0)) is None, "of one seed no interval is known"
    higher = {"metric": "recall"}
    assert best(scored("low", 0.1, 0.11, **higher), scored("high", 0.8, 0.81, **higher)) == "high"
    like = {"metric": "ms_ssim", "values": {"reals": 0.3}}
    assert best(scored("near", 0.31, 0.29, 0.3, **like), scored("far", 0.1, 0.11, 0.1, **like)) == "near"


def test_the_count_that_most_runs_share_is_shown_and_of_those_the_largest() -> None:
    a, b = scored("a", 1.0), scored("b", 2.0)
    for one in (a, b):
        one.runs[0].record.cards.append(replace(one.runs[0].cards[0], count_fakes=5000, value=9.0))
    a.runs[0].record.cards.append(replace(a.runs[0].cards[0], count_fakes=9000, value=99.0))
    (column,), notes = columns([a, b], ())
    assert (column.title, notes) == ("swd_5k", [])
    assert column.estimate(a) == Estimate.of([9.0])


def test_cards_of_older_weights_and_cards_that_are_unlike_are_left_out() -> None:
    a, b, c = scored("a", 1.0), scored("b", 2.0), scored("c", 3.0, quantisation="floor")
    a.runs[0].record.cards.insert(0, make_card(value=50.0, images_seen=3000, extractor=None, values={}))
    (column,), (note,) = columns([a, b, c], ())
    assert column.estimate(a) == Estimate.of([1.0])
    assert column.estimate(c) is None
    assert all(word in note for word in ("c-0 beside a-0", "quantisation", "'floor'"))
    (column,), notes = columns([a, b, c], ("quantisation",))
    assert (column.estimate(c), notes) == (Estimate.of([3.0]), [])
    with pytest.raises(LimnerError, match="quantisation"):
        columns([a, c], ())
    with pytest.raises(LimnerError, match="no number in common"):
        columns([a, group("empty", contender("empty"))], ())


def test_cards_of_a_model_with_codes_need_not_name_attributes() -> None:
    told = scored("told", 1.0, attributes="rows of the reals: bright")
    own = group("own", contender("own-0", replace(told.runs[0].cards[0], attributes=None)), codes=("codes",))
    (column,), notes = columns([told, own], ())
    assert (len(column.cards), notes) == (2, [])
    with pytest.raises(LimnerError, match="attributes"):
        columns([told, replace(own, model=told.model)], ())


# --- terms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "facts"),
    [
        ("dataset_sha256", {"dataset": {**FACTS["dataset"], "manifest_sha256": "b" * 64}}),
        ("resolution", {"resolution": 32}),
        ("crop", {"dataset": {**FACTS["dataset"], "crop": "celeba-128"}}),
        ("images_seen", {"images_seen": 5000}),
        ("attributes", {"labels": {"names": ["warm"], "count": 1, "rows": "gA=="}}),
    ],
)
def test_unequal_terms_are_refused_by_run_field_and_both_values(field: str, facts: dict[str, Any]) -> None:
    groups = [group("a", contender("a-0"), contender("a-1")), group("b", contender("b-0", **facts))]
    with pytest.raises(LimnerError) as caught:
        check_terms(groups, ())
    said = str(caught.value)
    assert said.startswith(f"b-0: {field} is ")
    assert f"--ignore {field}" in said
    assert "a-0 has" in said
    assert "\n" not in said
    (sentence,) = check_terms(groups, (field,))
    assert sentence.endswith(".")
    assert check_terms(groups[:1], ()) == []
    assert field in TERMS


def test_the_end_of_an_iteration_beyond_what_was_asked_for_is_no_difference() -> None:
    def alike(*seen: int) -> bool:
        return not check_terms([group(f"{n}", contender(f"{n}", images_seen=n)) for n in seen], ("images_seen",))

    assert alike(4000, 4007), "4 kimg were asked for, in batches of 8"
    assert not alike(4000, 4008)
    assert not alike(4000, 3999)
    assert not alike(3992, 3999)


def test_a_model_with_codes_stands_beside_models_that_are_told_attributes() -> None:
    labels = {"names": [], "count": 0, "rows": ""}
    told = group("told", contender("told-0"))
    assert check_terms([group("own", contender("own-0", labels=labels), codes=("codes",)), told], ()) == []
    with pytest.raises(LimnerError, match=r"plain-0: attributes is none, but told-0 has 1 names \(bright"):
        check_terms([told, group("plain", contender("plain-0", labels=labels))], ())


def test_ignore_takes_fields_only() -> None:
    check_ignored(("code_version", "images_seen"))
    with pytest.raises(LimnerError, match="sed: no such field"):
        check_ignored(("sed",))


# --- cost -------------------------------------------------------------------------------------------------------------


def tick(images: int, seconds: float, memory: float = 100.0) -> dict[str, Any]:
    return {"event": "tick", "images": images, "seconds": seconds, "memory_mb": memory}


def metric(images: int, value: float, name: str = "swd_1024") -> dict[str, Any]:
    return {"event": "metric", "images": images, "name": name, "value": value}


def timed(name: str, *scores: tuple[int, float], pace: float = 0.01) -> Contender:
    events = [{"event": "start", "images": 0}, *(tick(seen, seen * pace) for seen in range(1000, 4001, 1000))]
    return contender(name, events=[*events, *(metric(*score) for score in scores)])


def test_seconds_lie_between_two_ticks() -> None:
    record = contender("a", events=[tick(1000, 10.0), tick(2000, 30.0, 250.0), tick(3000, 40.0)]).record
    assert [seconds_at(record, seen) for seen in (0, 500, 1000, 1500, 3000, 3010)] == [0, 5, 10, 20, 40, 40]
    assert seconds_at(contender("b").record, 100) is None
    cost = cost_of(record)
    assert (cost.seconds, cost.images_per_second, cost.memory_mb) == (40.0, 75.0, 250.0)


def test_by_default_the_goal_is_the_best_that_every_run_reached() -> None:
    a = group("a", timed("a-0", (1000, 50.0), (2000, 20.04), (3000, 30.0)), timed("a-1", (1000, 90.0), (3000, 10.0)))
    b = group("b", timed("b-0", (1000, 60.0), (2000, 12.0), (4000, 25.0), pace=0.02))
    goal = choose_goal([a, b], None)
    assert goal is not None
    assert str(goal) == "swd_1024 ≤ 20.1", "the worst of 20.04, 10 and 12, to three digits towards the easier side"
    found = reached(a, goal)
    assert found.images is not None
    assert found.seconds is not None
    assert (found.images.values, found.seconds.values, found.runs) == ((2000, 3000), (20.0, 30.0), 2)
    (seconds,) = reached(b, goal).seconds.values  # type: ignore[union-attr]
    assert seconds == 40.0, "when it was first reached, though lost again later"


def test_a_goal_can_be_asked_for_and_not_all_need_to_reach_it() -> None:
    a = group("a", timed("a-0", (1000, 50.0), (2000, 20.0)), timed("a-1", (1000, 90.0), (3000, 10.0)))
    goal = choose_goal([a], "swd=15")
    assert goal is not None
    found = reached(a, goal)
    assert (found.images, found.runs) == (Estimate.of([3000.0]), 1)
    nobody = choose_goal([a], "swd_1024=1.5")
    assert nobody is not None
    assert reached(a, nobody).images is None
    for asked, says in (("swd", "NAME=VALUE"), ("swd=x", "NAME=VALUE"), ("swd=nan", "NAME=VALUE"), ("fid=9", "fid")):
        with pytest.raises(LimnerError, match=says):
            choose_goal([a], asked)


def test_higher_is_better_for_some_and_what_was_rolled_back_does_not_count() -> None:
    events = [metric(1000, 0.9, "recall_1024"), {"event": "rollback", "images": 500}, metric(1000, 0.2, "recall_1024")]
    a = group("a", contender("a-0", events=[*events, metric(2000, 0.4567, "recall_1024")]))
    goal = choose_goal([a], None)
    assert goal is not None
    assert str(goal) == "recall_1024 ≥ 0.456"
    assert reached(a, goal).images == Estimate.of([2000.0])


def test_numbers_of_no_direction_or_one_moment_make_no_goal() -> None:
    events = [metric(1000, 0.3, "ms_ssim_1024"), metric(2000, 0.3, "ms_ssim_1024"), metric(2000, 9.0)]
    assert choose_goal([group("a", contender("a-0", events=events))], None) is None


def test_a_column_knows_nothing_of_runs_without_a_card() -> None:
    a = scored("a", 1.0, 2.0)
    assert Column("swd", "swd_2k", {"a-1": a.runs[1].cards[0]}).estimate(a) == Estimate.of([2.0])
    assert Column("swd", "swd_2k", {}).estimate(a) is None
