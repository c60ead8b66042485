import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from delira_nca.data_loading import DictDataset, NNUNetDataset
from delira_nca.errors import ConfigError
from delira_nca.experiment.import_paths import decode, encode, import_object, path_of
from delira_nca.losses import mse
from delira_nca.models import BasicNCAModel
from delira_nca.models.rule import MLPRule
from delira_nca.training.callbacks import EarlyStopping


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
    assert path_of(Outer.Network).endswith("test_named.Outer.Network")
    assert path_of(functools.wraps(mse)(lambda *a: None)) is None  # claims the name of another function
    assert path_of(3) is None
