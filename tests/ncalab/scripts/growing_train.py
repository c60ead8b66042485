from pathlib import Path

import numpy as np
import torch
from small_data import get_emoji_image
from tensorboardX import SummaryWriter
from torch.utils.data import DataLoader

from delira_nca.ncalab import (
    BasicNCATrainer,
    GrowingNCADataset,
    GrowingNCAModel,
    Pool,
    fix_random_seed,
    get_compute_device,
    print_NCALab_banner,
)

WEIGHTS_PATH = Path("weights")
WEIGHTS_PATH.mkdir(exist_ok=True)


def train_growing_emoji(batch_size=4, hidden_channels=12, max_epochs=40):
    print_NCALab_banner()
    fix_random_seed()
    writer = SummaryWriter("events")
    device = get_compute_device("cuda:0")
    pool = Pool(2, damage=True)
    nca = GrowingNCAModel(
        device,
        num_hidden_channels=hidden_channels,
        use_alive_mask=True,
        lambda_hidden=1e-2,
        training_timesteps=(16, 24),
    )
    nca = torch.compile(nca)

    image = np.asarray(get_emoji_image())
    dataset = GrowingNCADataset(image, nca.num_channels, batch_size=batch_size)
    dataloader_train = DataLoader(dataset, batch_size=batch_size, shuffle=False)

    trainer = BasicNCATrainer(nca, WEIGHTS_PATH / "ncalab_growing_emoji", max_epochs=max_epochs, pool=pool)
    history = trainer.train(dataloader_train, summary_writer=writer, save_every=20)
    writer.close()
    print(f"loss {history.loss[0]:.4f} -> {np.mean(history.loss[-5:]):.4f}")
    assert np.mean(history.loss[-5:]) < history.loss[0]


if __name__ == "__main__":
    train_growing_emoji()
