import json
import logging
import re

import pytest
import torch
from torch import nn

from delira_nca.errors import ConfigError
from delira_nca.experiment import Run, RunConfig
from delira_nca.losses import mse
from delira_nca.machine import cpu_name
from delira_nca.models import BasicNCAModel, build_model
from delira_nca.rollout import BACKENDS, native_library, using_backend
from delira_nca.training import PyTorchNetworkTrainer
from delira_nca.training.run_environment import changes, choose_device


class OwnRule(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(12, 4, 1)

    def forward(self, perception):
        return self.layer(perception)


def automaton(**changes):
    arguments = {"num_image_channels": 1, "num_hidden_channels": 3, "hidden_size": 8, "training_timesteps": 2}
    return BasicNCAModel(**{**arguments, "immutable_image_channels": False, "num_output_channels": 0, **changes})


def make(network, folder=None, **changes):
    return PyTorchNetworkTrainer(network, folder, {"mse": mse}, torch.optim.Adam, {"lr": 1e-3}, **changes)


def batch():
    return {"data": torch.rand(2, 1, 6, 6).numpy(), "label": torch.rand(2, 1, 6, 6).numpy()}


@pytest.fixture
def warnings_of(caplog):
    """Warnings about back ends."""
    caplog.set_level(logging.WARNING, "delira_nca")
    return lambda: [r.getMessage() for r in caplog.records if "back end" in r.getMessage()]


def test_every_run_on_a_slow_back_end_warns_once_with_the_reason_and_the_remedy(warnings_of):
    for count in (1, 2):
        trainer = make(automaton(rule=OwnRule()))
        trainer.train(2, [batch(), batch()])
        trainer.train(3, [batch()])
        *_, message = found = warnings_of()
        assert len(found) == count
        assert "'reference', which is slower than 'native'" in message
        assert "the rule is a OwnRule, not MLPRule itself" in message
        assert "MLPRule with one hidden layer of relu or leaky_relu" in message


def test_a_run_without_the_native_library_warns(warnings_of, monkeypatch):
    monkeypatch.setattr(type(BACKENDS["native"]), "unavailable", lambda self: "it was not built")
    trainer = make(automaton())
    trainer.train(1, [batch()])
    (message,) = warnings_of()
    assert "'sparse', which is slower than 'native' (native: it was not built)" in message
    assert trainer.computation()["backend"] == "sparse"


def test_neither_a_run_on_the_fastest_or_a_chosen_back_end_nor_a_prediction_warns(warnings_of):
    if BACKENDS["native"].unavailable() is None:
        make(automaton()).train(1, [batch()])
    with using_backend("reference"):
        make(automaton(rule=OwnRule())).train(1, [batch()])
    automaton(rule=OwnRule()).predict(torch.rand(1, 1, 6, 6), 2)
    assert warnings_of() == []


@pytest.mark.parametrize(
    ("preset", "backend"), [("growing", "native"), ("med_nca", "native"), ("mixture", "reference")]
)
def test_description_and_state_name_back_end_processor_and_instruction_set(preset, backend):
    if BACKENDS["native"].unavailable() is not None:
        pytest.skip("the native library was not built")
    trainer = make(build_model(preset))
    found, saved = trainer.computation(), trainer.state_dict()["circumstances"]
    assert found["backend"] == backend
    if backend == "native":
        assert found["instruction_set"] == native_library.load().name
    assert (found["backend"], found["processor"], found["instruction_set"]) == (
        saved["backend"],
        cpu_name(),
        saved["instruction set"],
    )
    assert re.search(rf"back end +{backend}\n", trainer.describe())
    assert f"{cpu_name()}, {found['instruction_set']}" in trainer.describe()


def test_another_back_end_is_named_after_a_resume(tmp_path, caplog):
    with using_backend("sparse"):
        make(automaton(), tmp_path).train(1, [batch()])
    with using_backend("reference"), caplog.at_level(logging.WARNING, "delira_nca"):
        make(automaton(), tmp_path).train(2, [batch()], resume="auto")
    assert "backend: sparse then, reference now" in caplog.text
    assert changes({"backend": "native"}, {"backend": "sparse"}) == ["backend: native then, sparse now"]


@pytest.mark.parametrize(
    ("backend", "dtype", "message"),
    [
        ("reference", "bfloat16", "emulates it, slower than float32"),
        ("reference", "float16", "emulates it, slower than float32"),
        ("native", "bfloat16", "the native back end computes in float32 with portable"),
    ],
)
def test_mixed_precision_without_instructions_is_refused(backend, dtype, message, monkeypatch):
    if (reason := BACKENDS[backend].unavailable()) is not None:
        pytest.skip(reason)
    monkeypatch.setattr("delira_nca.models.precision.cpu_features", lambda: frozenset({"avx2"}))
    monkeypatch.setattr(native_library, "_forced", "portable")
    with using_backend(backend), pytest.raises(ConfigError, match=f"mixed precision in {dtype} .*{message}"):
        make(automaton(), mixed_precision=True, mixed_precision_kwargs={"dtype": dtype})


def test_the_result_of_a_run_names_back_end_processor_and_instruction_set(tmp_path):
    dataset = {"class_path": "delira_nca.data_loading.growing_dataset", "init_args": {"size": 6, "padding": 1}}
    model = {"class_path": "delira_nca.models.build_model", "init_args": {"preset": "growing"}}
    model["init_args"]["changes"] = {"training_timesteps": 2, "inference_timesteps": 2}
    values = {"name": "tiny", "model": model, "data": {"train": dataset}, "num_epochs": 1}
    values["task"] = {"criterions": {"mse": "delira_nca.losses.mse"}}
    result = Run.create(RunConfig.from_dict(values), tmp_path).train()
    written = json.loads((tmp_path / "tiny" / "result.json").read_text())
    assert written["computation"] == result.computation
    assert sorted(result.computation) == ["backend", "instruction_set", "processor"]


def test_a_device_that_is_there_is_taken_and_auto_takes_a_gpu_where_there_is_one(monkeypatch, make_trainer):
    for arguments in ((), ((), "cpu"), ((), torch.device("cpu"))):
        assert choose_device(*arguments) == torch.device("cpu")
    assert make_trainer(device="auto").device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    for number, device in ((0, "cpu"), (2, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda number=number: number > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda number=number: number)
        assert choose_device((), "auto") == torch.device(device)


@pytest.mark.parametrize(
    ("gpu_ids", "device", "message"),
    [
        ([0, 1], None, "torchrun"),
        ([0], "cpu", "not both"),
        ((), "gpu", "'gpu' is not a torch device"),
        ([2], None, "device cuda:2 was asked for, and torch sees 2 GPUs"),
        ((), "cuda:5", "torch sees 2 GPUs"),
    ],
)
def test_a_device_that_is_not_there_is_refused(monkeypatch, gpu_ids, device, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device([1]) == torch.device("cuda", 1)
    with pytest.raises(ConfigError, match=message):
        choose_device(gpu_ids, device)
