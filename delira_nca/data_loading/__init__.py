"""Where batches come from: datasets, samplers, and the manager that loads and augments in workers."""

from delira_nca.data_loading.data_manager import BatchGenerator, DataManager
from delira_nca.data_loading.dataset import (
    AbstractDataset,
    DictDataset,
    IterableDataset,
    SubsetDataset,
    as_dataset,
    repeat,
)
from delira_nca.data_loading.sampler import AbstractSampler, RandomSampler, SequentialSampler

__all__ = [
    "AbstractDataset",
    "AbstractSampler",
    "BatchGenerator",
    "DataManager",
    "DictDataset",
    "IterableDataset",
    "RandomSampler",
    "SequentialSampler",
    "SubsetDataset",
    "as_dataset",
    "repeat",
]
