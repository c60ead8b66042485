"""The data manager: draws, loads and augments the batches of an epoch, with or without worker processes."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from delira_nca.checks import require_whole
from delira_nca.data_loading.batch_builder import BatchBuilder
from delira_nca.data_loading.dataset import AbstractDataset, Batch, IndicesLike
from delira_nca.data_loading.loaders import LoadableLike, SampleSource, as_source, changed_source
from delira_nca.data_loading.sampler import AbstractSampler, SequentialSampler
from delira_nca.data_loading.settings import SETTABLE, Settings
from delira_nca.data_loading.workers import BatchWorkers
from delira_nca.errors import ConfigError, require_choice
from delira_nca.io.paths import absolute

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BaseDataManager", "BatchGenerator", "DataManager"]


class DataManager:
    """Draws samples, puts them together to batches and transforms these, in worker processes if wanted.

    Every batch is a function of seed, epoch and its index: it is bit for bit the same with 0, 1 or 8 workers, in an
    epoch that is run alone or after others. The global random generators of the process are left as they were.

    Parameters
    ----------
    data : a dataset, a dict of arrays with equal first axis, an iterable of dicts; or a data loader or an augmenter of
        batchgenerators, of which loader and transform are taken (see `LoaderSource`).
    batch_size : samples in a batch, at least 1. A loader knows its own.
    n_process_augmentation : worker processes; 0 builds the batches in this process. They are started at the first
        batch and live until `close`.
    transforms : what changes a batch, or ``None``. A transform of batchgenerators is called as
        ``transform(**batch)``, anything else as ``transform(batch)``; it returns a dict of arrays. It may draw from
        the global generators of Python, numpy and torch, which are seeded around it.
    sampler_cls : class derived from `AbstractSampler` that orders the samples.
    drop_last : whether an incomplete last batch is left out.
    seed : what all randomness is derived from, at least 0.
    prefetch : batches that each worker builds ahead.
    num_batches : batches in an epoch of a data loader that has no end.
    start_method : ``"fork"``, ``"spawn"`` or ``"forkserver"``; ``None`` is what the platform does. With the latter
        two, dataset and transforms must be picklable.
    timeout : seconds to wait for a batch of a worker before an error is raised; 0 waits for ever. The time that new
        processes take to start does not count.
    **sampler_kwargs : handed to the sampler, for example ``num_samples=100``.

    Raises
    ------
    ConfigError
        If a value cannot work, or ``drop_last`` would leave no batch.
    UnknownNameError
        If an argument is known neither here nor to the sampler.

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
                batch_size=batch_size,  # type: ignore[arg-type]  # None is refused, or replaced
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
        self._crew = BatchWorkers(
            BatchBuilder(settings.source, settings.transforms),
            num_workers=settings.n_process_augmentation,
            prefetch=settings.prefetch,
            start_method=settings.start_method,
            timeout=settings.timeout,
        )

    @property
    def dataset(self) -> AbstractDataset:
        """The samples; a ``ConfigError`` where a data loader keeps them to itself."""
        return self._settings.dataset

    @property
    def n_samples(self) -> int:
        """Number of samples in the dataset; of a loader without end, those of one epoch."""
        return self._settings.n_samples

    @property
    def n_batches(self) -> int:
        """Number of batches in one epoch."""
        return self._settings.n_batches

    @property
    def batch_size(self) -> int:
        """Samples in a batch."""
        return self._settings.batch_size

    @property
    def n_process_augmentation(self) -> int:
        """Number of worker processes."""
        return self._settings.n_process_augmentation

    @property
    def transforms(self) -> Callable[..., Any] | None:
        """What changes a batch, or ``None``."""
        return self._settings.transforms

    def get_batchgen(self, seed: int | None = None, *, epoch: int = 1, start: int = 0) -> BatchGenerator:
        """Batches of one epoch; they are built when the result is iterated, and anew at each iteration.

        Parameters
        ----------
        seed : in place of the manager's.
        epoch : number of the epoch, at least 0; order and augmentation differ from epoch to epoch.
        start : number of the first batch: those before it are not built, and the others are what they would be.

        Raises
        ------
        ConfigError
            If seed, epoch or start is not an integer of at least 0, or start is beyond the last batch.
        """
        seed = self._settings.seed if seed is None else seed
        require_whole("seed", seed, 0)
        require_whole("epoch", epoch, 0)
        require_whole("start", start, 0)
        if start > self.n_batches:
            raise ConfigError(f"an epoch has {self.n_batches} batches: none is left after the first {start}")
        return BatchGenerator(self._settings, self._crew, int(seed), int(epoch), int(start))

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
        """Draw one batch as training gets it, augmented, with its targets. It is built in this process.

        Parameters
        ----------
        epoch, index : which batch.
        seed : in place of the manager's.
        image_key, max_samples : see `delira_nca.data_loading.show.draw_batch`.
        path : where to save the figure too; the ending says the format.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ConfigError
            If there is no such batch, or no entry of it can be an image.
        MissingDependencyError
            Without matplotlib.
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
        """Manager of some samples of the same data, a view of them, with the same settings and workers of its own.

        Raises
        ------
        ConfigError
            If the indices do not fit (see `SubsetDataset`), or the settings do not fit so few samples.
        """
        subset = object.__new__(type(self))
        subset._use(replace(self._settings, source=SampleSource(self.dataset.get_subset(indices))))
        return subset

    def update_state_from_dict(self, new_state: Mapping[str, Any]) -> DataManager:
        """Change settings, all or, after an error, none. Running batch generators keep the old ones.

        Parameters
        ----------
        new_state : names of constructor arguments and their new values; what goes to the sampler stands in a dict
            ``"sampler_kwargs"``, which replaces the former one.

        Returns
        -------
        The manager itself.

        Raises
        ------
        UnknownNameError
            If a key is unknown; the nearest right one is named.
        ConfigError
            If a value cannot work.

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
        self._crew.retire()
        self._use(settings)
        return self

    def close(self) -> None:
        """End the worker processes, also of iterations that still run; a later iteration starts new ones."""
        self._crew.close()

    def __enter__(self) -> DataManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"_settings": self._settings}  # a copy starts workers of its own

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._use(state["_settings"])


class BatchGenerator:
    """The batches of one epoch: an iterable of dicts of arrays, with a length.

    It can be iterated again, left early, and iterated while another one is. Made by `DataManager.get_batchgen`.
    """

    def __init__(self, settings: Settings, crew: BatchWorkers, seed: int, epoch: int, start: int = 0) -> None:
        self._settings, self._crew = settings, crew
        self.seed, self.epoch, self.start = seed, epoch, start

    def __len__(self) -> int:
        return self._settings.n_batches - self.start

    def build(self, index: int) -> Batch:
        """Build one batch in this process: the one that iterating gives at this place."""
        tasks = self._settings.tasks(self.seed, self.epoch)
        first = self.start + index
        return next(self._crew.run(itertools.islice(tasks, first, first + 1), is_here=True))

    def __iter__(self) -> Iterator[Batch]:
        tasks = self._settings.tasks(self.seed, self.epoch)
        return self._crew.run(itertools.islice(tasks, self.start, None))


BaseDataManager = DataManager
"""Name of the data manager in delira."""
