"""Readers of common data layouts: folders of images and masks, nnU-Net, the Decathlon, MedMNIST."""

from delira_nca.data_loading.readers.cases import Case, CaseDataset
from delira_nca.data_loading.readers.decathlon import DecathlonDataset
from delira_nca.data_loading.readers.files import read_array, read_image, read_label
from delira_nca.data_loading.readers.medmnist import MedMNISTDataset
from delira_nca.data_loading.readers.nnunet import NNUNetDataset
from delira_nca.data_loading.readers.paired_folders import PairedFolderDataset
from delira_nca.data_loading.readers.resize import resize_image, resize_label
from delira_nca.data_loading.readers.splits_file import names_of, read_splits, write_splits

__all__ = [
    "Case",
    "CaseDataset",
    "DecathlonDataset",
    "MedMNISTDataset",
    "NNUNetDataset",
    "PairedFolderDataset",
    "names_of",
    "read_array",
    "read_image",
    "read_label",
    "read_splits",
    "resize_image",
    "resize_label",
    "write_splits",
]
