import copy
import functools
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from delira_nca.data_loading import DictDataset, NNUNetDataset
from delira_nca.errors import ConfigError, MissingFileError, ParameterKeyError
from delira_nca.experiment.import_paths import decode, encode, import_object, path_of
from delira_nca.experiment.parameters import Parameters
from delira_nca.experiment.plain_files import read_plain
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel, Perception
from delira_nca.models.masks import AliveMask
from delira_nca.models.rule import MLPRule
from delira_nca.training.callbacks import EarlyStopping


@pytest.fixture
def params():
    return Parameters(
        {"model": {"channels": 16, "steps": (48, 64)}, "training": {"num_epochs": 3, "optimizer_params": {"lr": 1e-3}}},
        {"model": {"fire_rate": 0.5}, "training": {"seed": 1, "optimizer_params": {"weight_decay": 0.1}}},
    )


def test_a_value_is_found_by_dots_and_by_attributes(params):
    assert params["fixed.model.channels"] == params.fixed.model.channels == params.fixed["model"]["channels"] == 16
    assert params.fixed.training.optimizer_params == {"lr": 1e-3}
    assert list(params) == ["fixed", "variable"]
    assert "fixed.training.optimizer_params.lr" in params
    assert "fixed.training.lr" not in params


def test_model_and_training_are_what_is_fixed_and_variable_together(params):
    assert params.model == {"channels": 16, "steps": (48, 64), "fire_rate": 0.5}
    assert params.training["optimizer_params"] == {"lr": 1e-3, "weight_decay": 0.1}
    params.training["seed"] = 7
    assert params["variable.training.seed"] == 1


def test_what_is_fixed_and_variable_or_in_an_unknown_section_is_refused_when_parameters_are_used(params):
    params["variable.model.channels"] = 16
    assert params.model["channels"] == 16
    params["variable.model.channels"] = 12
    with pytest.raises(ConfigError, match=r"model.channels is fixed and variable, with two values: 16 and 12"):
        _ = params.model
    params.fixed["modle"] = {"channels": 12}
    with pytest.raises(ConfigError, match="not 'modle'"):
        _ = params.model


def test_setting_reaches_all_views(params):
    view = params.fixed.training
    params.fixed.training.optimizer_params.lr = 2e-3
    view["scheduler.gamma"] = 0.5
    assert params["fixed.training.optimizer_params.lr"] == 2e-3
    assert params["fixed.training"]["scheduler"] == {"gamma": 0.5}
    del params["fixed.training.scheduler"]
    assert "scheduler" not in view


def test_what_is_missing_is_an_error_of_both_kinds_with_the_nearest_name(params):
    with pytest.raises(KeyError, match="no parameter 'fixed.model.chanels'. .* Did you mean 'fixed.model.chann"):
        _ = params["fixed.model.chanels"]
    with pytest.raises(ValueError, match="there is no parameter"):
        _ = params["fixed.modell.channels"]
    with pytest.raises(AttributeError, match="there is no parameter 'fixed.modle'"):
        _ = params.fixed.modle
    with pytest.raises(ParameterKeyError, match="'fixed.model.steps.low'"):
        _ = params["fixed.model.steps.low"]
    assert params.get("fixed.model.nothing", 5) == 5


def test_nested_get_finds_what_is_there_once(params):
    assert params.nested_get("channels") == 16
    assert params.nested_get("optimizer_params.lr") == 1e-3
    assert params.nested_get("variable.model.fire_rate") == 0.5
    assert params.nested_get("momentum", None) is None
    with pytest.raises(KeyError, match="there is no parameter 'chanels' anywhere.* Did you mean 'channels'"):
        params.nested_get("chanels")
    with pytest.raises(
        KeyError,
        match="'optimizer_params' is ambiguous: it is in fixed.training.optimizer_params and variable",
    ):
        params.nested_get("optimizer_params", None)


def test_update_joins_and_never_overwrites_in_silence(params):
    before = params.copy()
    with pytest.raises(ValueError, match=r"'fixed.training.optimizer_params.lr' is 0.001 and would become 0.1: say"):
        params.update({"fixed": {"model": {"new": 1}, "training": {"optimizer_params": {"lr": 0.1}}}})
    assert params == before
    params.update({"fixed.model.new": 1, "fixed": {"model": {"channels": 16}}})
    assert params.model == {**before.model, "new": 1}
    params.update({"fixed.training.optimizer_params": {"lr": 0.1}}, overwrite=True)
    assert params["fixed.training.optimizer_params"] == {"lr": 0.1}
    other = Parameters({"model": {"depth": 2}})
    assert params.update(other)["fixed.model.depth"] == 2
    with pytest.raises(ConfigError, match="is {'lr': 0.1} and would become 3"):
        params.update({"fixed.training.optimizer_params": 3})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"fixd": {}}, "parameters are fixed or variable, not 'fixd'. .* Did you mean 'fixed'"),
        ({"fixed": {"modell": {}}}, "of the model or of the training, each a dict, not 'modell'. .*mean 'model'"),
        ({"fixed": 3}, "of the model or of the training"),
        ({"fixed.model": "large"}, "is {.*} and would become 'large'|each a dict"),
        ({"fixed.model.a": {"b.c": 1}}, "named by a word without a dot, not 'b.c'"),
        ({"fixed.model.a": {3: 1}}, "named by a word without a dot, not 3"),
        ({"fixed..a": 1}, "a parameter has a name such as"),
    ],
)
def test_what_has_no_place_is_refused_and_nothing_changes(params, values, message):
    before = params.copy()
    with pytest.raises(ConfigError, match=message):
        params.update(values, overwrite=True)
    with pytest.raises(ConfigError):
        params.update(values)
    assert params == before
    with pytest.raises(ConfigError, match="not 'large'|each a dict"):
        params["fixed"] = "large"
    assert params == before


def test_flat_names_every_value(params):
    assert params.flat() == {
        "fixed.model.channels": 16,
        "fixed.model.steps": (48, 64),
        "fixed.training.num_epochs": 3,
        "fixed.training.optimizer_params.lr": 1e-3,
        "variable.model.fire_rate": 0.5,
        "variable.training.seed": 1,
        "variable.training.optimizer_params.weight_decay": 0.1,
    }
    assert Parameters().flat() == {}
    assert Parameters({"training": {"optimizer_params": {}}}).flat() == {"fixed.training.optimizer_params": {}}


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, Parameters.copy, lambda p: pickle.loads(pickle.dumps(p))]
)
def test_copies_are_equal_and_share_nothing(params, duplicate):
    other = duplicate(params)
    assert type(other) is Parameters
    assert other == params
    other.fixed.training.optimizer_params.lr = 5.0
    assert params["fixed.training.optimizer_params.lr"] == 1e-3
    assert other != params


def test_what_was_given_is_copied_and_never_changed(params):
    given = {"model": {"sizes": [1, 2]}}
    made = Parameters(given)
    made["fixed.model.sizes"].append(3)
    made["fixed.model.more"] = 1
    assert given == {"model": {"sizes": [1, 2]}}
    assert Parameters({"model": {"a": np.ones(2)}}) != Parameters({"model": {"a": np.ones(3)}})


@pytest.mark.parametrize("ending", ["json", "yaml", "yml"])
def test_a_file_holds_all_of_it(params, tmp_path, ending):
    params["fixed.training.criterions"] = {"mse": mse, "part": functools.partial(mse)}
    params["fixed.training.optimizer_cls"] = torch.optim.Adam
    params["fixed.model.alive"] = AliveMask(channel=1)
    params["fixed.model.perception"] = Perception("identity", "laplacian", padding="circular")
    params["fixed.model.lr"] = 1e-07
    path = params.save(tmp_path / f"p.{ending}")
    again = Parameters.load(path)
    assert again["fixed.model.steps"] == [48, 64]
    assert again["fixed.training.criterions.mse"] is mse
    assert again["fixed.training.optimizer_cls"] is torch.optim.Adam
    assert again["fixed.model.alive"] == AliveMask(channel=1)
    assert again["fixed.model.perception"].to_dict() == params["fixed.model.perception"].to_dict()
    for changed in (params, again):
        del changed["fixed.model.perception"]
        changed["fixed.model.steps"] = 0
        del changed["fixed.training.criterions.part"]
    assert again == params


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.json", '{"fixed": {"model": {"a": 1, "a": 2}}}', "'a' stands there twice"),
        ("p.yaml", "fixed:\n  model:\n    a: 1\n    a: 2\n", "'a' stands there twice"),
        ("p.json", "[1]", "holds a list, not a mapping"),
        ("p.json", "{", "is not valid JSON"),
        ("p.yaml", "a: [", "it is not valid YAML"),
        ("p.json", '{"fixd": {}}', "has 'fixd'. .* Did you mean 'fixed'"),
        ("p.json", '{"model": {"x": {"class_path": "os.path.nothing"}}}', "has no 'nothing'"),
    ],
)
def test_a_file_that_holds_no_parameters_is_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=message):
        Parameters.load(tmp_path / name)


@pytest.mark.parametrize("name", ["p.json", "p.yaml"])
def test_a_file_of_a_person_is_read_as_meant(tmp_path, name):
    text = "model:\r\n  name: größe\r\n  a: 1e-3\r\n  b: '1e-3'\r\n  steps: [4, 8]\r\n"
    if name == "p.json":
        text = '{"model": {"name": "größe", "a": 1e-3, "b": "1e-3", "steps": [4, 8]}}'
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        (tmp_path / name).write_bytes(text.encode(encoding))
        assert read_plain(tmp_path / name) == {"model": {"name": "größe", "a": 1e-3, "b": "1e-3", "steps": [4, 8]}}
    assert Parameters.load(tmp_path / name).model["steps"] == [4, 8]
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=rf"{name}.*(not in UTF-8|unacceptable character)"):
        read_plain(tmp_path / name)


def test_files_that_are_not_there_or_have_no_form_are_refused(params, tmp_path):
    with pytest.raises(MissingFileError, match="nowhere.json cannot be read"):
        read_plain(tmp_path / "nowhere.json")
    with pytest.raises(ConfigError, match="written as .json, .yaml or .yml, not 'p.toml'"):
        params.save(tmp_path / "p.toml")
    params["fixed.training.criterions"] = {"own": lambda pred, label: 0}
    with pytest.raises(ConfigError, match="fixed.training.criterions.own is the function .*cannot be written"):
        params.save(tmp_path / "p.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "place", "value"),
    [
        (["--training.seed", "7"], "variable.training.seed", 7),
        (["--seed=7"], "variable.training.seed", 7),
        (["--lr", "1e-2"], "fixed.training.optimizer_params.lr", 1e-2),
        (["--lr", "1"], "fixed.training.optimizer_params.lr", 1.0),
        (["--fixed.model.steps", "[8, 12]"], "fixed.model.steps", (8, 12)),
        (["--fixed.model.channels", "-3"], "fixed.model.channels", -3),
    ],
)
def test_a_command_line_changes_what_is_there_and_keeps_its_type(params, arguments, place, value):
    params.update_from_arguments(arguments)
    assert params[place] == value
    assert type(params[place]) is type(value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sed", "7"], "there is no parameter 'sed' anywhere.* Did you mean 'seed'"),
        (["--optimizer_params", "7"], "is ambiguous"),
        (["--channels", "many"], "fixed.model.channels is 16, a int, which 'many' is not"),
        (["--channels", "3.5"], "which '3.5' is not"),
        (["--channels", "True"], "which 'True' is not"),
        (["--channels"], "arguments are --name value"),
        (["channels", "3"], "arguments are --name value"),
    ],
)
def test_a_command_line_that_cannot_be_meant_changes_nothing(params, arguments, message):
    before = params.copy()
    with pytest.raises(ConfigError, match=message):
        params.update_from_arguments(["--seed", "3", *arguments])
    assert params == before


def test_parameters_are_made_of_what_a_user_has(params, tmp_path):
    assert Parameters.of(params) == params
    assert Parameters.of(params) is not params
    assert Parameters.of(params.to_dict()) == params
    assert Parameters.of({"training": {"a": 1}}) == Parameters({"training": {"a": 1}})
    (tmp_path / "p.json").write_text(json.dumps({"variable": {"model": {"a": 1}}}))
    assert Parameters.of(tmp_path / "p.json") == Parameters(None, {"model": {"a": 1}})
    for wrong in (3, [("model", {})]):
        with pytest.raises(ConfigError, match="a mapping or the path of a file, not a"):
            Parameters.of(wrong)
    with pytest.raises(ConfigError, match="fixed_params are"):
        Parameters([1])


def test_changes_leave_the_original_alone(params):
    changed = params.with_changes({"training": {"num_epochs": 9}, "variable.training.seed": 2})
    assert (changed.training["num_epochs"], changed.training["seed"]) == (9, 2)
    assert (params.training["num_epochs"], params.training["seed"]) == (3, 1)
    with pytest.raises(ConfigError, match="not 'modell'"):
        params.with_changes({"modell": {"a": 1}})


class Outer:
    class Network(torch.nn.Linear):
        pass


def test_what_is_named_comes_back_as_itself():
    values = {
        "model": BasicNCAModel,
        "inner": Outer.Network,
        "loss": mse,
        "relu": torch.nn.functional.relu,
        "stop": functools.partial(EarlyStopping, "val_loss", patience=3),
        "plain": [1, 2.5, None, True, "text", {"deep": []}],
    }
    again = decode(encode(values))
    stop = again.pop("stop")
    assert (stop.func, stop.args, stop.keywords) == (EarlyStopping, (), {"monitor_key": "val_loss", "patience": 3})
    del values["stop"]
    assert again == values


def test_what_plain_values_have_no_word_for_becomes_the_nearest():
    assert encode({"a": (1, (2, 3)), "b": np.float32(0.5), "c": Path("x/y"), "d": np.int64(3)}) == {
        "a": [1, [2, 3]],
        "b": 0.5,
        "c": "x/y",
        "d": 3,
    }


def test_parts_of_an_automaton_are_described_and_made_again():
    rule = decode(encode({"rule": MLPRule(12, final_bias=False)}))["rule"]
    assert rule.to_dict() == MLPRule(12, final_bias=False).to_dict()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (lambda x: x, "v.x is the function .*<lambda>, which cannot be written"),
        (torch.nn.MSELoss(), "v.x is a MSELoss, which cannot be written"),
        (DictDataset({"x": [1]}), "v.x is a DictDataset"),
        (functools.partial(print, 1), "v.x is a partial"),
        ([torch.zeros(2)], r"v.x\[0\] is a Tensor"),
        ({3: 1}, "v.x has the key 3: names in a file are strings"),
    ],
)
def test_what_has_no_name_is_refused_with_its_place(value, message):
    with pytest.raises(ConfigError, match=message):
        encode({"x": value}, "v")


def test_a_remark_takes_the_place_of_what_has_no_name_and_cannot_be_read():
    remark = encode({"loss": torch.nn.MSELoss(), "metric": lambda x: x}, strict=False)
    assert remark["loss"] == {"class_path": None, "was": "a MSELoss"}
    with pytest.raises(ConfigError, match="config.loss was a MSELoss, which no file holds: set it in Python"):
        decode(remark, "config")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("pathlib.Path", "pathlib.Path is not a class that a setting names"),
        ("subprocess.Popen", "is not a class that a setting names"),
        ("delira_nca.losses.__name__", "names a str, which is neither a class nor a function"),
        ("delira_nca.lossses.mse", "delira_nca has no 'lossses'. .* Did you mean|has no 'lossses'"),
        ("no_such_package.thing", "there is no module 'no_such_package'"),
        ("mse", "an import path is 'module.Name', not 'mse'"),
        ("os.system; rm", "an import path is 'module.Name'"),
        (7, "an import path is 'module.Name', not 7"),
    ],
)
def test_a_path_that_no_setting_names_is_refused(path, message):
    with pytest.raises(ConfigError, match=message):
        decode({"class_path": path, "init_args": {}})


def test_reading_calls_nothing():
    called = []

    class Loud(torch.nn.Module):
        def __init__(self, **kwargs):
            called.append(kwargs)

    globals()["Loud"] = Loud
    Loud.__qualname__ = "Loud"
    try:
        found = decode({"class_path": f"{__name__}.Loud", "init_args": {"a": 1}})
    finally:
        del globals()["Loud"]
    assert (found.func, found.keywords, called) == (Loud, {"a": 1}, [])


def test_a_class_has_to_be_of_the_right_kind():
    assert import_object("torch.optim.Adam", "optimizer", torch.optim.Optimizer) is torch.optim.Adam
    with pytest.raises(ConfigError, match="optimizer: delira_nca.losses.mse is the function mse, not a class derived"):
        import_object("delira_nca.losses.mse", "optimizer", torch.optim.Optimizer)
    with pytest.raises(ConfigError, match="not a class derived from Optimizer or Module"):
        import_object("pathlib.Path", "it", (torch.optim.Optimizer, torch.nn.Module))
    with pytest.raises(ConfigError, match="torch.optim has no 'Adm'. .* Did you mean 'Adam'"):
        import_object("torch.optim.Adm")


def test_a_module_that_fails_to_import_something_else_says_so(tmp_path, monkeypatch):
    (tmp_path / "needs_more.py").write_text("import package_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="needs_more cannot be imported: No module named 'package_that_is_not_there'"):
        import_object("needs_more.thing")


def test_a_path_is_given_only_where_it_leads_back():
    assert path_of(NNUNetDataset) == "delira_nca.data_loading.readers.nnunet.NNUNetDataset"
    assert path_of(Outer.Network).endswith("test_parameters.Outer.Network")
    assert path_of(functools.wraps(mse)(lambda *a: None)) is None  # claims the name of another function
    assert path_of(3) is None
