"""Arguments of published models, as in ``BasicNCAModel(**presets.growing())``, and recipes of their training."""

from delira_nca.models.presets.classifying import self_classifying
from delira_nca.models.presets.growing import growing, isotropic, persistent, regenerating, steerable
from delira_nca.models.presets.medical import m3d_nca, med_nca, octree_nca
from delira_nca.models.presets.recipes import Recipe as Recipe
from delira_nca.models.presets.recipes import recipe as recipe
from delira_nca.models.presets.textures import micro_texture, texture
from delira_nca.models.presets.variants import attention, conditional, mixture

__all__ = [
    "attention",
    "conditional",
    "growing",
    "isotropic",
    "m3d_nca",
    "med_nca",
    "micro_texture",
    "mixture",
    "octree_nca",
    "persistent",
    "regenerating",
    "self_classifying",
    "steerable",
    "texture",
]
