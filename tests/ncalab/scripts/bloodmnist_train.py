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
fire_rate = 1.0
default_hidden_channels = 12
CLASSES = {"0": "red cells", "1": "green_cells", "2": "blue"}


def train_class_bloodmnist(batch_size=8, hidden_channels=default_hidden_channels, max_epochs=2):
    fix_random_seed()
    print_NCALab_banner()
    writer = SummaryWriter("events")
    device = get_compute_device("cuda:0")
    dataset_train = MedMNISTLike("train", transform=random_flip)
    y_train = dataset_train.labels.squeeze()
    class_sample_count_train = np.array([len(np.where(dataset_train.labels == t)[0]) for t in np.unique(y_train)])
    weight = 1.0 / class_sample_count_train
    sample_weight_train = [weight[int(t)].astype(float) for t in y_train]
    sampler_train = torch.utils.data.WeightedRandomSampler(
        sample_weight_train,
        num_samples=len(dataset_train),
        replacement=True,
    )
    loader_train = torch.utils.data.DataLoader(dataset_train, sampler=sampler_train, batch_size=batch_size)
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
        training_timesteps=8,
        inference_timesteps=8,
        use_classifier=True,
        lambda_hidden=1e-2,
    )
    trainer = BasicNCATrainer(
        nca,
        WEIGHTS_PATH / "classification_bloodmnist",
        batch_repeat=2,
        max_epochs=max_epochs,
        gradient_clipping=gradient_clipping,
    )
    history = trainer.train(loader_train, loader_val, loader_test, summary_writer=writer)
    writer.close()
    assert np.isfinite(history.loss).all()
    assert {"accuracy_macro", "accuracy_micro", "auroc", "f1"} <= history.test_metrics.keys()


if __name__ == "__main__":
    train_class_bloodmnist()
