"""Which samples a run trains, validates and tests on."""

from __future__ import annotations

from typing import Any, NamedTuple

from delira_nca.data_loading import RandomSampler, kfold, train_val_split
from delira_nca.data_loading.dataset import AbstractDataset
from delira_nca.data_loading.splits import require_group_key
from delira_nca.errors import ConfigError
from delira_nca.experiment.config.sections import DataSection

__all__ = ["Samples", "divide"]


class Samples(NamedTuple):
    """Parts of the samples, and arguments of the sampler of training."""

    train: AbstractDataset
    valid: AbstractDataset | None
    test: AbstractDataset | None
    sampler_kwargs: dict[str, Any]


def divide(section: DataSection, num_drawn: int | None) -> Samples:
    """Divide the samples as a config says.

    Parameters
    ----------
    section : of the config, built.
    num_drawn : samples that an epoch of training draws; None takes each once.

    Raises
    ------
    ConfigError
        If the section contradicts itself, or a division cannot be made.
    """
    require_group_key(section.split_type, section.group_key)
    train, valid, test = section.train, section.valid, section.test
    how = {"split_type": section.split_type, "label_key": section.label_key, "group_key": section.group_key}
    if section.num_splits:
        if test is not None:
            raise ConfigError("data.num_splits tests on the held-out fold: leave data.test out")
        if not 0 <= section.fold < section.num_splits:
            raise ConfigError(f"data.fold is from 0 to {section.num_splits - 1}, not {section.fold}")
        folds = kfold(train, section.num_splits, random_seed=section.split_seed, **how)  # type: ignore[arg-type]
        train, test = folds[section.fold]
    if section.val_split:
        if valid is not None:
            raise ConfigError("data.val_split takes the validation samples out of data.train: leave data.valid out")
        share = section.val_split if section.val_split < 1 else int(section.val_split)
        train, valid = train_val_split(train, share, random_seed=section.split_seed, **how)  # type: ignore[arg-type]
    if num_drawn is None:
        return Samples(train, valid, test, {})
    if section.sampler_cls is not RandomSampler:
        raise ConfigError(f"num_iterations draws samples by chance: data.sampler_cls={section.sampler_cls.__name__}")
    sampler = {"num_samples": num_drawn, "replacement": num_drawn > len(train)}
    return Samples(train, valid, test, sampler)
