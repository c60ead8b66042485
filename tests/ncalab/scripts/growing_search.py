import logging
from pathlib import Path

import numpy as np
from small_data import get_emoji_image
from torch.utils.data import DataLoader

from delira_nca.ncalab import (
    GrowingNCADataset,
    GrowingNCAModel,
    ParameterSearch,
    ParameterSet,
    get_compute_device,
    print_mascot,
    print_NCALab_banner,
)


def search_growing_emoji(batch_size=2, hidden_channels=6):
    logging.basicConfig(level=logging.INFO)
    print_NCALab_banner()
    print_mascot("You are about to run a hyperparameter search.")
    device = get_compute_device("cuda:0")
    image = np.asarray(get_emoji_image())
    dataset = GrowingNCADataset(image, hidden_channels + 4, batch_size=batch_size)
    dataloader_train = DataLoader(dataset, batch_size=batch_size, shuffle=False)
    model_params = ParameterSet(
        # grid search parameters (iterable)
        fire_rate=[0.5, 0.8],
        num_learned_filters=[0, 2],
        # fixed parameters
        num_image_channels=4,
        num_hidden_channels=hidden_channels,
        use_alive_mask=True,
        training_timesteps=(4, 6),
    )
    trainer_params = ParameterSet(lr=[1e-3, 2e-3], max_epochs=2, model_path=Path("weights"))
    search = ParameterSearch(device, GrowingNCAModel, model_params, trainer_params)
    print(search.info())
    df = search(dataloader_train)
    print(df)
    df.to_csv("search_summary_growing_emoji.csv")
    assert len(df) == 8
    assert len(df[["fire_rate", "num_learned_filters", "lr"]].drop_duplicates()) == 8


if __name__ == "__main__":
    search_growing_emoji()
