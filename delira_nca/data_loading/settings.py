"""What a data manager is told, checked before any work starts."""

from __future__ import annotations

import inspect
import math
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from delira_nca import seeding
from delira_nca.checks import require_number, require_whole
from delira_nca.data_loading.batch_builder import BatchTask
from delira_nca.data_loading.dataset import AbstractDataset, as_indices
from delira_nca.data_loading.loaders import LoaderSource, SampleSource
from delira_nca.data_loading.sampler import AbstractSampler, SequentialSampler
from delira_nca.data_loading.worker_process import require_picklable, start_method_of
from delira_nca.errors import ConfigError, UnknownNameError, did_you_mean, require_choice

__all__ = ["SETTABLE", "Settings"]


@dataclass(frozen=True)
class Settings:
    """Everything that a data manager is told; checked as a whole, replaced as a whole."""

    source: SampleSource | LoaderSource
    batch_size: int
    n_process_augmentation: int
    transforms: Callable[..., Any] | None
    sampler_cls: type[AbstractSampler]
    drop_last: bool
    seed: int
    prefetch: int
    start_method: str | None
    timeout: float
    sampler_kwargs: Mapping[str, Any]
    num_drawn: int = field(init=False)  # samples in one epoch

    def __post_init__(self) -> None:
        if isinstance(self.source, LoaderSource):
            self._require_what_a_loader_allows(self.source)
        require_whole("batch_size", self.batch_size, 1)
        require_whole("n_process_augmentation", self.n_process_augmentation, 0)
        require_whole("prefetch", self.prefetch, 1)
        if self.start_method is not None:
            require_choice("start_method", self.start_method, multiprocessing.get_all_start_methods())
        require_number("timeout", self.timeout, 0)
        if self.transforms is not None and not callable(self.transforms):
            raise ConfigError(
                f"transforms must be callable, not a {type(self.transforms).__name__}; "
                "join several with batchgenerators' Compose"
            )
        if self.n_process_augmentation and self.transforms is not None:
            method = start_method_of(self.start_method)
            if method != "fork":
                require_picklable(self.transforms, "transforms", method)
        if isinstance(self.source, LoaderSource):
            seeding.derive_seed(self.seed)  # refuses what is no seed
            object.__setattr__(self, "num_drawn", self.source.num_samples)
            return
        object.__setattr__(self, "num_drawn", len(self.sampler(self.seed, 0)))
        if self.drop_last and self.batch_size > self.num_drawn:
            raise ConfigError(
                f"batch_size={self.batch_size} is larger than the {self.num_drawn} samples of an epoch, and with "
                "drop_last=True no batch would be left; choose a smaller batch_size or drop_last=False"
            )

    def _require_what_a_loader_allows(self, source: LoaderSource) -> None:
        name = type(source.loader).__name__
        if self.batch_size is None:
            object.__setattr__(self, "batch_size", source.batch_size or 1)
        elif source.batch_size is not None and self.batch_size != source.batch_size:
            raise ConfigError(f"batch_size={self.batch_size!r}, but {name} makes batches of {source.batch_size}")
        if self.sampler_cls is not SequentialSampler or self.sampler_kwargs or self.drop_last:
            raise ConfigError(
                f"{name} decides itself which samples are in a batch: "
                "leave out sampler_cls, its arguments, and drop_last"
            )

    @property
    def dataset(self) -> AbstractDataset:
        """The samples."""
        if isinstance(self.source, LoaderSource):
            raise ConfigError(
                f"a data manager of a {type(self.source.loader).__name__} has no dataset: the loader keeps its samples"
            )
        return self.source.dataset

    @property
    def n_samples(self) -> int:
        """Number of samples; of a loader without end, those of one epoch."""
        return self.num_drawn if isinstance(self.source, LoaderSource) else len(self.source.dataset)

    @property
    def n_batches(self) -> int:
        """Number of batches in one epoch."""
        if isinstance(self.source, LoaderSource):
            return self.source.num_batches
        batches = self.num_drawn / self.batch_size
        return math.floor(batches) if self.drop_last else math.ceil(batches)

    def sampler(self, seed: int, epoch: int) -> AbstractSampler:
        """Sampler of one epoch."""
        if not isinstance(self.sampler_cls, type) or not issubclass(self.sampler_cls, AbstractSampler):
            raise ConfigError(f"sampler_cls must be a class derived from AbstractSampler, not {self.sampler_cls!r}")
        self._require_known_arguments()
        generator = seeding.generator(seed, "sample", epoch)
        return self.sampler_cls.from_dataset(self.dataset, generator=generator, **self.sampler_kwargs)

    def _require_known_arguments(self) -> None:
        taken = inspect.signature(self.sampler_cls).parameters
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
            return
        by_dataset = inspect.signature(self.sampler_cls.from_dataset).parameters.values()
        names = {*taken, *(parameter.name for parameter in by_dataset if parameter.kind is parameter.KEYWORD_ONLY)}
        names -= {"indices", "generator"}
        for name in self.sampler_kwargs.keys() - names:
            raise UnknownNameError(
                f"unknown argument {name!r}: neither of DataManager nor of {self.sampler_cls.__name__}. "
                f"{did_you_mean(name, names | (set(SETTABLE) - {'sampler_kwargs'}))}"
            )

    def tasks(self, seed: int, epoch: int) -> Iterator[BatchTask]:
        """Tasks of one epoch, in order."""
        if isinstance(self.source, LoaderSource):
            nobody = np.empty(0, np.int64)
            yield from (BatchTask(seed, epoch, index, nobody) for index in range(self.n_batches))
            return
        order = as_indices(list(self.sampler(seed, epoch)), len(self.dataset))
        if len(order) != self.num_drawn:
            raise ConfigError(
                f"{self.sampler_cls.__name__} drew {len(order)} samples, but its length says {self.num_drawn}"
            )
        for index in range(self.n_batches):
            start = index * self.batch_size
            yield BatchTask(seed, epoch, index, order[start : start + self.batch_size])


# What a caller may change; the source is made of "data" and "num_batches".
SETTABLE = ("data", "num_batches", *(f.name for f in fields(Settings) if f.init and f.name != "source"))
