from pathlib import Path

import torch
from pathmnist_train import (
    CLASSES,
    WEIGHTS_PATH,
    alive_mask,
    default_hidden_channels,
    fire_rate,
    pad_noise,
    use_temporal_encoding,
)
from small_data import MedMNISTLike, to_tensor

from delira_nca.ncalab import Animator, ClassificationNCAModel, fix_random_seed, get_compute_device

FIGURE_PATH = Path("figures")
FIGURE_PATH.mkdir(exist_ok=True)


def eval_class_pathmnist(hidden_channels=default_hidden_channels):
    fix_random_seed()
    device = get_compute_device("cuda:0")
    dataset_test = MedMNISTLike("test", count=10, transform=to_tensor)
    loader_test = torch.utils.data.DataLoader(dataset_test, shuffle=True, batch_size=4)
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
    nca.load_state_dict(torch.load(WEIGHTS_PATH / "classification_pathmnist" / "best_model.pth", weights_only=True))
    params = nca.num_trainable_parameters()
    print(f"Trainable parameters: {params}")
    nca = nca.to(device)
    metrics, _ = nca.validate(loader_test)
    seed = next(iter(loader_test))[0].to(device)
    animator = Animator(nca, seed, interval=100, hidden=True, show_input=True)
    animator.save(FIGURE_PATH / "classification_pathmnist.gif")
    print(metrics)
    assert list(metrics) == ["accuracy_macro", "accuracy_micro", "auroc", "f1"]
    assert all(0 <= value <= 1 for value in metrics.values())


if __name__ == "__main__":
    eval_class_pathmnist()
