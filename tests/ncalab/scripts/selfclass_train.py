from pathlib import Path

import torch
from sklearn.model_selection import train_test_split
from small_data import Digits
from tensorboardX import SummaryWriter
from torch.utils.data import Subset

from delira_nca.ncalab import (
    BasicNCATrainer,
    SelfClassificationNCAModel,
    fix_random_seed,
    get_compute_device,
    print_mascot,
    print_NCALab_banner,
)

WEIGHTS_PATH = Path("weights")
WEIGHTS_PATH.mkdir(exist_ok=True)


def train_selfclass(batch_size=8, hidden_channels=8, max_epochs=3):
    print_NCALab_banner()
    print_mascot("While this model is training, you may like to read the article.")
    fix_random_seed()
    writer = SummaryWriter("events")
    digits = Digits(64)
    train_indices, _, val_indices, _ = train_test_split(
        range(len(digits)), digits.targets, stratify=digits.targets, test_size=int(len(digits) * 0.2)
    )
    loader_train = torch.utils.data.DataLoader(Subset(digits, train_indices), shuffle=True, batch_size=batch_size)
    loader_val = torch.utils.data.DataLoader(Subset(digits, val_indices), shuffle=True, batch_size=5)
    nca = SelfClassificationNCAModel(
        get_compute_device("cuda:0"),
        num_hidden_channels=hidden_channels,
        num_classes=3,
        training_timesteps=(8, 12),
        inference_timesteps=10,
    )
    trainer = BasicNCATrainer(nca, WEIGHTS_PATH / "selfclass_mnist", max_epochs=max_epochs)
    history = trainer.train(loader_train, loader_val, summary_writer=writer)
    writer.close()
    assert {"accuracy_macro", "accuracy_micro", "auroc", "f1"} <= history.metrics.keys(), history.metrics
    assert history.best_accuracy == max(epoch["val_f1"] for epoch in history.epochs)


if __name__ == "__main__":
    train_selfclass()
