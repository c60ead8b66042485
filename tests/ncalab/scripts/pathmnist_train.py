from pathlib import Path

import numpy as np
import torch
from small_data import MedMNISTLike, random_flip, to_tensor
from tensorboardX import SummaryWriter

from delira_nca.ncalab import (
    BasicNCATrainer,
    ClassificationNCAModel,
    fix_random_seed,
    get_compute_device,
    print_NCALab_banner,
)

WEIGHTS_PATH = Path("weights")
WEIGHTS_PATH.mkdir(exist_ok=True)

gradient_clipping = False
pad_noise = False
alive_mask = False
use_temporal_encoding = False
fire_rate = 0.8
default_hidden_channels = 12
CLASSES = {"0": "red cells", "1": "green_cells", "2": "blue"}


def train_class_pathmnist(batch_size=8, hidden_channels=default_hidden_channels, max_epochs=2):
    fix_random_seed()
    print_NCALab_banner()
    writer = SummaryWriter("events")
    device = get_compute_device("cuda:0")
    dataset_train = MedMNISTLike("train", transform=random_flip)
    loader_train = torch.utils.data.DataLoader(dataset_train, shuffle=True, batch_size=batch_size)
    loader_val = torch.utils.data.DataLoader(MedMNISTLike("val", transform=to_tensor), shuffle=True, batch_size=8)
    loader_test = torch.utils.data.DataLoader(MedMNISTLike("test", count=8, transform=to_tensor))
    nca = ClassificationNCAModel(
        device,
        num_image_channels=3,
        num_hidden_channels=hidden_channels,
        num_classes=len(CLASSES),
        use_alive_mask=alive_mask,
        fire_rate=fire_rate,
        pad_noise=pad_noise,
        use_temporal_encoding=use_temporal_encoding,
        class_names=list(CLASSES.values()),
        training_timesteps=(6, 10),
        inference_timesteps=6,
        use_classifier=True,
    )
    trainer = BasicNCATrainer(
        nca,
        WEIGHTS_PATH / "classification_pathmnist",
        batch_repeat=2,
        max_epochs=max_epochs,
        gradient_clipping=gradient_clipping,
    )
    history = trainer.train(loader_train, loader_val, loader_test, summary_writer=writer)
    writer.close()
    assert np.isfinite(history.loss).all()
    assert {"accuracy_macro", "accuracy_micro", "auroc", "f1"} <= history.test_metrics.keys()


if __name__ == "__main__":
    train_class_pathmnist()
