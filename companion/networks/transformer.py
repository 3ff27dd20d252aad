"""A diffusion transformer that reads: patches of an image attend to each other and to the words of a sentence.

Throughout, h are vectors of `width` numbers: one for each patch, or for each word. Those of words may be narrower.
"""

from typing import cast

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor, nn
from torch.nn import functional as F

from companion import checks
from companion.networks.embeddings import SinusoidalEmbedding
from companion.networks.mlp import mlp
from companion.networks.residual import start_at_zero


class VectorAttention(nn.Module):
    """Every vector of h looks at all vectors of `seen`, in `heads` independent parts.

    Args:
        width: of the vectors of h.
        heads: independent parts of these.
        seen: width of the vectors that are looked at, if it is another.

    Raises:
        ValueError: if `heads` does not divide `width`.

    Source: Vaswani et al. 2017, section 3.2. Book: chapter 14.
    """

    def __init__(self, width: int, heads: int = 4, seen: int | None = None) -> None:
        seen = width if seen is None else seen
        checks.at_least(1, width=width, heads=heads, seen=seen)
        if width % heads:
            raise ValueError(f"heads must divide width, {width}; {heads} was given")
        super().__init__()
        self.heads = heads
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(seen, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, h: Float[Tensor, "batch num width"], seen: Float[Tensor, "batch num_seen seen_width"]
    ) -> Float[Tensor, "batch num width"]:
        """What each vector of h gathers."""
        q = self.query(h).unflatten(2, (self.heads, -1)).transpose(1, 2)
        k, v = self.key_value(seen).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        # On a CPU, for so few vectors, faster than torch's fused function.
        attention = (q * q.shape[-1] ** -0.5 @ k.mT).softmax(-1)
        return cast(Tensor, self.out((attention.to(v) @ v).transpose(1, 2).flatten(2)))


class WordBlock(nn.Module):
    """h + attention(norm(h)), and then h + mlp(norm(h)): how words look at each other.

    Source: Vaswani et al. 2017, normalized as in Xiong et al. 2020. Book: chapter 14.
    """

    def __init__(self, width: int, heads: int = 4, hidden: int = 3) -> None:
        checks.at_least(1, width=width, hidden=hidden)
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attend = VectorAttention(width, heads)
        self.mlp = mlp([width, hidden * width, width], nn.SiLU)

    def forward(self, h: Float[Tensor, "batch num width"]) -> Float[Tensor, "batch num width"]:
        """The words, each with what it has seen of the others."""
        seen = self.norms[0](h)
        h = h + self.attend(seen, seen)
        return h + self.mlp(self.norms[1](h))


class PatchBlock(nn.Module):
    """Patches look at each other, at the words, and think; the time scales and shifts what goes in and comes out.

    The six vectors of a time, shift, scale and gate of the first and of the last branch, are the same in all blocks
    but for a table of each block. All branches start at zero.

    Source: Peebles & Xie 2023; words and table as in Chen et al. 2024 (PixArt). Book: chapter 14.
    """

    def __init__(self, width: int, word_width: int, heads: int = 4, hidden: int = 3) -> None:
        checks.at_least(1, width=width, hidden=hidden)
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(3))
        self.attend = VectorAttention(width, heads)
        self.read = VectorAttention(width, heads, word_width)
        start_at_zero(nn.Sequential(self.read.out))
        self.mlp = mlp([width, hidden * width, width], nn.SiLU)
        self.table = nn.Parameter(torch.zeros(6, width))

    def forward(
        self,
        h: Float[Tensor, "batch num width"],
        words: Float[Tensor, "batch num_words word_width"],
        e: Float[Tensor, "batch 6 width"],
    ) -> Float[Tensor, "batch num width"]:
        """The patches after the three branches."""
        shift, scale, gate, last_shift, last_scale, last_gate = (e + self.table)[:, :, None].unbind(
            1
        )
        seen = shift + (1 + scale) * self.norms[0](h)
        h = h + gate * self.attend(seen, seen)
        h = h + self.read(self.norms[1](h), words)
        return h + last_gate * self.mlp(last_shift + (1 + last_scale) * self.norms[2](h))


class TextTransformer(nn.Module):
    """A network of a noisy image, or of latents like one, a time and the words of a sentence.

    Its output starts at zero. A sentence is `max_words` numbers of words, of which 0 is no word; without any word it
    says nothing, and means any image.

    Args:
        image_shape: channels, height, width.
        num_words: in the vocabulary.
        max_words: of a sentence.
        patch: side of the squares that the image is cut into; one vector each.
        width: of the vectors of patches.
        word_width: of those of words.
        blocks: through which the patches go.
        word_blocks: through which the words go before.
        heads: of every attention.

    Raises:
        ValueError: if a size is below 1, `patch` does not divide the sides, `heads` does not divide a width, or `width`
            is no multiple of 4; from calls, if a shape does not fit, or a number is of no word.

    Source: Peebles & Xie 2023; Chen et al. 2024 (PixArt). Book: chapter 14.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (4, 8, 8),
        num_words: int = 66,
        max_words: int = 24,
        patch: int = 2,
        width: int = 160,
        word_width: int = 64,
        blocks: int = 5,
        word_blocks: int = 2,
        heads: int = 4,
    ) -> None:
        checks.sizes(3, image_shape=image_shape)
        checks.at_least(1, num_words=num_words, max_words=max_words, patch=patch)
        checks.at_least(1, blocks=blocks, word_blocks=word_blocks, word_width=word_width)
        checks.at_least(4, width=width)
        channels, *sides = image_shape
        if len(sides) != 2 or width % 4:
            raise ValueError(
                "image_shape must be (channels, height, width), and width a multiple of 4; "
                f"{tuple(image_shape)} and {width} were given"
            )
        if any(side % patch for side in sides):
            raise ValueError(f"patch must divide the sides, {tuple(sides)}; {patch} was given")
        super().__init__()
        self.image_shape, self.patch = tuple(image_shape), patch
        self.num_words, self.max_words = num_words, max_words
        num, size = sides[0] * sides[1] // patch**2, channels * patch**2
        self.words = nn.Embedding(num_words + 1, word_width)
        self.word_places = nn.Parameter(0.02 * torch.randn(max_words, word_width))
        self.word_blocks = nn.ModuleList(WordBlock(word_width, heads) for _ in range(word_blocks))
        self.word_norm = nn.LayerNorm(word_width)
        time = nn.Sequential(SinusoidalEmbedding(width), *mlp([width, width, 6 * width], nn.SiLU))
        self.time = start_at_zero(time)
        self.enter = nn.Linear(size, width)
        self.places = nn.Parameter(0.02 * torch.randn(num, width))
        self.blocks = nn.ModuleList(PatchBlock(width, word_width, heads) for _ in range(blocks))
        self.exit = start_at_zero(nn.Sequential(nn.LayerNorm(width), nn.Linear(width, size)))

    def forward(
        self,
        x_t: Float[Tensor, "batch channels height width"],
        t: Real[Tensor, "batch"],
        label: Int[Tensor, "batch max_words"] | None = None,
    ) -> Float[Tensor, "batch channels height width"]:
        """The prediction, such as that of the noise; without a sentence, for any image."""
        checks.shape(("batch", *self.image_shape), x_t=x_t)
        checks.precision(self, x_t=x_t)
        checks.shape((len(x_t),), t=t)
        if label is None:
            label = torch.zeros(len(x_t), self.max_words, dtype=torch.long, device=x_t.device)
        words = self.read(label)
        checks.shape((len(x_t), self.max_words), label=label)
        e = self.time(t).unflatten(1, (6, -1))
        h = self._entered(F.pixel_unshuffle(x_t, self.patch).flatten(2).mT) + self.places
        for block in self.blocks:
            h = block(h, words, e)
        sides = [side // self.patch for side in self.image_shape[1:]]
        return F.pixel_shuffle(self.exit(h).mT.unflatten(2, sides), self.patch).to(x_t)

    def read(
        self, label: Int[Tensor, "batch max_words"]
    ) -> Float[Tensor, "batch max_words word_width"]:
        """The vectors of the words, as the patches see them."""
        checks.shape(("batch", self.max_words), label=label)
        checks.integers(label=label)
        if checks.reads_at_once(label):
            checks.within(0, self.num_words, label=label)
        h = self.words(label) + self.word_places
        for block in self.word_blocks:
            h = block(h)
        return cast(Tensor, self.word_norm(h))

    def _entered(self, patches: Tensor) -> Tensor:
        """The first layer, in the precision of x_t: bfloat16 is coarser than the noise next to the data."""
        if not torch.is_autocast_enabled(patches.device.type):
            return cast(Tensor, self.enter(patches))
        with torch.autocast(patches.device.type, enabled=False):
            return cast(Tensor, self.enter(patches))
