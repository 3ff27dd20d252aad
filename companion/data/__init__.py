"""Data as tensors: pictures, batches of them, 2-D densities that are known exactly, and pictures with known causes.

`load` gives MNIST, Fashion-MNIST, CIFAR-10 or scikit-learn's digits as one tensor on the device. `Batches` shuffles the
indices of such tensors. `toy_density` gives distributions in the plane with an exact `log_prob`. `scenes` draws small
pictures of a lit house whose factors (where the camera stands, where the light comes from, ...) are known. `binarize`
draws black-and-white pictures from gray ones.
"""

from companion.data.batches import Batches
from companion.data.images import Copy, Images, binarize, cache_dir, describe, find, load
from companion.data.scenes import SCENE_FACTORS, Scenes, render_scenes, scenes
from companion.data.toys import TOYS, toy_density

__all__ = [
    "SCENE_FACTORS",
    "TOYS",
    "Batches",
    "Copy",
    "Images",
    "Scenes",
    "binarize",
    "cache_dir",
    "describe",
    "find",
    "load",
    "render_scenes",
    "scenes",
    "toy_density",
]
