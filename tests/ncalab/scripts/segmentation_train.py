from pathlib import Path

import torch
from sklearn.model_selection import train_test_split
from small_data import Polyps, to_tensors
from tensorboardX import SummaryWriter
from torch.utils.data import Subset

from delira_nca.ncalab import (
    BasicNCATrainer,
    BinarySegmentationNCAModel,
    CascadeNCA,
    EarlyStopping,
    fix_random_seed,
    get_compute_device,
    print_NCALab_banner,
)

WEIGHTS_PATH = Path("weights")
WEIGHTS_PATH.mkdir(exist_ok=True)


def train_segmentation(batch_size=4, hidden_channels=8, max_epochs=3):
    writer = SummaryWriter("events")
    print_NCALab_banner()
    fix_random_seed()
    device = get_compute_device("cuda:0")
    nca = BinarySegmentationNCAModel(
        device,
        num_image_channels=3,
        num_hidden_channels=hidden_channels,
        pad_noise=True,
        fire_rate=0.8,
        use_temporal_encoding=True,
    )
    cascade = CascadeNCA(nca, [4, 2, 1], [6, 4, 4])
    cascade = torch.compile(cascade)
    dataset = Polyps(transform=to_tensors)
    train_indices, val_indices, _, _ = train_test_split(
        range(len(dataset)), dataset.image_filenames, test_size=int(len(dataset) * 0.2)
    )
    train_split, val_split = Subset(dataset, train_indices), Subset(dataset, val_indices)
    assert isinstance(val_split.dataset, Polyps)
    loader_train = torch.utils.data.DataLoader(train_split, shuffle=True, batch_size=batch_size)
    loader_val = torch.utils.data.DataLoader(val_split, shuffle=True, batch_size=batch_size)
    trainer = BasicNCATrainer(cascade, WEIGHTS_PATH / "segmentation_kvasir_seg", max_epochs=max_epochs)
    history = trainer.train(
        loader_train,
        loader_val,
        summary_writer=writer,
        save_every=1,
        earlystopping=EarlyStopping(50),
    )
    writer.close()
    assert 0 <= history.best_accuracy <= 1
    assert {"dice", "bce", "hidden"} <= history.epochs[0].keys()


if __name__ == "__main__":
    train_segmentation()
