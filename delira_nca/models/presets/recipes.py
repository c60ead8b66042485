"""Training settings of the published models."""

from __future__ import annotations

from dataclasses import dataclass, replace

from delira_nca.errors import require_choice

__all__ = ["RECIPES", "Recipe", "recipe"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Training settings of one preset. None, 0 or an empty tuple means that the setting is not used or not published.

    Attributes
    ----------
    steps : tuple of int
        Range ``(low, high)`` of the number of steps, without ``high``; for a pyramid, the number of steps of each level
        from coarse to fine.
    batch_size, iterations, epochs : int or None
        Batch size, and number of iterations or epochs.
    losses : tuple of str
        Names of the losses in :mod:`delira_nca.losses` that are added.
    terms : tuple of str
        Names of callbacks that observe states of the roll-out, most of which add losses.
    optimizer : str
        Name of the optimizer class of torch.
    learning_rate, betas : float, tuple
        Arguments of the optimizer.
    schedule : str or None
        ``"multi_step"`` (multiply by ``decay`` at each of the ``milestones``), ``"exponential"`` (multiply by ``decay``
        in every iteration), ``"cyclic"`` (triangles between ``lowest_rate`` and ``learning_rate`` that rise over
        ``period`` iterations; each has half the height of the previous one) or ``"linear"`` (decrease to ``decay``
        times the rate over ``period``).
    milestones, decay, lowest_rate, period
        Parameters of the schedule.
    gradients : str or None
        ``"normalise"`` divides the gradient of each tensor by its norm; ``"clip"`` limits the norm of all gradients to
        ``clip_norm``.
    clip_norm : float or None
        Largest norm of all gradients.
    pool_size : int
        Number of states in the pool.
    num_seeds, seed_every : int
        Number of samples per batch that are reset to the seed, and the interval in iterations.
    num_damaged, damage_every : int
        Number of samples per batch that are damaged, and the interval in iterations.
    damage_radius : tuple or None
        Range of the radius of the damage, where the grid extends from -1 to 1.
    fresh_share, mutated_share : float
        Fraction of a batch that is reset, and fraction that receives another input.
    reseed_dead : bool
        Whether dead states of the pool are reset.
    calls_per_batch : int
        Number of training steps per batch. Each continues from the states of the previous one.
    overflow_limit, overflow_squared : float or None, bool
        Absolute value above which states are penalised, and whether the excess is squared.
    activity_weight : float or None
        Weight of the activity term.
    mask_ratio : float or None
        Fraction of the input that is masked.
    ema : float or None
        Decay of the moving average of the weights, per epoch.
    """

    steps: tuple[int, ...]
    losses: tuple[str, ...]
    terms: tuple[str, ...] = ()
    batch_size: int | None = None
    iterations: int | None = None
    epochs: int | None = None
    optimizer: str = "Adam"
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: str | None = None
    milestones: tuple[int, ...] = ()
    decay: float = 1.0
    lowest_rate: float | None = None
    period: int | None = None
    gradients: str | None = None
    clip_norm: float | None = None
    pool_size: int = 0
    num_seeds: int = 0
    seed_every: int = 1
    num_damaged: int = 0
    damage_every: int = 1
    damage_radius: tuple[float, float] | None = None
    fresh_share: float = 0.0
    mutated_share: float = 0.0
    reseed_dead: bool = False
    calls_per_batch: int = 1
    overflow_limit: float | None = None
    overflow_squared: bool = False
    activity_weight: float | None = None
    mask_ratio: float | None = None
    ema: float | None = None


_GROWING = Recipe(
    steps=(64, 96),
    losses=("mse",),
    batch_size=8,
    iterations=8000,
    learning_rate=2e-3,
    schedule="multi_step",
    milestones=(2000,),
    decay=0.1,
    gradients="normalise",
)
_PERSISTENT = replace(_GROWING, pool_size=1024, num_seeds=1)
_TEXTURE = Recipe(
    steps=(32, 96),
    losses=("SlicedTransport", "overflow"),
    batch_size=4,
    iterations=5000,
    schedule="multi_step",
    milestones=(1000, 2000),
    decay=0.3,
    gradients="normalise",
    pool_size=256,
    num_seeds=1,
    seed_every=8,
    overflow_limit=1.0,
)
_TURNING = Recipe(
    steps=(64, 96),
    losses=("rotation_invariant_mse",),
    terms=("IntermediateSupervision", "RolloutLoss", "ActivityLoss"),
    batch_size=8,
    iterations=50000,
    schedule="cyclic",
    lowest_rate=1e-5,
    period=2000,
    gradients="normalise",
    pool_size=256,
    num_seeds=1,
    seed_every=6,
    num_damaged=1,
    damage_every=6,
    reseed_dead=True,
    overflow_limit=2.0,
    activity_weight=10.0,
)
_MEDICAL = Recipe(
    steps=(64, 64),
    losses=("dice_bce",),
    batch_size=48,
    epochs=1000,
    learning_rate=16e-4,
    betas=(0.5, 0.5),
    schedule="exponential",
    decay=0.9999,
)

RECIPES: dict[str, Recipe] = {
    "growing": _GROWING,
    "persistent": _PERSISTENT,
    "regenerating": replace(_PERSISTENT, num_damaged=3, damage_radius=(0.1, 0.4)),
    "mixture": _PERSISTENT,
    "isotropic": _TURNING,
    "steerable": _TURNING,
    "texture": _TEXTURE,
    "micro_texture": replace(
        _TEXTURE,
        steps=(32, 128),
        iterations=10000,
        milestones=(1000, 4000),
        overflow_squared=True,
        terms=("StateGradientNormalization",),
    ),
    "self_classifying": Recipe(
        steps=(20, 21),
        losses=("one_hot_l2",),
        batch_size=16,
        iterations=100000,
        schedule="multi_step",
        milestones=(30000, 70000),
        decay=0.1,
        gradients="normalise",
        pool_size=160,
        fresh_share=0.25,
        mutated_share=0.25,
    ),
    "conditional": Recipe(
        steps=(48, 97),
        losses=("mse",),
        learning_rate=2e-3,
        schedule="multi_step",
        milestones=(5000,),
        decay=0.3,
        gradients="normalise",
        pool_size=512,
        calls_per_batch=2,
        reseed_dead=True,
    ),
    "attention": Recipe(
        steps=(32, 33),
        losses=("mse",),
        batch_size=4,
        schedule="linear",
        decay=0.1,
        period=4096,
        gradients="clip",
        clip_norm=1.0,
        pool_size=1024,
        mask_ratio=0.5,
    ),
    "med_nca": _MEDICAL,
    "m3d_nca": replace(_MEDICAL, steps=(10, 10), losses=("soft_dice", "focal"), batch_size=4),
    "octree_nca": replace(
        _MEDICAL, steps=(20, 5, 5, 5, 5), batch_size=3, epochs=2000, betas=(0.9, 0.99), decay=0.9999**8, ema=0.99
    ),
}
"""Recipes by the name of the preset."""


def recipe(preset: str) -> Recipe:
    """Return the published training settings of a preset.

    Parameters
    ----------
    preset : str
        Name of the preset.

    Raises
    ------
    UnknownNameError
        If the preset is unknown. The message contains the most similar name.

    Examples
    --------
    >>> recipe("persistent").pool_size, recipe("growing").pool_size
    (1024, 0)
    """
    require_choice("preset", preset, RECIPES)
    return RECIPES[preset]
