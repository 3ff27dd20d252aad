"""A slider with two faces: a control that recomputes in a live kernel, and rendered frames on a page without one."""

import base64
import hashlib
import html
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

COLORS = 64  # a palette this large makes a plot about a third of its size, and no difference is seen
SMALLEST = (
    224  # width in CSS pixels below which a picture of single pixels is magnified
)

Frame = (
    Any  # a matplotlib Figure, PNG bytes, a PIL image, or an array or tensor of pixels
)


@dataclass(frozen=True)
class _Picture:
    png: bytes
    size: tuple[int, int]
    width: int  # on the page, in CSS pixels

    @property
    def uri(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.png).decode()

    @property
    def style(self) -> str:
        pixelated = "image-rendering:pixelated;" if self.width > self.size[0] else ""
        return f"display:block;max-width:100%;height:auto;background:#fff;border-radius:4px;{pixelated}"

    def tag(self, alt: str) -> str:
        return f'<img src="{self.uri}" alt="{html.escape(alt)}" width="{self.width}" style="{self.style}">'


class Slider:
    """Pictures of one thing at several values, to move through with a slider.

    As the last expression of a cell it shows a widget that calls `render` anew in a live kernel, and plain HTML with
    the given frames on a static page. Both work by mouse and by keyboard and name each picture for screen readers.

    Args:
        frames: one picture per value, all of one size: matplotlib figures, PNG bytes, PIL images, or arrays of
            (height, width) or (height, width, 3) pixels in [0, 1].
        labels: what the slider shows at each value, such as "0.4".
        alts: what each picture shows, in words.
        description: what the slider changes, such as "noise level".
        render: draws the picture of one value; without it the widget flips through `frames`.
        values: what `render` takes, one per frame; needed with `render`.
        start: index of the frame shown first, and in print.

    Raises:
        ValueError: if the numbers of frames, labels, alts and values differ, there are fewer than two, the frames
            differ in size, a label, alt or the description is empty, or `start` is out of range.
        TypeError: if a frame is none of the accepted kinds.
    """

    def __init__(
        self,
        frames: Sequence[Frame],
        labels: Sequence[str],
        alts: Sequence[str],
        description: str,
        *,
        render: Callable[[Any], Frame] | None = None,
        values: Sequence[Any] | None = None,
        start: int = 0,
    ) -> None:
        counts = {"frames": len(frames), "labels": len(labels), "alts": len(alts)}
        if values is not None:
            counts["values"] = len(values)
        if len(set(counts.values())) > 1:
            raise ValueError(
                f"there must be as many labels, alts and values as frames; {_count(counts)} were given"
            )
        if len(frames) < 2:
            raise ValueError(
                f"frames must hold at least 2 pictures; {len(frames)} was given"
            )
        if not (description.strip() and all(text.strip() for text in (*labels, *alts))):
            raise ValueError(
                "description and every label and alt must hold text; an empty one was given"
            )
        if not 0 <= start < len(frames):
            raise ValueError(
                f"start must be an index from 0 to {len(frames) - 1}; {start} was given"
            )
        if (render is None) != (values is None):
            raise ValueError(
                "render and values belong together; only one of them was given"
            )
        self.labels, self.alts, self.description = list(labels), list(alts), description
        self.render, self.values, self.start = render, values, start
        self.pictures = [_picture(frame) for frame in frames]
        sizes = sorted({picture.size for picture in self.pictures})
        if len(sizes) > 1:
            raise ValueError(
                f"frames must all have one size; {sizes[0]} and {sizes[-1]} pixels were given"
            )
        self._widget: Any = None

    @classmethod
    def over(
        cls,
        values: Iterable[Any],
        render: Callable[[Any], Frame],
        *,
        description: str,
        alt: str | Callable[[Any], str],
        label: str | Callable[[Any], str] = "{:.3g}",
        start: int = 0,
    ) -> "Slider":
        """Draw one frame per value with the function that also redraws them in a live kernel.

        Args:
            values: numbers (a one-dimensional tensor will do) or anything else `render` takes.
            render: draws the picture of one value.
            description: what the slider changes.
            alt: what the picture shows, as a format string of the value or a function of it.
            label: what the slider shows, as a format string of the value or a function of it.
            start: index of the frame shown first.
        """
        stops = [
            value.item() if getattr(value, "ndim", None) == 0 else value
            for value in values
        ]
        texts = [
            [f.format(v) if isinstance(f, str) else f(v) for v in stops]
            for f in (label, alt)
        ]
        return cls(
            [render(v) for v in stops],
            texts[0],
            texts[1],
            description,
            render=render,
            values=stops,
            start=start,
        )

    def __repr__(self) -> str:
        return f"Slider({self.description}: {len(self.pictures)} frames, {self.labels[0]} to {self.labels[-1]})"

    def html(self) -> str:
        """The static face: one figure of HTML with its frames inside, which loads nothing from anywhere."""
        sources = [
            None if i == self.start else picture.uri
            for i, picture in enumerate(self.pictures)
        ]
        digest = hashlib.sha256(
            json.dumps(
                [self.description, self.labels, self.pictures[self.start].uri, sources]
            ).encode()
        )
        return _PAGE.format(
            id=f"companion-slider-{digest.hexdigest()[:12]}",
            image=self.pictures[self.start].tag(self.alts[self.start]),
            description=html.escape(self.description),
            last=len(self.pictures) - 1,
            start=self.start,
            label=html.escape(self.labels[self.start]),
            # the widest label keeps its room, so that the slider does not change its length
            room=max(map(len, self.labels)),
            data=json.dumps([self.labels, self.alts, sources]).replace("<", "\\u003c"),
        )

    def widget(self) -> Any:
        """The live face: an ipywidgets box with a slider and a picture, the same one at every call."""
        if self._widget is None:
            import ipywidgets

            slider = ipywidgets.SelectionSlider(
                options=[(label, i) for i, label in enumerate(self.labels)],
                index=self.start,
                description=self.description,
                continuous_update=self.render
                is None,  # drawing anew takes too long to follow every pixel of a drag
                style={"description_width": "initial"},
                layout={"width": "min(100%, 36em)"},
            )
            picture = ipywidgets.HTML(
                self.pictures[self.start].tag(self.alts[self.start])
            )
            slider.observe(
                lambda change: setattr(picture, "value", self._frame(change["new"])),
                names="index",
            )
            self._widget = ipywidgets.VBox([picture, slider])
        return self._widget

    def _frame(self, index: int) -> str:
        if self.render is None or self.values is None:
            return self.pictures[index].tag(self.alts[index])
        return _picture(self.render(self.values[index])).tag(self.alts[index])

    def _repr_mimebundle_(
        self, include: Any = None, exclude: Any = None
    ) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": repr(self), "text/html": self.html()}
        if _in_live_kernel():
            model = self.widget().model_id
            bundle["application/vnd.jupyter.widget-view+json"] = {
                "version_major": 2,
                "version_minor": 0,
                "model_id": model,
            }
        return bundle


# The label encloses its input, so the page needs no second id, and the same slider may be shown twice.
_PAGE = """<figure class="companion-slider" id="{id}" style="margin:1em 0;max-width:100%">
{image}
<div style="display:flex;align-items:center;gap:.75em;margin-top:.5em;max-width:42em">
<label style="display:flex;flex:1 1 auto;flex-wrap:wrap;align-items:center;gap:0 .75em;margin:0">
<span>{description}</span>
<input type="range" min="0" max="{last}" step="1" value="{start}" autocomplete="off" aria-label="{description}" \
aria-valuetext="{label}" style="flex:1 1 10em;min-width:0;height:1.75em;margin:0;accent-color:#0072b2">
</label>
<output aria-live="polite" style="min-width:{room}ch;font-variant-numeric:tabular-nums">{label}</output>
</div>
<style>
.companion-slider input:focus-visible {{ outline: 2px solid currentColor; outline-offset: 2px; border-radius: 4px }}
</style>
<script>
(function () {{
  var data = {data}, labels = data[0], alts = data[1], sources = data[2];
  document.querySelectorAll('[id="{id}"]').forEach(function (figure) {{
    var image = figure.querySelector("img");
    var input = figure.querySelector("input"), output = figure.querySelector("output");
    if (input.oninput) return;
    sources[{start}] = sources[{start}] || image.src;
    input.oninput = function () {{
      var i = Number(input.value);
      image.src = sources[i]; image.alt = alts[i]; output.textContent = labels[i];
      input.setAttribute("aria-valuetext", labels[i]);
    }};
  }});
}})();
</script>
</figure>"""


def _picture(frame: Frame) -> _Picture:
    image: Image.Image
    scale = 1.0
    if hasattr(frame, "savefig"):
        png = io.BytesIO()
        frame.savefig(png, format="png", dpi=frame.dpi)
        image, scale = Image.open(png), 96 / frame.dpi  # a CSS pixel is 1/96 inch
    elif isinstance(frame, (bytes, bytearray)):
        try:
            image = Image.open(io.BytesIO(frame))
        except OSError:
            raise TypeError(
                f"frames of bytes must be PNG files; {bytes(frame[:8])!r}... was given"
            ) from None
    elif isinstance(frame, Image.Image):
        image = frame
    else:
        image = _image_of_pixels(frame)
        scale = math.ceil(SMALLEST / image.width) if image.width < SMALLEST else 1.0
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = Image.alpha_composite(
            Image.new("RGBA", image.size, "white"), image.convert("RGBA")
        )
    image = image.convert("L" if image.mode in ("1", "L") else "RGB").quantize(
        COLORS, dither=Image.Dither.NONE
    )
    png = io.BytesIO()
    image.save(png, "PNG", optimize=True)
    return _Picture(png.getvalue(), image.size, round(image.width * scale))


def _image_of_pixels(frame: Any) -> Image.Image:
    if hasattr(frame, "detach"):
        frame = frame.detach().cpu()
    pixels = np.asarray(frame)
    if (
        pixels.dtype.kind not in "fiu"
        or pixels.ndim not in (2, 3)
        or (pixels.ndim == 3 and pixels.shape[2] != 3)
    ):
        raise TypeError(
            "a frame must be a figure, PNG bytes, a PIL image, or pixels of shape (height, width) or "
            f"(height, width, 3); {type(frame).__name__} of shape {pixels.shape} was given"
        )
    if pixels.dtype.kind == "f":
        if not (pixels.min() >= 0 and pixels.max() <= 1):
            raise ValueError(
                f"pixels must lie in [0, 1]; {pixels.min():.4g} to {pixels.max():.4g} was given"
            )
        pixels = np.round(pixels * 255)
    elif pixels.dtype != np.uint8:
        raise TypeError(
            f"pixels must be floats in [0, 1] or uint8; {pixels.dtype} was given"
        )
    return Image.fromarray(pixels.astype(np.uint8))


def _in_live_kernel() -> bool:
    try:
        import ipywidgets  # noqa: F401 -- is it here?
        from IPython import get_ipython
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")


def _count(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items())
