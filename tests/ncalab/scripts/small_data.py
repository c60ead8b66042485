"""Small data in the forms of the data sets that NCALab's scripts read."""

import numpy as np
import torch
from torch.utils.data import Dataset


def get_emoji_image(number=0, size=16):
    """RGBA picture from 0 to 255: a disc (0) or a ring (1) on a transparent background."""
    axis = np.arange(size) - (size - 1) / 2
    distance = np.hypot(*np.meshgrid(axis, axis))
    inside = (distance < size / 4) & (distance > (0 if number == 0 else size / 8))
    image = np.zeros((size, size, 4), np.uint8)
    image[inside] = (220, 60, 40, 255) if number == 0 else (40, 90, 220, 255)
    return image


class Digits(Dataset):
    """Grey pictures of a bar that stands (class 0), lies (1) or both (2), and integer labels, like MNIST."""

    def __init__(self, count, side=12, seed=0):
        rng = np.random.default_rng(seed)
        self.targets = torch.tensor(rng.integers(0, 3, count))
        self.pictures = np.zeros((count, 1, side, side), np.float32)
        for picture, target in zip(self.pictures, self.targets, strict=True):
            place = rng.integers(3, side - 3)
            if target != 1:
                picture[0, 2:-2, place] = 1.0
            if target != 0:
                picture[0, place, 2:-2] = 1.0

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return torch.from_numpy(self.pictures[index]), int(self.targets[index])


class MedMNISTLike(Dataset):
    """RGB pictures with one channel brighter, and labels of shape (1,), like MedMNIST."""

    def __init__(self, split, num_classes=3, count=24, side=16, transform=None):
        rng = np.random.default_rng({"train": 0, "val": 1, "test": 2}[split])
        self.labels = rng.integers(0, num_classes, (count, 1))
        self.labels[:num_classes, 0] = range(num_classes)
        self.imgs = rng.integers(0, 80, (count, side, side, 3)).astype(np.uint8)
        for image, (label,) in zip(self.imgs, self.labels, strict=True):
            image[..., label % 3] += 120
        self.transform = transform

    def __len__(self):
        return len(self.imgs)

    def __getitem__(self, index):
        image = self.imgs[index]
        return image if self.transform is None else self.transform(image), self.labels[index]


class CIFARLike(MedMNISTLike):
    """RGB pictures and integer labels, like CIFAR-10."""

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image, int(label[0])


def to_tensor(image):
    """Channels-first floats around zero, as torchvision's transforms make them."""
    return (torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1) - 0.5) / 0.225


def random_flip(image):
    """As `to_tensor`, with a flip drawn from NumPy's global generator."""
    return to_tensor(image[:, ::-1].copy() if np.random.random() < 0.5 else image)


class Polyps(Dataset):
    """Pictures of bright discs and their masks, in the dicts of albumentations: no channel for the mask."""

    def __init__(self, count=12, side=16, transform=None):
        rng = np.random.default_rng(0)
        axis = np.arange(side)
        self.image_filenames = [f"{number:02d}.jpg" for number in range(count)]
        self.images, self.masks = [], []
        for _ in range(count):
            y, x = rng.integers(4, side - 4, 2)
            mask = ((axis[:, None] - y) ** 2 + (axis[None] - x) ** 2 < 12).astype(np.float32)
            self.masks.append(mask)
            self.images.append((0.6 * mask[..., None] + 0.3 * rng.random((side, side, 3))).astype(np.float32))
        self.transform = transform

    def __len__(self):
        return len(self.image_filenames)

    def __getitem__(self, index):
        sample = {"image": self.images[index], "mask": self.masks[index]}
        sample = self.transform(**sample)
        return sample["image"], sample["mask"]


def to_tensors(image, mask):
    """Like ToTensorV2 of albumentations: the image with its channels first, the mask as it is."""
    return {"image": torch.from_numpy(image).permute(2, 0, 1), "mask": torch.from_numpy(mask)}
