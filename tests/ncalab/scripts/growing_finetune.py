from pathlib import Path

import numpy as np
from small_data import get_emoji_image
from tensorboardX import SummaryWriter
from torch.utils.data import DataLoader

from delira_nca.ncalab import (
    BasicNCATrainer,
    GrowingNCADataset,
    GrowingNCAModel,
    fix_random_seed,
    get_compute_device,
    print_mascot,
    print_NCALab_banner,
)

WEIGHTS_PATH = Path("weights")
WEIGHTS_PATH.mkdir(exist_ok=True)


def finetune_growing_emoji(batch_size=4, hidden_channels=12):
    print_NCALab_banner()
    print_mascot("You're about to finetune a pre-trained NCA\nby adjusting only its final layer.\n")
    fix_random_seed()
    device = get_compute_device("cuda:0")
    nca = GrowingNCAModel(
        device,
        num_hidden_channels=hidden_channels,
        use_alive_mask=True,
        num_learned_filters=0,
        fire_rate=0.5,
        training_timesteps=16,
    )
    dataset_first = GrowingNCADataset(np.asarray(get_emoji_image(0)), nca.num_channels, batch_size=batch_size)
    loader_first = DataLoader(dataset_first, batch_size=batch_size, shuffle=False, drop_last=True)
    writer = SummaryWriter("events/pretraining")
    trainer = BasicNCATrainer(nca, WEIGHTS_PATH / "growing_emoji_finetuned")
    trainer.max_epochs = 12
    trainer.train(loader_first, summary_writer=writer, save_every=5)
    writer.close()
    first = {name: value.clone() for name, value in nca.state_dict().items()}

    dataset_second = GrowingNCADataset(np.asarray(get_emoji_image(1)), nca.num_channels, batch_size=batch_size)
    loader_second = DataLoader(dataset_second, batch_size=batch_size, shuffle=False)
    nca.finetune()
    writer = SummaryWriter("events/finetuning")
    trainer.max_epochs = 6
    trainer.train(loader_second, summary_writer=writer, save_every=3)
    writer.close()
    changed = {name for name, value in nca.state_dict().items() if not (value == first[name]).all()}
    assert changed == {"rule.network.2.weight"}, changed


if __name__ == "__main__":
    finetune_growing_emoji()
