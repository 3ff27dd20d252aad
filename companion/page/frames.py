"""The frames of a slider: any kind of image as a small PNG inside the page, alone or as a tile of one sheet."""

import base64
import html
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from companion import checks

# Of a frame alone: a plot takes a third of its size, and no difference is seen.
GRAYS, COLORS = 64, 128
SHEET_COLORS = 256  # what the palette of a PNG holds; the tiles of a sheet share it
SMALLEST = 224  # width in CSS pixels below which an image of single pixels is magnified
MOST_PIXELS = 2**24  # of a sheet; the browser of a phone draws none that is larger

Frame: TypeAlias = Any  # a matplotlib figure, a PIL image, an array or tensor of pixels


@dataclass(frozen=True)
class Png:
    """A PNG file, its size in pixels, and its width on the page in CSS pixels."""

    data: bytes
    size: tuple[int, int]
    width: int

    @classmethod
    def of(cls, image: Image.Image, scale: float) -> "Png":
        """The file of an image whose pixels are `scale` CSS pixels wide."""
        file = io.BytesIO()
        image.save(file, "PNG", optimize=True)
        return cls(file.getvalue(), image.size, round(image.width * scale))

    @property
    def uri(self) -> str:
        """The file as an address that loads nothing."""
        return "data:image/png;base64," + base64.b64encode(self.data).decode()

    def tag(self, alt: str) -> str:
        """The element of HTML that shows it, with these words for who does not see it."""
        pixelated = "image-rendering:pixelated;" if self.width > self.size[0] else ""
        style = f"display:block;max-width:100%;height:auto;background:#fff;border-radius:4px;{pixelated}"
        return (
            f'<img src="{self.uri}" alt="{html.escape(alt)}" width="{self.width}" style="{style}">'
        )


class Separate:
    """Frames that are a file each: for one axis, whose frames may be large.

    Args:
        images: the images, and the width of their pixels in CSS pixels.
        grays: how many gray levels a gray image keeps.
    """

    def __init__(self, images: Sequence[tuple[Image.Image, float]], grays: int) -> None:
        self.files = [_few_colors(image, scale, grays) for image, scale in images]

    def __getitem__(self, index: int) -> Png:
        return self.files[index]

    def data(self, start: int) -> dict[str, Any]:
        """What slider.js needs; the frame that the page shows first is in the page already."""
        frames = [None if i == start else file.uri for i, file in enumerate(self.files)]
        return {"start": start, "frames": frames}


class Sheet:
    """Frames that are tiles of one file: for several axes, with many small frames.

    Each tile has a border of one pixel that repeats its edge. Where a pixel of the image is no
    whole number of pixels of the screen, the cut may be off by a part of one; the border keeps
    the neighbors out of sight.

    Args:
        images: the images, all of one size, and the width of their pixels in CSS pixels.

    Raises:
        ValueError: if the sheet has more pixels than a phone draws.
    """

    def __init__(self, images: Sequence[tuple[Image.Image, float]]) -> None:
        (width, height), self.scale = images[0][0].size, images[0][1]
        self.size, self.columns = (width, height), math.ceil(math.sqrt(len(images)))
        rows = math.ceil(len(images) / self.columns)
        size = self.columns * (width + 2), rows * (height + 2)
        if math.prod(size) > MOST_PIXELS:
            raise ValueError(
                f"all frames together must have at most {MOST_PIXELS} pixels; "
                f"{len(images)} of {width} x {height} pixels were given"
            )
        gray = all(image.mode == "L" for image, _ in images)
        sheet = Image.new("L" if gray else "RGB", size)
        for index, (image, _) in enumerate(images):
            pixels = np.asarray(image.convert(sheet.mode))
            tile = np.pad(pixels, [(1, 1), (1, 1), (0, 0)][: pixels.ndim], mode="edge")
            left, top = self._corner(index)
            sheet.paste(Image.fromarray(tile), (left - 1, top - 1))
        if not gray:  # all grays fit as they are
            clusters = math.prod(size) // 100  # halves the error of the palette
            sheet = sheet.quantize(SHEET_COLORS, dither=Image.Dither.NONE, kmeans=clusters)
        self.file = Png.of(sheet, 1.0)

    def __getitem__(self, index: int) -> Png:
        (left, top), (width, height) = self._corner(index), self.size
        sheet = Image.open(io.BytesIO(self.file.data))
        return Png.of(sheet.crop((left, top, left + width, top + height)), self.scale)

    def data(self, start: int) -> dict[str, Any]:
        """What slider.js needs to cut out a tile."""
        return {
            "start": start,
            "sheet": self.file.uri,
            "columns": self.columns,
            "size": list(self.size),
        }

    def _corner(self, index: int) -> tuple[int, int]:
        """Left and top of a tile, inside its border."""
        row, column = divmod(index, self.columns)
        return column * (self.size[0] + 2) + 1, row * (self.size[1] + 2) + 1


def png_of(frame: Frame) -> Png:
    """One frame as a file of its own."""
    return _few_colors(*image_of(frame))


def images_of(frames: Iterable[Frame], smallest: int = SMALLEST) -> list[tuple[Image.Image, float]]:
    """`image_of` each frame.

    Raises:
        ValueError: if they differ in size.
    """
    images = [image_of(frame, smallest) for frame in frames]
    sizes = sorted({image.size for image, _ in images})
    if len(sizes) > 1:
        raise ValueError(
            f"frames must all have one size; {sizes[0]} and {sizes[-1]} pixels were given"
        )
    return images


def image_of(frame: Frame, smallest: int = SMALLEST) -> tuple[Image.Image, float]:
    """A frame in gray or color on white, and the width of one of its pixels in CSS pixels.

    Args:
        frame: a matplotlib figure, a PIL image, or an array or tensor of pixels: floats in [0, 1]
            or uint8, of shape (height, width) or (height, width, 3).
        smallest: width in CSS pixels below which pixels are magnified.

    Raises:
        TypeError: if it is none of these.
        ValueError: if pixels lie outside [0, 1].
    """
    checks.at_least(1, smallest=smallest)
    image: Image.Image
    scale = 1.0
    if hasattr(frame, "savefig"):
        file = io.BytesIO()
        frame.savefig(file, format="png", dpi=frame.dpi)
        image, scale = Image.open(file), 96 / frame.dpi  # a CSS pixel is 1/96 inch
    elif isinstance(frame, Image.Image):
        image = frame
    else:
        image = _image_of_pixels(frame)
        scale = float(math.ceil(smallest / image.width))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("L" if image.mode in ("1", "L") else "RGB"), scale


def _image_of_pixels(frame: Any) -> Image.Image:
    pixels = np.asarray(frame.numpy(force=True) if hasattr(frame, "detach") else frame)
    if (
        pixels.dtype.kind not in "fiu"
        or not pixels.size
        or (pixels.ndim != 2 and pixels.shape[2:] != (3,))
    ):
        raise TypeError(
            "a frame must be a figure, a PIL image, or pixels of shape (height, width) or "
            f"(height, width, 3); {type(frame).__name__} of shape {pixels.shape} was given"
        )
    if pixels.dtype.kind == "f":
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise ValueError(
                f"pixels must lie in [0, 1]; {pixels.min():.4g} to {pixels.max():.4g} was given"
            )
        pixels = np.round(pixels * 255)
    elif pixels.dtype != np.uint8:
        raise TypeError(f"pixels must be floats in [0, 1] or uint8; {pixels.dtype} was given")
    return Image.fromarray(pixels.astype(np.uint8))


def _few_colors(image: Image.Image, scale: float, grays: int = GRAYS) -> Png:
    if image.mode == "L":
        return Png.of(image.quantize(grays, dither=Image.Dither.NONE), scale)
    # The median cut, which is the default, merges the colors of small marks, such as the points of two classes.
    far_apart = Image.Quantize.MAXCOVERAGE
    return Png.of(image.quantize(COLORS, far_apart, kmeans=1, dither=Image.Dither.NONE), scale)
