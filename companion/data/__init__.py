"""Data as tensors: images, batches of them, 2-D densities that are known exactly, and images with known factors.

`load` gives MNIST, Fashion-MNIST, CIFAR-10 or scikit-learn's digits as one tensor on the device. `Batches` shuffles the
indices of such tensors. `toy_density` gives distributions in the plane with an exact `log_prob`. `scenes` draws small
images of a lit house whose factors (where the camera stands, where the light comes from, ...) are known, and
`nearest_scenes` finds the factors of an image. `landscapes` draws images of what a sentence can say, `captions` says
it, and `tokens` numbers the words. `binarize` draws black-and-white images from gray ones; `to_symmetric`
and `to_unit` move images from [0, 1] to [-1, 1] and back; `rejects` spoils images of digits; `shifted`, `blurred`,
`with_contrast` and `treated` leave what they show.
"""

from companion.data.batches import Batches
from companion.data.captions import DRAWS, MAX_WORDS, VOCABULARY, captions, tokens
from companion.data.images import (
    Copy,
    Images,
    binarize,
    cache_dir,
    describe,
    find,
    load,
    to_symmetric,
    to_unit,
)
from companion.data.landscapes import (
    ATTRIBUTES,
    HELD_OUT,
    Landscapes,
    is_held_out,
    landscapes,
    render_landscapes,
)
from companion.data.rejects import rejects
from companion.data.scenes import SCENE_FACTORS, Scenes, nearest_scenes, render_scenes, scenes
from companion.data.toys import TOYS, toy_density
from companion.data.treatments import blurred, shifted, treated, with_contrast

__all__ = [
    "ATTRIBUTES",
    "DRAWS",
    "HELD_OUT",
    "MAX_WORDS",
    "SCENE_FACTORS",
    "TOYS",
    "VOCABULARY",
    "Batches",
    "Copy",
    "Images",
    "Landscapes",
    "Scenes",
    "binarize",
    "blurred",
    "cache_dir",
    "captions",
    "describe",
    "find",
    "is_held_out",
    "landscapes",
    "load",
    "nearest_scenes",
    "rejects",
    "render_landscapes",
    "render_scenes",
    "scenes",
    "shifted",
    "to_symmetric",
    "to_unit",
    "tokens",
    "toy_density",
    "treated",
    "with_contrast",
]
