"""Sliders with two faces: live in a kernel, rendered frames on a page without one.

A `Slider` moves a picture along one axis, an `Editor` along two to four.
"""

import base64
import hashlib
import html
import io
import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

COLORS = (
    64  # a palette this large makes a plot about a third of its size, and no difference is seen
)
SMALLEST = 224  # width in CSS pixels below which a picture of single pixels is magnified

SHEET_COLORS = 256  # what a PNG's palette holds; an editor's frames share it
MOST_PIXELS = 2**24  # of a sheet; the browser of a phone draws none that is larger

Frame = Any  # a matplotlib Figure, PNG bytes, a PIL image, or an array or tensor of pixels
Text = str | Callable[..., str]  # a format string of some values or a function of them


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


class _TwoFaces:
    """What shows HTML on a static page and, in a live kernel, widgets as well."""

    _widget: Any = None

    def html(self) -> str:
        raise NotImplementedError

    def widget(self) -> Any:
        """The live face: an ipywidgets box with a picture and what moves it.

        It is the same one at every call.
        """
        if self._widget is None:
            self._widget = self._new_widget()
        return self._widget

    def _new_widget(self) -> Any:
        raise NotImplementedError

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": repr(self), "text/html": self.html()}
        if _in_live_kernel():
            model = self.widget().model_id
            bundle["application/vnd.jupyter.widget-view+json"] = {
                "version_major": 2,
                "version_minor": 0,
                "model_id": model,
            }
        return bundle


class Slider(_TwoFaces):
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
            raise ValueError(f"frames must hold at least 2 pictures; {len(frames)} was given")
        if not (description.strip() and all(text.strip() for text in (*labels, *alts))):
            raise ValueError(
                "description and every label and alt must hold text; an empty one was given"
            )
        if not 0 <= start < len(frames):
            raise ValueError(
                f"start must be an index from 0 to {len(frames) - 1}; {start} was given"
            )
        if (render is None) != (values is None):
            raise ValueError("render and values belong together; only one of them was given")
        self.labels, self.alts, self.description = list(labels), list(alts), description
        self.render, self.values, self.start = render, values, start
        self.pictures = [_picture(frame) for frame in frames]
        _check_one_size(picture.size for picture in self.pictures)

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
        stops = _stops(values)
        texts = [[_text(form, v) for v in stops] for form in (label, alt)]
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
            None if i == self.start else picture.uri for i, picture in enumerate(self.pictures)
        ]
        digest = _digest([self.description, self.labels, self.pictures[self.start].uri, sources])
        image = self.pictures[self.start].tag(self.alts[self.start])
        # the widest label keeps its room, so that the slider does not change its length
        room = max(map(len, self.labels))
        control = _control(self.description, self.labels, self.start, room)
        return _page(
            "companion-slider",
            digest,
            f"{image}\n{control}",
            [self.labels, self.alts, sources],
            _SLIDER_SCRIPT.replace("START", str(self.start)),
        )

    def _new_widget(self) -> Any:
        return _live_box(
            {self.description: self.labels},
            [self.start],
            self.pictures[self.start].tag(self.alts[self.start]),
            self._frame,
            # drawing anew takes too long to follow every pixel of a drag
            follows=self.render is None,
        )

    def _frame(self, index: int) -> str:
        if self.render is None or self.values is None:
            return self.pictures[index].tag(self.alts[index])
        return _picture(self.render(self.values[index])).tag(self.alts[index])


class Editor(_TwoFaces):
    """Pictures of one thing with two to four properties, and a slider for each.

    Its two faces are those of `Slider`. On a static page one PNG holds the frames of
    all combinations, and one tile of it is shown.

    Args:
        frames: one picture per combination of the labels, all of one size, of the kinds
            that `Slider` takes, in the order of `itertools.product`: the last axis
            moves first. Together they keep 256 colors.
        labels: for each axis, such as "light", what its slider shows at each value.
        alts: what each picture shows, in words.
        render: draws the picture of one value per axis; without it the widget flips
            through `frames`.
        values: for each axis what `render` takes, one per label; needed with `render`.
        start: for each axis the index of the value shown first, and in print; the
            middle one if it is not given.

    Raises:
        ValueError: if there are not 2 to 4 axes of at least 2 labels each, the numbers
            of frames, alts and values do not fit the labels, the frames differ in size
            or are too large for one sheet, an axis, label or alt is empty, or `start`
            is out of range.
        TypeError: if a frame is none of the accepted kinds.
    """

    def __init__(
        self,
        frames: Iterable[Frame],
        labels: Mapping[str, Sequence[str]],
        alts: Sequence[str],
        *,
        render: Callable[..., Frame] | None = None,
        values: Mapping[str, Sequence[Any]] | None = None,
        start: Sequence[int] | None = None,
    ) -> None:
        self.labels = {name: list(texts) for name, texts in labels.items()}
        counts = {name: len(texts) for name, texts in self.labels.items()}
        if not 2 <= len(counts) <= 4:
            raise ValueError(f"there must be 2 to 4 axes; {len(counts)} was given")
        if min(counts.values()) < 2:
            raise ValueError(f"every axis must have at least 2 values; {_count(counts)} was given")
        if not all(text.strip() for text in itertools.chain(labels, *labels.values(), alts)):
            raise ValueError("every axis, label and alt must hold text; an empty one was given")
        if (render is None) != (values is None):
            raise ValueError("render and values belong together; only one of them was given")
        given = values if values is None else {k: len(v) for k, v in values.items()}
        if given is not None and list(given.items()) != list(counts.items()):
            raise ValueError(
                f"values must be as many as the labels, {_count(counts)}; {_count(given)} was given"
            )
        if start is None:
            start = [count // 2 for count in counts.values()]
        if len(start) != len(counts) or not all(
            0 <= i < count for i, count in zip(start, counts.values(), strict=True)
        ):
            raise ValueError(
                f"start must hold an index per axis, below {_count(counts)}; {start} was given"
            )
        self.alts, self.start = list(alts), list(start)
        self.render, self.values = render, values
        pictures = [_image(frame) for frame in frames]
        if not len(pictures) == len(alts) == math.prod(counts.values()):
            raise ValueError(
                f"each combination of {_count(counts)} must have a frame and an alt; "
                f"{len(pictures)} frames, {len(alts)} alts were given"
            )
        images = [image for image, _ in pictures]
        _check_one_size(image.size for image in images)
        self.size, self.scale = images[0].size, pictures[0][1]
        self.columns = math.ceil(math.sqrt(len(images)))
        self.sheet = _sheet(images, self.columns)

    @classmethod
    def over(
        cls,
        axes: Mapping[str, Iterable[Any]],
        render: Callable[..., Frame],
        *,
        alt: Text,
        label: Text | Mapping[str, Text] = "{:.3g}",
        start: Sequence[int] | None = None,
    ) -> "Editor":
        """Draw one frame per combination; a live kernel redraws with the same function.

        Args:
            axes: for each axis its values: numbers (a one-dimensional tensor will do)
                or anything else `render` takes.
            render: draws the picture of one value per axis, in the order of `axes`.
            alt: what the picture shows, as a format string of those values or a
                function of them.
            label: what a slider shows, as a format string of its value or a function of
                it; one for all axes, or a mapping with one for each.
            start: for each axis the index of the value shown first; the middle one if
                it is not given.
        """
        values = {name: _stops(stops) for name, stops in axes.items()}
        forms = label if isinstance(label, Mapping) else dict.fromkeys(values, label)
        if set(forms) != set(values):
            raise ValueError(
                f"label must hold one for each of {', '.join(values)}; "
                f"{', '.join(forms) or 'none'} was given"
            )
        grid = list(itertools.product(*values.values()))
        return cls(
            itertools.starmap(render, grid),  # drawn when all else is checked
            {name: [_text(forms[name], v) for v in values[name]] for name in values},
            [_text(alt, *point) for point in grid],
            render=render,
            values=values,
            start=start,
        )

    def __repr__(self) -> str:
        counts = " x ".join(str(len(texts)) for texts in self.labels.values())
        return f"Editor({', '.join(self.labels)}: {counts} frames)"

    def html(self) -> str:
        """The static face: one figure of HTML, which loads nothing from anywhere."""
        first = self._index(*self.start)
        width, height = self.size
        picture = self._tile(first)
        texts = list(self.labels.values())
        data = [texts, self.alts, self.sheet.uri, self.columns, [*self.size]]
        # the longest texts keep their room, so that all sliders are of one length
        room = max(len(text) for text in itertools.chain(*texts))
        lead = max(map(len, self.labels))
        controls = "\n".join(
            _control(name, self.labels[name], at, room, lead)
            for name, at in zip(self.labels, self.start, strict=True)
        )
        content = _EDITOR.format(
            image=picture.tag(self.alts[first]),
            width=picture.width,
            ratio=f"{width}/{height}",
            controls=controls,
        )
        digest = _digest([list(self.labels), self.start, *data])
        script = _EDITOR_SCRIPT.replace("START", str(first))
        return _page("companion-editor", digest, content, data, script)

    def _new_widget(self) -> Any:
        first = self._index(*self.start)
        return _live_box(
            self.labels,
            self.start,
            self._tile(first).tag(self.alts[first]),
            self._frame,
            follows=self.render is None,
        )

    def _frame(self, *indices: int) -> str:
        index = self._index(*indices)
        if self.render is None or self.values is None:
            return self._tile(index).tag(self.alts[index])
        stops = zip(self.values.values(), indices, strict=True)
        frame = self.render(*(values[i] for values, i in stops))
        return _picture(frame).tag(self.alts[index])

    def _index(self, *indices: int) -> int:
        """The place of a combination among the frames."""
        place = 0
        for texts, i in zip(self.labels.values(), indices, strict=True):
            place = place * len(texts) + i
        return place

    def _tile(self, index: int) -> _Picture:
        row, column = divmod(index, self.columns)
        width, height = self.size
        left, top = column * (width + 2) + 1, row * (height + 2) + 1
        sheet = Image.open(io.BytesIO(self.sheet.png))
        return _compressed(sheet.crop((left, top, left + width, top + height)), self.scale)


_PAGE = """<figure class="{kind}" id="{id}" style="margin:1em 0;max-width:100%">
{content}
<style>
.{kind} input:focus-visible {{ outline: 2px solid currentColor; outline-offset: 2px; border-radius: 4px }}
</style>
<script>
(function () {{
  var data = {data}, {script}
  }});
}})();
</script>
</figure>"""

# The label encloses its input, so the page needs no second id, and the same slider may be shown twice.
_CONTROL = """<div style="display:flex;align-items:center;gap:.75em;margin-top:.5em;max-width:42em">
<label style="display:flex;flex:1 1 auto;flex-wrap:wrap;align-items:center;gap:0 .75em;margin:0">
<span{lead}>{description}</span>
<input type="range" min="0" max="{last}" step="1" value="{start}" autocomplete="off" aria-label="{description}" \
aria-valuetext="{label}" style="flex:1 1 10em;min-width:0;height:1.75em;margin:0;accent-color:#0072b2">
</label>
<output aria-live="polite" style="min-width:{room}ch;font-variant-numeric:tabular-nums">{label}</output>
</div>"""

_SLIDER_SCRIPT = """labels = data[0], alts = data[1], sources = data[2];
  document.querySelectorAll('[id="ID"]').forEach(function (figure) {
    var image = figure.querySelector("img");
    var input = figure.querySelector("input"), output = figure.querySelector("output");
    if (input.oninput) return;
    sources[START] = sources[START] || image.src;
    input.oninput = function () {
      var i = Number(input.value);
      image.src = sources[i]; image.alt = alts[i]; output.textContent = labels[i];
      input.setAttribute("aria-valuetext", labels[i]);
    };"""

# The box cuts one tile out of the sheet. Until the sheet is loaded it holds the first
# frame alone; so whoever runs no script or drops the styles sees one frame, not all.
_EDITOR = """\
<div style="display:flex;flex-wrap:wrap;align-items:center;gap:.25em 1.5em">
<div style="position:relative;overflow:hidden;flex:none;width:{width}px;max-width:100%;\
aspect-ratio:{ratio};border-radius:4px">
{image}
</div>
<div style="flex:1 1 16em;min-width:0;max-width:42em">
{controls}
</div>
</div>"""

_EDITOR_SCRIPT = """labels = data[0], alts = data[1];
  var columns = data[3], width = data[4][0], height = data[4][1];
  var rows = Math.ceil(alts.length / columns);
  function percent(part) { return 100 * part + "%"; }
  document.querySelectorAll('[id="ID"]').forEach(function (figure) {
    var image = figure.querySelector("img"), sheet = new Image();
    var inputs = figure.querySelectorAll("input");
    var outputs = figure.querySelectorAll("output");
    if (inputs[0].oninput) return;
    function show(i) {
      image.alt = sheet.alt = alts[i];
      sheet.style.left = percent(-((i % columns) * (width + 2) + 1) / width);
      sheet.style.top = percent(-(Math.floor(i / columns) * (height + 2) + 1) / height);
    }
    inputs.forEach(function (input, axis) {
      input.oninput = function () {
        var text = labels[axis][input.value], i = 0;
        inputs.forEach(function (other, k) {
          i = i * labels[k].length + Number(other.value);
        });
        show(i); outputs[axis].textContent = text;
        input.setAttribute("aria-valuetext", text);
      };
    });
    sheet.style.cssText = "position:absolute;max-width:none;margin:0;padding:0;" +
      "border-radius:0;image-rendering:" + (image.style.imageRendering || "auto");
    sheet.style.width = percent(columns * (width + 2) / width);
    sheet.style.height = percent(rows * (height + 2) / height);
    show(START);
    sheet.onload = function () { image.replaceWith(sheet); };
    sheet.src = data[2];"""


def _page(kind: str, digest: str, content: str, data: Any, script: str) -> str:
    name = f"{kind}-{digest}"
    return _PAGE.format(
        kind=kind,
        id=name,
        content=content,
        data=json.dumps(data).replace("<", "\\u003c"),
        script=script.replace("ID", name),
    )


def _control(description: str, labels: Sequence[str], start: int, room: int, lead: int = 0) -> str:
    return _CONTROL.format(
        lead=f' style="min-width:min(100%,{lead}ch)"' if lead else "",
        description=html.escape(description),
        last=len(labels) - 1,
        start=start,
        label=html.escape(labels[start]),
        room=room,
    )


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]


def _live_box(
    axes: Mapping[str, Sequence[str]],
    start: Sequence[int],
    first: str,
    frame: Callable[..., str],
    *,
    follows: bool,
) -> Any:
    """A picture above one slider per axis; `frame` gives its tag for their indices."""
    import ipywidgets

    sliders = [
        ipywidgets.SelectionSlider(
            options=[(label, i) for i, label in enumerate(labels)],
            index=at,
            description=name,
            continuous_update=follows,
            style={"description_width": "initial"},
            layout={"width": "min(100%, 36em)"},
        )
        for (name, labels), at in zip(axes.items(), start, strict=True)
    ]
    picture = ipywidgets.HTML(first)

    def redraw(change: Any) -> None:
        picture.value = frame(*(slider.index for slider in sliders))

    for slider in sliders:
        slider.observe(redraw, names="index")
    return ipywidgets.VBox([picture, *sliders])


def _picture(frame: Frame) -> _Picture:
    image, scale = _image(frame)
    return _compressed(image.quantize(COLORS, dither=Image.Dither.NONE), scale)


def _compressed(image: Image.Image, scale: float) -> _Picture:
    png = io.BytesIO()
    image.save(png, "PNG", optimize=True)
    return _Picture(png.getvalue(), image.size, round(image.width * scale))


def _image(frame: Frame) -> tuple[Image.Image, float]:
    """A frame in gray or color, and the width of one of its pixels in CSS pixels."""
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
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    return image.convert("L" if image.mode in ("1", "L") else "RGB"), scale


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
        raise TypeError(f"pixels must be floats in [0, 1] or uint8; {pixels.dtype} was given")
    return Image.fromarray(pixels.astype(np.uint8))


def _sheet(images: Sequence[Image.Image], columns: int) -> _Picture:
    """All images in rows, each in a border of one pixel that repeats its edge.

    Where a pixel of the picture is no whole number of pixels of the screen, the cut may
    be off by a part of one; the border keeps the neighbors out of sight.
    """
    width, height = images[0].size
    rows = math.ceil(len(images) / columns)
    size = columns * (width + 2), rows * (height + 2)
    if math.prod(size) > MOST_PIXELS:
        raise ValueError(
            f"all frames together must have at most {MOST_PIXELS} pixels; "
            f"{len(images)} of {width} x {height} pixels were given"
        )
    is_gray = all(image.mode == "L" for image in images)
    sheet = Image.new("L" if is_gray else "RGB", size)
    for i, image in enumerate(images):
        pixels = np.asarray(image.convert(sheet.mode))
        border = [(1, 1), (1, 1), (0, 0)][: pixels.ndim]
        row, column = divmod(i, columns)
        sheet.paste(
            Image.fromarray(np.pad(pixels, border, mode="edge")),
            (column * (width + 2), row * (height + 2)),
        )
    if not is_gray:  # all grays fit as they are
        sheet = sheet.quantize(
            SHEET_COLORS,
            dither=Image.Dither.NONE,
            kmeans=math.prod(size) // 100,  # halves the error of the palette
        )
    return _compressed(sheet, 1.0)


def _check_one_size(sizes: Iterable[tuple[int, int]]) -> None:
    found = sorted(set(sizes))
    if len(found) > 1:
        raise ValueError(
            f"frames must all have one size; {found[0]} and {found[-1]} pixels were given"
        )


def _stops(values: Iterable[Any]) -> list[Any]:
    return [value.item() if getattr(value, "ndim", None) == 0 else value for value in values]


def _text(form: Text, *values: Any) -> str:
    return form.format(*values) if isinstance(form, str) else form(*values)


def _in_live_kernel() -> bool:
    try:
        import ipywidgets  # noqa: F401 -- is it here?
        from IPython import get_ipython
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")


def _count(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items())
