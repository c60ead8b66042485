from pathlib import Path

import numpy as np
import torch
from small_data import CIFARLike, random_flip, to_tensor
from tensorboardX import SummaryWriter
from torch.utils.data.sampler import SubsetRandomSampler

from delira_nca.ncalab import (
    BasicNCATrainer,
    CascadeNCA,
    ClassificationNCAModel,
    fix_random_seed,
    get_compute_device,
    print_NCALab_banner,
)

TASK_PATH = Path(".").resolve()
WEIGHTS_PATH = TASK_PATH / "weights"
WEIGHTS_PATH.mkdir(exist_ok=True)

gradient_clipping = False
pad_noise = True
alive_mask = False
use_temporal_encoding = True
fire_rate = 0.5
default_hidden_channels = 10
class_names = ["plane", "car", "bird"]


def make_cascade(device, hidden_channels):
    nca = ClassificationNCAModel(
        device,
        filter_padding="circular",
        num_image_channels=3,
        num_hidden_channels=hidden_channels,
        num_classes=len(class_names),
        use_alive_mask=alive_mask,
        fire_rate=fire_rate,
        pad_noise=pad_noise,
        use_temporal_encoding=use_temporal_encoding,
        class_names=class_names,
        training_timesteps=12,
        inference_timesteps=12,
        use_classifier=True,
        lambda_hidden=1e-2,
    )
    return nca, torch.compile(CascadeNCA(nca, [4, 2, 1], [6, 4, 4]))


def train_class_cifar10(batch_size=8, hidden_channels=default_hidden_channels, max_epochs=2):
    writer = SummaryWriter("events")
    print_NCALab_banner()
    fix_random_seed()
    train_dataset = CIFARLike("train", count=40, transform=random_flip)
    val_dataset = CIFARLike("train", count=40, transform=to_tensor)
    indices = list(range(len(train_dataset)))
    split = int(np.floor(0.2 * len(train_dataset)))
    np.random.shuffle(indices)
    train_idx, val_idx = indices[split:], indices[:split]
    loader_train = torch.utils.data.DataLoader(
        train_dataset,
        batch_size=batch_size,
        num_workers=2,
        sampler=SubsetRandomSampler(train_idx),
    )
    loader_val = torch.utils.data.DataLoader(
        val_dataset, batch_size=batch_size, num_workers=1, sampler=SubsetRandomSampler(val_idx)
    )
    _, cascade = make_cascade(get_compute_device("cuda:0"), hidden_channels)
    trainer = BasicNCATrainer(
        cascade,
        WEIGHTS_PATH / "classification_cifar10",
        batch_repeat=2,
        max_epochs=max_epochs,
        gradient_clipping=gradient_clipping,
    )
    trainer.train(loader_train, loader_val, summary_writer=writer)
    writer.close()


if __name__ == "__main__":
    train_class_cifar10()
