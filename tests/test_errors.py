import pickle

import pytest

from delira_nca import errors
from delira_nca.errors import did_you_mean, refuse_unknown_keywords, require_choice

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_error_is_ours_public_and_says_its_message(cls):
    assert issubclass(cls, errors.DeliraNCAError)
    assert cls.__name__ in errors.__all__
    assert str(cls("what to do")) == "what to do"
    assert str(pickle.loads(pickle.dumps(cls("what to do")))) == "what to do"  # comes through from a worker


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (errors.ConfigError, ValueError),
        (errors.ShapeError, ValueError),
        (errors.MissingFileError, FileNotFoundError),
        (errors.UnknownNameError, ValueError),
        (errors.UnknownKeywordError, TypeError),
        (errors.ScoreModeError, AssertionError),
        (errors.CallbackError, RuntimeError),
        (errors.CallbackTypeError, AssertionError),
        (errors.StateKeyError, KeyError),
        (errors.ParameterKeyError, KeyError),
        (errors.CheckpointError, RuntimeError),
        (errors.NonFiniteError, ArithmeticError),
        (errors.MemoryBudgetError, MemoryError),
        (errors.MissingDependencyError, ImportError),
    ],
)
def test_an_error_is_also_what_a_caller_would_guess(cls, builtin):
    with pytest.raises(builtin, match="what to do"):
        raise cls("what to do")


@pytest.mark.parametrize(
    ("name", "available", "expected"),
    [
        ("dcie", ["loss", "dice"], "Known: 'dice', 'loss'. Did you mean 'dice'?"),
        ("xyz", ["loss", "dice"], "Known: 'dice', 'loss'."),
        ("anything", [], "Known: none."),
        (3, [2, 1], "Known: '1', '2'."),
        (None, ["a"], "Known: 'a'."),
    ],
)
def test_the_nearest_name_is_suggested(name, available, expected):
    assert did_you_mean(name, available) == expected


def test_a_choice_is_one_of_the_choices():
    require_choice("padding", "zeros", ["zeros", "reflect"])
    require_choice("dims", 2, iter((1, 2, 3)))
    for value in ("zero", ["zeros"], None):
        with pytest.raises(errors.UnknownNameError, match="unknown padding"):
            require_choice("padding", value, ["zeros", "reflect"])


def test_an_unknown_keyword_is_refused_with_its_owner_and_the_nearest():
    refuse_unknown_keywords("Trainer", {}, ["fold"])
    with pytest.raises(TypeError, match="Trainer takes no argument 'flod'. Known: 'fold'. Did you mean 'fold'"):
        refuse_unknown_keywords("Trainer", {"flod": 1}, ["fold"])
