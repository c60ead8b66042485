"""Losses and metrics. They never broadcast; different shapes raise an error."""

from delira_nca.losses.depth import abs_rel, rmse, within_ratio
from delira_nca.losses.focal import focal, multiclass_focal
from delira_nca.losses.metric import RMSE, MacroAccuracy, MacroAUROC, MacroF1, Metric
from delira_nca.losses.rotation import rotation_invariant_mse
from delira_nca.losses.scores import accuracy, agreement, direction, macro_accuracy, psnr
from delira_nca.losses.segmentation import (
    dice_bce,
    dice_ce,
    dice_score,
    multiclass_dice,
    multiclass_dice_score,
    soft_dice,
)
from delira_nca.losses.squared import mse, per_sample_mse
from delira_nca.losses.state import cell_cross_entropy, hidden_penalty, one_hot_l2, overflow
from delira_nca.losses.structure import gradient_l1, shift_free_mse, ssim
from delira_nca.losses.texture import SlicedTransport, TextureLoss

__all__ = [
    "RMSE",
    "MacroAUROC",
    "MacroAccuracy",
    "MacroF1",
    "Metric",
    "SlicedTransport",
    "TextureLoss",
    "abs_rel",
    "accuracy",
    "agreement",
    "cell_cross_entropy",
    "dice_bce",
    "dice_ce",
    "dice_score",
    "direction",
    "focal",
    "gradient_l1",
    "hidden_penalty",
    "macro_accuracy",
    "mse",
    "multiclass_dice",
    "multiclass_dice_score",
    "multiclass_focal",
    "one_hot_l2",
    "overflow",
    "per_sample_mse",
    "psnr",
    "rmse",
    "rotation_invariant_mse",
    "shift_free_mse",
    "soft_dice",
    "ssim",
    "within_ratio",
]

for _name in set(__all__) - {
    "SlicedTransport",
    "TextureLoss",
    "RMSE",
    "MacroAUROC",
    "MacroAccuracy",
    "MacroF1",
    "Metric",
}:  # configurations name a function by this path, not by the module that defines it
    globals()[_name].__module__ = __name__
