import json
import math

import pytest
import torch
from torch import nn

from delira_nca.errors import ConfigError, ShapeError
from delira_nca.evaluation import persistence, regeneration, robustness_report, standard_holes
from delira_nca.models import BasicNCAModel, Perception, presets
from delira_nca.models.conditioning import GoalEmbedding

SIDE = 8


class Pull(nn.Module):
    """Pulls every cell a share of the way to 1."""

    def __init__(self, share):
        super().__init__()
        self.share = share

    def forward(self, x):
        return self.share * (1 - x)


class Drift(nn.Module):
    """Adds the same in every step."""

    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x):
        return torch.full_like(x, self.by)


def grower(rule):
    parts = {"num_image_channels": 1, "num_hidden_channels": 1, "immutable_image_channels": False, "fire_rate": 1.0}
    return BasicNCAModel(**parts, perception=Perception("identity"), rule=rule)


@pytest.fixture
def random_model(randomise):
    parts = {"num_image_channels": 1, "num_hidden_channels": 3, "immutable_image_channels": False, "hidden_size": 8}
    return randomise(BasicNCAModel(**parts), 0.1)


@pytest.fixture
def target():
    return torch.ones(1, SIDE, SIDE)


@pytest.fixture
def zeros():
    return torch.zeros(2, SIDE, SIDE)


def test_persistence_is_known_for_a_pattern_that_drifts(target):
    rows = persistence(grower(Drift(0.01)), target, 5, state=torch.ones(2, SIDE, SIDE), multiples=3)
    assert [(row.multiple, row.steps) for row in rows] == [(1, 5), (2, 10), (3, 15)]
    assert [row.error for row in rows] == pytest.approx([0.05**2, 0.1**2, 0.15**2], rel=1e-4)
    assert [row.spread for row in rows] == [0.0, 0.0, 0.0]


def test_regeneration_is_known_for_a_pattern_that_heals(target, zeros):
    share, horizon, recovery = 0.3, 6, 4
    report = robustness_report(grower(Pull(share)), target, horizon, recovery=recovery, state=zeros)
    grown, healing = (1 - share) ** (2 * horizon), (1 - share) ** (2 * recovery)
    assert len(report.regeneration) == 8
    for row in report.regeneration:
        before, damaged = grown, grown * (1 - row.share) + row.share
        recovered = healing * damaged
        assert (row.before, row.damaged, row.recovered) == pytest.approx((before, damaged, recovered), rel=1e-3)
        assert row.score == pytest.approx((damaged - recovered) / (damaged - before), rel=1e-3)
    assert report.regeneration_score == pytest.approx(sum(row.score for row in report.regeneration) / 8)
    assert report.regeneration_score > 0.8
    assert report.persistence_ratio == 1.0
    recovered = sum(row.recovered for row in report.regeneration)
    assert report.recovery_ratio == pytest.approx(recovered / (8 * grown), rel=1e-3)


def test_the_score_tells_healing_from_standing_still_and_from_decay(target):
    healing, still, decay = (
        robustness_report(grower(rule), target, 4, state=torch.ones(2, SIDE, SIDE)).regeneration_score
        for rule in (Pull(0.5), Drift(0.0), Drift(-0.1))
    )
    assert healing > 0.99
    assert still == 0.0
    assert decay < 0


def test_a_pattern_that_explodes_is_infinitely_bad_and_a_hole_that_does_no_harm_has_no_score(target, zeros):
    report = robustness_report(grower(Drift(float("inf"))), target, 2)
    assert all(row.error == math.inf for row in report.persistence)
    assert report.persistence_ratio == report.recovery_ratio == math.inf
    assert report.regeneration_score is None
    holes = {name: torch.full((SIDE, SIDE), name == "all") for name in ("none", "all")}
    none, whole = regeneration(grower(Pull(0.5)), target, 3, holes=holes, state=zeros)
    assert (none.score, none.spread, none.share) == (None, None, 0.0)
    assert whole.score == pytest.approx(1.0)


def test_report_is_a_function_of_the_seed_and_changes_nothing(random_model, target):
    random_model.train()
    weights = [p.clone() for p in random_model.parameters()]
    first, again = (robustness_report(random_model, target, 3, runs=2) for _ in range(2))
    other = robustness_report(random_model, target, 3, runs=2, seed=1)
    assert first == again
    assert first.persistence != other.persistence
    assert first.persistence[0].spread > 0
    assert random_model.training
    assert all(torch.equal(a, b) for a, b in zip(weights, random_model.parameters(), strict=True))


def test_both_go_on_with_one_roll_out(random_model, target):
    state = torch.rand(1, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    rows = persistence(random_model, target, 3, multiples=2, state=state[0], runs=1)
    expected = (random_model.predict(state, 6).pred - 1).square().mean()
    assert rows[1].error == pytest.approx(float(expected), rel=1e-5)
    nowhere = {"nowhere": torch.zeros(SIDE, SIDE, dtype=torch.bool)}
    (row,) = regeneration(random_model, target, 3, holes=nowhere, state=state[0], runs=1)
    assert row.recovered == pytest.approx(float(expected), rel=1e-5)


def test_rows_and_dict_are_plain_values_and_growth_lasts_for_a_training_by_default(target, zeros):
    report = robustness_report(grower(Pull(0.5)), target, 2, multiples=2, state=zeros)
    assert [row["test"] for row in report.rows()] == ["persistence"] * 2 + ["regeneration"] * 8
    written = json.loads(json.dumps(report.to_dict()))
    assert written["regeneration_score"] == report.regeneration_score
    assert written["persistence"][1]["steps"] == 4
    with pytest.raises(AttributeError):
        report.horizon = 3
    model = BasicNCAModel(**presets.growing(training_timesteps=(3, 6)))
    report = robustness_report(model, torch.zeros(4, SIDE, SIDE), multiples=1)
    assert report.horizon == 5
    assert report.persistence[0].error == pytest.approx(1 / (4 * SIDE * SIDE))  # alpha of the one cell


def test_a_goal_is_told_to_all_samples(target):
    parts = {"num_image_channels": 1, "num_hidden_channels": 2, "immutable_image_channels": False, "hidden_size": 8}
    told = BasicNCAModel(**parts, conditioning=GoalEmbedding(3), fire_rate=1.0)
    assert robustness_report(told, target, 2, goal=1).persistence[0].error == pytest.approx((SIDE * SIDE - 1) / SIDE**2)
    with pytest.raises(ConfigError, match="goal"):
        robustness_report(told, target, 2)
    with pytest.raises(ConfigError, match="takes no goals"):
        robustness_report(grower(Pull(0.5)), target, 2, goal=1)


@pytest.mark.parametrize("shape", [(9,), (8, 10), (11, 10, 14)])
def test_standard_holes_destroy_halves_and_leave_the_rest(shape):
    holes = standard_holes(shape)
    assert len(holes) == 2 * len(shape) + 4
    sides = (("left", "right"), ("top", "bottom"), ("front", "back"))
    for number in range(len(shape)):
        axis, names = len(shape) - 1 - number, sides[number]
        first, second = (holes[name] for name in names)
        assert torch.equal(first.flip(axis), second)
        assert not (first & second).any()
        assert int(first.sum()) == first.numel() // shape[axis] * (shape[axis] // 2)
    assert holes["centre"][tuple(n // 2 for n in shape)]
    discs = [holes[f"disc {n}"] for n in (1, 2, 3)]
    assert all(0 < int(disc.sum()) < disc.numel() / 2 for disc in discs)
    again, other = standard_holes(shape), standard_holes(shape, seed=1)
    assert all(torch.equal(again[name], holes[name]) for name in holes)
    assert any(not torch.equal(other[name], holes[name]) for name in holes)


@pytest.mark.parametrize(
    ("function", "changes", "error", "message"),
    [
        (robustness_report, {"horizon": 0}, ConfigError, "horizon must be a whole number of at least 1, not 0"),
        (robustness_report, {"multiples": 0}, ConfigError, "multiples"),
        (robustness_report, {"runs": 0}, ConfigError, "runs"),
        (robustness_report, {"state": torch.zeros(3, SIDE, SIDE)}, ShapeError, r"\(2, 8, 8\), .* not \(3, 8, 8\)"),
        (robustness_report, {"target": torch.zeros(2, SIDE, SIDE)}, ShapeError, r"the target is \(1, 8, 8\)"),
        (regeneration, {"holes": {"odd": torch.zeros(SIDE, SIDE)}}, ShapeError, "hole 'odd' is a bool tensor"),
    ],
)
def test_what_does_not_fit_is_refused(function, changes, error, message, target):
    with pytest.raises(error, match=message):
        function(grower(Pull(0.5)), **{"target": target, "horizon": 2, **changes})
    with pytest.raises(ShapeError, match="one to three axes"):
        standard_holes((2, 2, 2, 2))
