"""Schedules are the functions of the step that they say."""

import math

import pytest

from delira_nca.errors import ConfigError, UnknownKeywordError, UnknownNameError
from delira_nca.training.schedules import Schedule

STEPS = (0, 1, 499, 500, 999, 1000, 2500, 4000, 10_000)


@pytest.mark.parametrize(
    ("schedule", "formula"),
    [
        (Schedule(dec=0.95), lambda n: 3.0 * 0.95 ** (n // 1000)),
        (Schedule.decay(0.5, every=500, start=2.0), lambda n: 2.0 * 0.5 ** (n // 500)),
        (Schedule(lindec=(4000, 0.001)), lambda n: 0.001 * max(1 - n / 4000, 0)),
        (Schedule(lindec=(1500, 0.001)), lambda n: 0.001 * max(1 - n / 1500, 0)),
        (Schedule.linear(1.0, 3.0, 1000, begin=500), lambda n: 1 + 2 * min(max((n - 500) / 1000, 0), 1)),
        (Schedule.cosine(2.0, 1.0, 4000), lambda n: 1 + (1 + math.cos(math.pi * min(n / 4000, 1))) / 2),
        (Schedule(updates=[(1000, 0.7), (500, 0.8)]), lambda n: 3.0 if n < 500 else 0.8 if n < 1000 else 0.7),
        (Schedule.steps({0: 5, 2500: 6}), lambda n: 5 if n < 2500 else 6),
        (Schedule.from_callable(lambda n: n**2), lambda n: n**2),
    ],
    ids=lambda value: repr(value) if isinstance(value, Schedule) else "formula",
)
def test_values_are_those_of_the_formula(schedule, formula):
    assert [schedule(n, 3.0) for n in STEPS] == pytest.approx([formula(n) for n in STEPS], rel=1e-15, abs=1e-18)


def test_values_may_be_sequences():
    schedule = Schedule(updates=[(1000, [0.2, 0.3])])
    assert schedule(999, [0.5, 0.5]) == [0.5, 0.5]
    assert schedule(1000, [0.5, 0.5]) == [0.2, 0.3]
    assert Schedule(dec=0.5)(1000, (2.0, 4.0)) == (1.0, 2.0)


def test_a_relative_schedule_needs_the_initial_value():
    assert Schedule(dec=0.5).needs_initial
    assert not Schedule.decay(0.5, start=1.0).needs_initial
    with pytest.raises(ConfigError, match="needs the initial value"):
        Schedule(dec=0.5)(1000)


class Variable:
    def __init__(self, value):
        self.value = value

    def get_value(self):
        return self.value

    def set_value(self, value):
        self.value = value


def test_a_bound_variable_is_set_by_update():
    variable, other = Variable(1.0), Variable(8.0)
    schedule = Schedule(dec=0.5)
    with pytest.raises(ConfigError, match="bind_variable comes before update"):
        schedule.update(0)
    schedule.bind_variable(variable)
    assert [schedule.update(n) for n in (1000, 2000, 1000)] == [0.5, 0.25, 0.5]
    assert variable.value == 0.5
    schedule.bind_variable(obj=other, prop_name="value")
    schedule.update(3000)
    assert other.value == 1.0
    with pytest.raises(ConfigError, match="a Variable has no attribute 'valeu'"):
        schedule.bind_variable(obj=other, prop_name="valeu")
    with pytest.raises(ConfigError, match="or to obj and prop_name"):
        schedule.bind_variable(variable, other, "value")
    with pytest.raises(ConfigError, match="lacks get_value or set_value"):
        schedule.bind_variable(3.0)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: Schedule(), ConfigError, "one of dec, lindec and updates, not none"),
        (lambda: Schedule(dec=0.5, lindec=(1, 1.0)), ConfigError, "not .'dec', 'lindec'."),
        (lambda: Schedule(dec=0.0), ConfigError, "factor must be a number above 0"),
        (lambda: Schedule(lindec=[0.001]), ConfigError, "a number of steps and an initial value"),
        (lambda: Schedule(lindec=(0.5, 0.001)), ConfigError, "steps must be a whole number of at least 1, not 0.5"),
        (lambda: Schedule(updates=[]), ConfigError, "not empty"),
        (lambda: Schedule(updates=[(5, 1.0), (5, 2.0)]), ConfigError, "two values for step 5: 1.0 and 2.0"),
        (lambda: Schedule(updates=[(-5, 1.0)]), ConfigError, "at least 0, not -5"),
        (lambda: Schedule(updates=[(5, "fast")]), ConfigError, "sets numbers.*not 'fast'"),
        (lambda: Schedule.cosine(1.0, float("nan"), 10), ConfigError, "stop must be a finite number"),
        (lambda: Schedule.from_callable(3), ConfigError, "must be callable"),
        (lambda: Schedule.of({"kind": "cosin"}), UnknownNameError, "Did you mean 'cosine'"),
        (lambda: Schedule.of({"kind": "linear", "begn": 3}), UnknownKeywordError, "begn"),
        (lambda: Schedule.of({"kind": "linear", "start": 1.0}), ConfigError, "missing 2 required"),
    ],
)
def test_what_is_no_schedule_is_refused(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_a_config_gives_the_same_schedule():
    given = {"kind": "decay", "factor": 0.5, "every": 10, "start": 1.0}
    assert Schedule.of(given)(25) == Schedule.decay(0.5, 10, 1.0)(25) == 0.25
    assert Schedule.of({"updates": [[3, 1.0]]})(3, 0.0) == 1.0
    assert Schedule.of({"kind": "steps", "updates": {"3": 1.0}})(3, 0.0) == 1.0
