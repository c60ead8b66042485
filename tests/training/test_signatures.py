"""Every name, argument and position of delira's page on the network trainer has its home."""

import inspect

import pytest

from delira_nca.training import AbstractNetworkTrainer, PyTorchNetworkTrainer, create_optims_default_pytorch

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

ABSTRACT = {
    "__init__": ("fold", "callbacks"),
    "_at_epoch_begin": (),
    "_at_epoch_end": (),
    "_at_training_begin": (),
    "_at_training_end": (),
    "_is_better_val_scores": ("old_val_score", "new_val_score", "mode"),
    "_setup": (),
    "_train_single_epoch": ("batchgen", "epoch"),
    "_update_state": ("new_state",),
    "load_state": ("file_name",),
    "predict": ("batchgen",),
    "register_callback": ("callback",),
    "save_state": ("file_name",),
    "train": ("num_epochs", "datamgr_train", "datamgr_valid", "val_score_key", "val_score_mode"),
    "update_state": ("file_name",),
}

OF_NETWORK = ("lr_scheduler_cls", "lr_scheduler_params", "gpu_ids")
PRECISION = ("mixed_precision", "mixed_precision_kwargs")
PYTORCH = {
    **ABSTRACT,
    "__init__": (
        *("network", "save_path", "criterions", "optimizer_cls", "optimizer_params", "metrics", *OF_NETWORK),
        *("save_freq", "optim_fn", "fold", "callbacks", "start_epoch", *PRECISION),
    ),
    "_at_epoch_begin": ("metrics_val", "val_score_key", "epoch", "num_epochs"),
    "_at_epoch_end": ("metrics_val", "val_score_key", "epoch", "is_best"),
    "_setup": ("network", "optim_fn", "optimizer_cls", "optimizer_params", *OF_NETWORK, *PRECISION),
    "predict": ("batchgen", "batch_size"),
    "save_state": ("file_name", "epoch"),
}

CASES = [
    *((AbstractNetworkTrainer, name, names) for name, names in ABSTRACT.items()),
    *((PyTorchNetworkTrainer, name, names) for name, names in PYTORCH.items()),
]


def _parameters(owner, name):
    signature = inspect.signature(getattr(owner, name))
    return {key: p for key, p in signature.parameters.items() if key != "self"}


@pytest.mark.parametrize(("owner", "name", "expected"), CASES, ids=[f"{o.__name__}.{n}" for o, n, _ in CASES])
def test_positions_are_those_of_the_page_and_what_it_does_not_know_has_a_default(owner, name, expected):
    parameters = _parameters(owner, name)
    given = [key for key, p in parameters.items() if p.kind in POSITIONAL]
    assert tuple(given[: len(expected)]) == expected
    if not name.startswith("_at_"):  # called by the trainer alone
        added = [p for key, p in parameters.items() if key not in expected]
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        assert [p.name for p in added if p.default is p.empty and p.kind not in variadic] == []


def test_defaults_and_members_are_those_of_the_page_and_none_can_be_changed():
    parameters = _parameters(PyTorchNetworkTrainer, "__init__")
    defaults = {name: parameters[name].default for name in PYTORCH["__init__"]}
    assert [defaults[n] for n in ("save_freq", "fold", "start_epoch", "mixed_precision")] == [1, 0, 1, False]
    assert defaults["lr_scheduler_cls"] is None
    assert defaults["optim_fn"] is create_optims_default_pytorch
    assert not any(isinstance(value, (dict, list)) for value in defaults.values())
    train = _parameters(PyTorchNetworkTrainer, "train")
    assert [train[n].default for n in ABSTRACT["train"][2:]] == [None, None, "highest"]
    assert _parameters(AbstractNetworkTrainer, "_is_better_val_scores")["mode"].default == "highest"
    for owner in (AbstractNetworkTrainer, PyTorchNetworkTrainer):
        for name in ("_is_better_val_scores", "load_state"):
            assert isinstance(inspect.getattr_static(owner, name), staticmethod)
        assert isinstance(inspect.getattr_static(owner, "fold"), property)
    assert issubclass(PyTorchNetworkTrainer, AbstractNetworkTrainer)


def test_the_page_s_mixed_precision_kwargs_are_taken_without_a_warning(make_trainer, batches):
    options = {"allow_banned": False, "enable_caching": True, "verbose": False}
    trainer = make_trainer(mixed_precision_kwargs=options)
    trainer.train(1, batches(2))
    assert len(trainer.history) == 1
