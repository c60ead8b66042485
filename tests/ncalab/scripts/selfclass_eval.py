from pathlib import Path

import numpy as np
import torch
from small_data import Digits

from delira_nca.ncalab import (
    SelfClassificationNCAModel,
    VisualBinaryImageClassification,
    fix_random_seed,
    get_compute_device,
    release_random_seed,
)

FIGURES_PATH = Path("figures")
FIGURES_PATH.mkdir(exist_ok=True)
WEIGHTS_PATH = Path("weights")


def eval_selfclass(hidden_channels=8, num_digits=4):
    fix_random_seed()
    loader_test = torch.utils.data.DataLoader(Digits(16, seed=1), shuffle=True, batch_size=num_digits)
    release_random_seed()
    device = get_compute_device("cuda:0")
    image, label = next(iter(loader_test))
    x = image.to(device)
    nca = SelfClassificationNCAModel(
        device,
        num_hidden_channels=hidden_channels,
        fire_rate=0.8,
        num_classes=3,
        training_timesteps=(8, 12),
        inference_timesteps=10,
    )
    nca.load_state_dict(torch.load(WEIGHTS_PATH / "selfclass_mnist" / "best_model.pth", weights_only=True))
    nca.eval()
    prediction = nca.predict(x)
    vis = VisualBinaryImageClassification()
    fig = vis.show(nca, prediction.image_channels_np, prediction, label.detach().cpu().numpy())
    fig.savefig(FIGURES_PATH / "selfclass_mnist_predictions.png", dpi=60)
    out_hwc = np.argmax(prediction.output_channels_np, axis=1)
    mask = prediction.image_channels_np > 0.1
    assert out_hwc.shape == (num_digits, 12, 12)
    assert mask[:, 0].any((1, 2)).all()


if __name__ == "__main__":
    eval_selfclass()
