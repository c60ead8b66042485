from pathlib import Path

import torch
from small_data import Polyps, to_tensors

from delira_nca.ncalab import (
    Animator,
    BinarySegmentationNCAModel,
    CascadeNCA,
    fix_random_seed,
    get_compute_device,
    print_NCALab_banner,
)

FIGURE_PATH = Path("figures")
FIGURE_PATH.mkdir(exist_ok=True)
WEIGHTS_PATH = Path("weights")


def eval_segmentation(hidden_channels=8):
    print_NCALab_banner()
    fix_random_seed()
    device = get_compute_device("cuda:0")
    dataset = Polyps(transform=to_tensors)
    loader = torch.utils.data.DataLoader(dataset, shuffle=False, batch_size=2, drop_last=True)
    nca = BinarySegmentationNCAModel(
        device,
        num_image_channels=3,
        num_hidden_channels=hidden_channels,
        pad_noise=True,
        fire_rate=0.8,
        use_temporal_encoding=True,
    )
    cascade = CascadeNCA(nca, [4, 2, 1], [8, 4, 4])
    cascade = torch.compile(cascade)
    cascade.load_state_dict(torch.load(WEIGHTS_PATH / "segmentation_kvasir_seg" / "best_model.pth", weights_only=True))
    seed = next(iter(loader))[0].to(device)
    animator = Animator(
        cascade,
        seed,
        overlay=True,
        interval=100,
        steps=sum(cascade.steps),
        hidden=True,
        show_input=True,
    )
    animator.save(FIGURE_PATH / "segmentation_kvasir_seg.gif")
    animator = Animator(cascade, seed, interval=100, steps=sum(cascade.steps), hidden=True)
    animator.save(FIGURE_PATH / "segmentation_kvasir_seg_hidden.gif")


if __name__ == "__main__":
    eval_segmentation()
