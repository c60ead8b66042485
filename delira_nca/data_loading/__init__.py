"""Data loading: datasets, splits, samplers, and the data manager with its workers.

Modules are imported on first use: datasets, splits and samplers do not need torch.
"""

from typing import TYPE_CHECKING

from delira_nca._lazy import lazy_names

if TYPE_CHECKING:
    from delira_nca.data_loading.background import BackgroundProc, SharedQ
    from delira_nca.data_loading.data_manager import BaseDataManager, BatchGenerator, DataManager
    from delira_nca.data_loading.dataset import (
        AbstractDataset,
        DictDataset,
        IterableDataset,
        SubsetDataset,
        as_dataset,
        repeat,
    )
    from delira_nca.data_loading.datasets import (
        BaseCacheDataset,
        BaseExtendCacheDataset,
        BaseLazyDataset,
        CachedDataset,
        ConcatDataset,
    )
    from delira_nca.data_loading.failures import BatchError
    from delira_nca.data_loading.growing import growing_dataset
    from delira_nca.data_loading.loaders import LoadSample, LoadSampleLabel
    from delira_nca.data_loading.normalize import norm_range, norm_zero_mean_unit_std
    from delira_nca.data_loading.precomputed import precompute
    from delira_nca.data_loading.readers import (
        CaseDataset,
        DecathlonDataset,
        MedMNISTDataset,
        NNUNetDataset,
        PairedFolderDataset,
    )
    from delira_nca.data_loading.sampler import (
        AbstractSampler,
        BatchSampler,
        PrevalenceRandomSampler,
        RandomSampler,
        RandomSamplerNoReplacement,
        RandomSamplerWithReplacement,
        SequentialSampler,
        WeightedRandomSampler,
    )
    from delira_nca.data_loading.show import DebugDisabled, DebugEnabled, debug_mode
    from delira_nca.data_loading.splits import kfold, kfold_indices, train_val_indices, train_val_split
    from delira_nca.data_loading.texture import texture_dataset

__all__ = [
    "AbstractDataset",
    "AbstractSampler",
    "BackgroundProc",
    "BaseCacheDataset",
    "BaseDataManager",
    "BaseExtendCacheDataset",
    "BaseLazyDataset",
    "BatchError",
    "BatchGenerator",
    "BatchSampler",
    "CachedDataset",
    "CaseDataset",
    "ConcatDataset",
    "DataManager",
    "DebugDisabled",
    "DebugEnabled",
    "DecathlonDataset",
    "DictDataset",
    "IterableDataset",
    "LoadSample",
    "LoadSampleLabel",
    "MedMNISTDataset",
    "NNUNetDataset",
    "PairedFolderDataset",
    "PrevalenceRandomSampler",
    "RandomSampler",
    "RandomSamplerNoReplacement",
    "RandomSamplerWithReplacement",
    "SequentialSampler",
    "SharedQ",
    "SubsetDataset",
    "WeightedRandomSampler",
    "as_dataset",
    "debug_mode",
    "growing_dataset",
    "kfold",
    "kfold_indices",
    "norm_range",
    "norm_zero_mean_unit_std",
    "precompute",
    "repeat",
    "texture_dataset",
    "train_val_indices",
    "train_val_split",
]

_HOMES = {
    "background": ("BackgroundProc", "SharedQ"),
    "data_manager": ("BaseDataManager", "BatchGenerator", "DataManager"),
    "dataset": ("AbstractDataset", "DictDataset", "IterableDataset", "SubsetDataset", "as_dataset", "repeat"),
    "datasets": ("BaseCacheDataset", "BaseExtendCacheDataset", "BaseLazyDataset", "CachedDataset", "ConcatDataset"),
    "failures": ("BatchError",),
    "growing": ("growing_dataset",),
    "loaders": ("LoadSample", "LoadSampleLabel"),
    "normalize": ("norm_range", "norm_zero_mean_unit_std"),
    "precomputed": ("precompute",),
    "readers": ("CaseDataset", "DecathlonDataset", "MedMNISTDataset", "NNUNetDataset", "PairedFolderDataset"),
    "sampler": (
        "AbstractSampler",
        "BatchSampler",
        "PrevalenceRandomSampler",
        "RandomSampler",
        "RandomSamplerNoReplacement",
        "RandomSamplerWithReplacement",
        "SequentialSampler",
        "WeightedRandomSampler",
    ),
    "show": ("DebugDisabled", "DebugEnabled", "debug_mode"),
    "splits": ("kfold", "kfold_indices", "train_val_indices", "train_val_split"),
    "texture": ("texture_dataset",),
}

__getattr__, __dir__ = lazy_names(__name__, {name: home for home, names in _HOMES.items() for name in names})
