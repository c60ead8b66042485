from pathlib import Path

import torch

from delira_nca.ncalab import Animator, GrowingNCAModel, fix_random_seed, get_compute_device, print_NCALab_banner

FIGURE_PATH = Path("figures")
FIGURE_PATH.mkdir(exist_ok=True)
WEIGHTS_PATH = Path("weights")


def eval_growing_emoji(hidden_channels=12):
    print_NCALab_banner()
    fix_random_seed()
    device = get_compute_device("cuda:0")
    nca = GrowingNCAModel(
        device,
        num_hidden_channels=hidden_channels,
        use_alive_mask=True,
        lambda_hidden=1e-2,
        inference_timesteps=20,
    )
    nca = torch.compile(nca)
    nca.load_state_dict(torch.load(WEIGHTS_PATH / "ncalab_growing_emoji" / "last_model.pth", weights_only=True))

    seed = nca.make_seed(20, 20)
    animator = Animator(nca, seed, show_input=True, hidden=True)
    out_path = FIGURE_PATH / "growing_emoji.gif"
    animator.save(out_path)
    print(f"Done. You'll find the generated GIF in {out_path} .")


if __name__ == "__main__":
    eval_growing_emoji()
