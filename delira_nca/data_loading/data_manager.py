"""Data managers: datasets, samplers, transforms and workers in one object."""

from __future__ import annotations

import inspect
import itertools
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from delira_nca import seeding
from delira_nca.checks import require_number, require_whole
from delira_nca.data_loading.batch_builder import BatchBuilder, BatchTask
from delira_nca.data_loading.dataset import AbstractDataset, Batch, IndicesLike, as_indices
from delira_nca.data_loading.loaders import LoadableLike, LoaderSource, SampleSource, as_source, changed_source
from delira_nca.data_loading.sampler import AbstractSampler, SequentialSampler
from delira_nca.data_loading.workers import WITHOUT_WORKERS, BatchWorkers
from delira_nca.errors import ConfigError, UnknownNameError, did_you_mean, require_choice
from delira_nca.io.paths import absolute
from delira_nca.workers import require_picklable, start_method_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SETTABLE", "BaseDataManager", "BatchGenerator", "DataManager", "Settings"]


@dataclass(frozen=True)
class Settings:
    """Settings of a data manager, which are validated and replaced as a whole."""

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
    num_drawn: int = field(init=False)  # number of samples in one epoch

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
            require_picklable(self.transforms, "transforms", start_method_of(self.start_method), WITHOUT_WORKERS)
        if isinstance(self.source, LoaderSource):
            seeding.derive_seed(self.seed)  # raises for invalid seeds
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
        """Dataset of the samples."""
        if isinstance(self.source, LoaderSource):
            raise ConfigError(
                f"a data manager of a {type(self.source.loader).__name__} has no dataset: the loader keeps its samples"
            )
        return self.source.dataset

    @property
    def n_samples(self) -> int:
        """Number of samples; for an infinite loader, those of one epoch."""
        return self.num_drawn if isinstance(self.source, LoaderSource) else len(self.source.dataset)

    @property
    def n_batches(self) -> int:
        """Number of batches per epoch."""
        if isinstance(self.source, LoaderSource):
            return self.source.num_batches
        batches = self.num_drawn / self.batch_size
        return math.floor(batches) if self.drop_last else math.ceil(batches)

    def sampler(self, seed: int, epoch: int) -> AbstractSampler:
        """Make the sampler of one epoch."""
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
        """Yield the tasks of one epoch in order."""
        if isinstance(self.source, LoaderSource):
            no_samples = np.empty(0, np.int64)
            yield from (BatchTask(seed, epoch, index, no_samples) for index in range(self.n_batches))
            return
        order = as_indices(list(self.sampler(seed, epoch)), len(self.dataset))
        if len(order) != self.num_drawn:
            raise ConfigError(
                f"{self.sampler_cls.__name__} drew {len(order)} samples, but its length says {self.num_drawn}"
            )
        for index in range(self.n_batches):
            start = index * self.batch_size
            yield BatchTask(seed, epoch, index, order[start : start + self.batch_size])


# Settings that a caller may change. The source is made from "data" and "num_batches".
SETTABLE = ("data", "num_batches", *(f.name for f in fields(Settings) if f.init and f.name != "source"))


class DataManager:
    """Loads samples, stacks them to batches and transforms these, optionally in worker processes.

    Every batch depends only on seed, epoch and its index: it is bit-equal for any number of workers, and whether or not
    earlier epochs were run. The global random generators of the process remain unchanged.

    Parameters
    ----------
    data : LoadableLike
        Dataset, dict of arrays with equal first axes, or iterable of dicts; or a data loader or augmenter of
        batchgenerators (see `LoaderSource`).
    batch_size : int or None
        Number of samples per batch, at least 1. Loaders set their own.
    n_process_augmentation : int
        Number of worker processes; 0 builds the batches in this process. They are started for the first batch and
        stopped by `close`.
    transforms : callable or None
        Transform of batches. A transform of batchgenerators is called as ``transform(**batch)``, any other as
        ``transform(batch)``; it returns a dict of arrays. It may use the global random generators of Python, NumPy and
        torch, which are seeded for it.
    sampler_cls : type
        Subclass of `AbstractSampler` that orders the samples.
    drop_last : bool
        Whether to drop an incomplete last batch.
    seed : int
        Seed of all random numbers, at least 0.
    prefetch : int
        Number of batches that each worker builds ahead.
    num_batches : int or None
        Number of batches per epoch of an infinite data loader.
    start_method : str or None
        ``"fork"``, ``"spawn"`` or ``"forkserver"``; None uses the default of the platform. With the latter two, dataset
        and transforms must be picklable.
    timeout : float
        Timeout in seconds for a batch of a worker; 0 waits forever. The start of new processes is not included.
    **sampler_kwargs : object
        Arguments of the sampler, for example ``num_samples=100``.

    Raises
    ------
    ConfigError
        If a value is invalid, or ``drop_last`` would leave no batch.
    UnknownNameError
        If an argument is neither one of the data manager nor one of the sampler.

    Examples
    --------
    >>> import numpy as np
    >>> manager = DataManager({"data": np.arange(10.0)}, batch_size=4)
    >>> [batch["data"].tolist() for batch in manager.get_batchgen()]
    [[0.0, 1.0, 2.0, 3.0], [4.0, 5.0, 6.0, 7.0], [8.0, 9.0]]
    >>> doubled = DataManager({"data": np.ones(2)}, 2, transforms=lambda batch: {"data": 2 * batch["data"]})
    >>> next(iter(doubled.get_batchgen()))
    {'data': array([2., 2.])}
    """

    def __init__(
        self,
        data: LoadableLike,
        batch_size: int | None = None,
        n_process_augmentation: int = 0,
        transforms: Callable[..., Any] | None = None,
        sampler_cls: type[AbstractSampler] = SequentialSampler,
        drop_last: bool = False,
        *,
        seed: int = 0,
        prefetch: int = 2,
        start_method: str | None = None,
        timeout: float = 60.0,
        num_batches: int | None = None,
        **sampler_kwargs: Any,
    ) -> None:
        self._use(
            Settings(
                source=as_source(data, num_batches),
                batch_size=batch_size,  # type: ignore[arg-type]  # None raises, or is replaced
                n_process_augmentation=n_process_augmentation,
                transforms=transforms,
                sampler_cls=sampler_cls,
                drop_last=drop_last,
                seed=seed,
                prefetch=prefetch,
                start_method=start_method,
                timeout=timeout,
                sampler_kwargs=sampler_kwargs,
            )
        )

    def _use(self, settings: Settings) -> None:
        self._settings = settings
        self._workers = BatchWorkers(
            BatchBuilder(settings.source, settings.transforms),
            num_workers=settings.n_process_augmentation,
            prefetch=settings.prefetch,
            start_method=settings.start_method,
            timeout=settings.timeout,
        )

    @property
    def dataset(self) -> AbstractDataset:
        """Dataset of the samples. Raises a ``ConfigError`` for data loaders, which have no dataset."""
        return self._settings.dataset

    @property
    def n_samples(self) -> int:
        """Number of samples in the dataset; for an infinite loader, those of one epoch."""
        return self._settings.n_samples

    @property
    def n_batches(self) -> int:
        """Number of batches per epoch."""
        return self._settings.n_batches

    @property
    def batch_size(self) -> int:
        """Number of samples per batch."""
        return self._settings.batch_size

    @property
    def n_process_augmentation(self) -> int:
        """Number of worker processes."""
        return self._settings.n_process_augmentation

    @property
    def transforms(self) -> Callable[..., Any] | None:
        """Transform of batches, or None."""
        return self._settings.transforms

    def get_batchgen(self, seed: int | None = None, *, epoch: int = 1, start: int = 0) -> BatchGenerator:
        """Return the batches of one epoch, which are built in every iteration over the result.

        Parameters
        ----------
        seed : int or None
            Seed to use instead of that of the manager.
        epoch : int
            Number of the epoch, at least 0; order and augmentation differ from epoch to epoch.
        start : int
            Index of the first batch, at most the number of batches. Earlier batches are not built; later ones are
            unchanged.
        """
        seed = self._settings.seed if seed is None else seed
        require_whole("seed", seed, 0)
        require_whole("epoch", epoch, 0)
        require_whole("start", start, 0)
        if start > self.n_batches:
            raise ConfigError(f"an epoch has {self.n_batches} batches: none is left after the first {start}")
        return BatchGenerator(self._settings, self._workers, int(seed), int(epoch), int(start))

    def show_batch(
        self,
        epoch: int = 1,
        index: int = 0,
        *,
        seed: int | None = None,
        image_key: str | None = None,
        max_samples: int = 8,
        path: str | os.PathLike[str] | None = None,
    ) -> Figure:
        """Draw one augmented batch with its targets. It is built in this process.

        Parameters
        ----------
        epoch, index : int
            Epoch and index of the batch.
        seed : int or None
            Seed to use instead of that of the manager.
        image_key, max_samples : str or None, int
            See `delira_nca.data_loading.show.draw_batch`.
        path : str, path-like or None
            Path to save the figure. Its suffix sets the format.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ConfigError
            If there is no such batch, or none of its entries is an image.
        MissingDependencyError
            If matplotlib is not installed.
        """
        from delira_nca.data_loading.show import draw_batch

        batchgen = self.get_batchgen(seed, epoch=epoch)
        require_whole("index", index, 0)
        require_whole("max_samples", max_samples, 1)
        if index >= len(batchgen):
            raise ConfigError(f"there is no batch {index}: an epoch has {len(batchgen)}, numbered from 0")
        title = f"epoch {epoch}, batch {index}"
        figure = draw_batch(batchgen.build(index), image_key=image_key, max_samples=max_samples, title=title)
        if path is not None:
            figure.savefig(absolute(path))
        return figure

    def get_subset(self, indices: IndicesLike) -> DataManager:
        """Return a data manager of a view of some samples, with the same settings and separate workers."""
        subset = object.__new__(type(self))
        subset._use(replace(self._settings, source=SampleSource(self.dataset.get_subset(indices))))
        return subset

    def update_state_from_dict(self, new_state: Mapping[str, Any]) -> DataManager:
        """Change settings. After an error, none is changed. Running batch generators keep the old settings.

        Parameters
        ----------
        new_state : dict
            New values of constructor arguments by name. Arguments of the sampler are in a dict ``"sampler_kwargs"``,
            which replaces the former one.

        Returns
        -------
        The manager itself.

        Raises
        ------
        UnknownNameError
            If a key is unknown. The message names the most similar one.
        ConfigError
            If a value is invalid.

        Examples
        --------
        >>> import numpy as np
        >>> manager = DataManager({"data": np.zeros(10)}, batch_size=4)
        >>> manager.update_state_from_dict({"batch_size": 5, "drop_last": True}).n_batches
        2
        """
        for key in new_state:
            require_choice("setting of the data manager", key, SETTABLE)
        changes = dict(new_state)
        if "data" in changes or "num_batches" in changes:
            changes["source"] = changed_source(self._settings.source, changes)
        settings = replace(self._settings, **changes)
        self._workers.retire()
        self._use(settings)
        return self

    def close(self) -> None:
        """Stop the worker processes, including those of running iterations. A later iteration starts new ones."""
        self._workers.close()

    def __enter__(self) -> DataManager:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"_settings": self._settings}  # a copy starts its own workers

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._use(state["_settings"])


class BatchGenerator:
    """Batches of one epoch: an iterable of dicts of arrays with a length.

    It is returned by `DataManager.get_batchgen`. It can be iterated repeatedly, partially, and while another one is
    iterated.
    """

    def __init__(self, settings: Settings, workers: BatchWorkers, seed: int, epoch: int, start: int = 0) -> None:
        self._settings, self._workers = settings, workers
        self.seed, self.epoch, self.start = seed, epoch, start

    def __len__(self) -> int:
        return self._settings.n_batches - self.start

    def build(self, index: int) -> Batch:
        """Build the batch with an index in this process. It equals that of an iteration."""
        tasks = self._settings.tasks(self.seed, self.epoch)
        first = self.start + index
        return next(self._workers.run(itertools.islice(tasks, first, first + 1), is_here=True))

    def __iter__(self) -> Iterator[Batch]:
        tasks = self._settings.tasks(self.seed, self.epoch)
        return self._workers.run(itertools.islice(tasks, self.start, None))


BaseDataManager = DataManager
"""Name of the data manager in delira."""
