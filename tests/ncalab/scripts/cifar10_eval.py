import pprint

import torch
from cifar10_train import TASK_PATH, WEIGHTS_PATH, default_hidden_channels, make_cascade
from small_data import CIFARLike, to_tensor

from delira_nca.ncalab import Animator, fix_random_seed, get_compute_device

FIGURE_PATH = TASK_PATH / "figures"
FIGURE_PATH.mkdir(exist_ok=True)


def eval_class_cifar10(hidden_channels=default_hidden_channels):
    fix_random_seed()
    device = get_compute_device("cuda:0")
    testset = CIFARLike("test", transform=to_tensor)
    loader_test = torch.utils.data.DataLoader(testset, batch_size=8, shuffle=False, num_workers=1)
    nca, cascade = make_cascade(device, hidden_channels)
    cascade.load_state_dict(torch.load(WEIGHTS_PATH / "classification_cifar10" / "best_model.pth", weights_only=True))
    print(f"Trainable parameters: {cascade.num_trainable_parameters()}")
    metrics, _ = cascade.validate(loader_test)
    seed = next(iter(loader_test))[0].to(device)
    animator = Animator(nca, seed, interval=100, show_input=True, hidden=True)
    animator.save(FIGURE_PATH / "classification_cifar10.gif")
    pprint.pprint(metrics)
    assert set(metrics) == {"accuracy_macro", "accuracy_micro", "auroc", "f1"}


if __name__ == "__main__":
    eval_class_cifar10()
