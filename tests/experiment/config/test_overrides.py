import pytest

from delira_nca.errors import ConfigError
from delira_nca.experiment.config import override, parse_overrides


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--a.b", "1e-3"], {"a.b": 0.001}),
        (["--a.b=[1, 2]"], {"a.b": [1, 2]}),
        (["--a", "null"], {"a": None}),
        (["--a", "{b: 1}", "--c=d=e"], {"a": {"b": 1}, "c": "d=e"}),
        (["--a", "-3", "--b", "-2.5E+4"], {"a": -3, "b": -25000.0}),
    ],
)
def test_values_of_the_command_line_are_yaml(arguments, found):
    assert parse_overrides(arguments) == found


def test_a_dotted_name_reaches_into_dicts_lists_and_arguments_of_classes():
    values = {"callbacks": [{"class_path": "a.B", "init_args": {"c": 1}}], "trainer": {}}
    changed = override(values, {"callbacks.0.c": 2, "callbacks.0.d.e": 3, "trainer.lr": 0.1})
    assert changed == {
        "callbacks": [{"class_path": "a.B", "init_args": {"c": 2, "d": {"e": 3}}}],
        "trainer": {"lr": 0.1},
    }
    assert values["callbacks"][0]["init_args"] == {"c": 1}


def test_another_class_does_not_get_the_arguments_of_the_first():
    values = {"model": {"class_path": "a.B", "init_args": {"c": 1}}}
    assert override(values, {"model.class_path": "a.C"}) == {"model": {"class_path": "a.C"}}
    assert override(values, {"model.class_path": "a.B"}) == values


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lr", "3"], "not 'lr'"),
        (["--lr"], "--lr has no value"),
        (["--callbacks.3", "1"], "none of the 1 entries"),
        (["--seed.a", "1"], "what should hold 'a' is 3"),
    ],
)
def test_what_is_no_override_or_leads_nowhere_is_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        override({"callbacks": [{}], "seed": 3}, parse_overrides(arguments))
