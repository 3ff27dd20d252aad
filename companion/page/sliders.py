"""Sliders with two faces: live in a kernel, rendered frames on a page without one.

    Slider.over(sigmas, draw, description="noise level", alt="the density at noise level {:.1f}")
    Editor.over({"light": levels, "turn": angles}, draw, alt="a house, light {:.1f}, turn {:.0f}")

As the last expression of a cell it shows a widget that calls `draw` anew in a live kernel, and plain HTML
with frames drawn beforehand on a static page. Both work by mouse and by keyboard and name what is seen
for screen readers.
"""

import hashlib
import html
import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from string import Template
from typing import Any, TypeAlias

from companion.page.frames import Frame, Separate, Sheet, images_of, png_of

Text: TypeAlias = str | Callable[..., str]  # a format string of some values or a function of them


class Editor:
    """Frames of one thing with one to four properties, and a slider for each.

    With one axis each frame is a file of its own. With several, one PNG holds the frames of all
    combinations, and one tile of it is shown.

    Args:
        frames: one per combination of the labels, all of one size, in the order of `itertools.product`
            (the last axis moves first): matplotlib figures, PNG bytes, PIL images, or arrays of (height,
            width) or (height, width, 3) pixels in [0, 1]. A frame alone keeps 64 colors; those of several
            axes keep 256 together.
        labels: for each axis, such as "light", what its slider shows at each value.
        alts: what each frame shows, in words.
        render: draws the frame of one value per axis; without it the widget flips through `frames`.
        values: for each axis what `render` takes, one per label; needed with `render`.
        start: for each axis the index of the value shown first, and in print; the middle one if it is
            not given.

    Raises:
        ValueError: if there are not 1 to 4 axes of at least 2 labels each, the numbers of frames, alts
            and values do not fit the labels, the frames differ in size or are too large for one sheet,
            an axis, label or alt is empty, or `start` is out of range.
        TypeError: if a frame is none of the accepted kinds.
    """

    _widget: Any = None

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
        if not 1 <= len(counts) <= 4:
            raise ValueError(f"there must be 1 to 4 axes; {len(counts)} were given")
        if min(counts.values()) < 2:
            raise ValueError(f"every axis must have at least 2 values; {_count(counts)} was given")
        if not all(text.strip() for text in itertools.chain(labels, *labels.values(), alts)):
            raise ValueError("every axis, label and alt must hold text; an empty one was given")
        if (render is None) != (values is None):
            raise ValueError("render and values belong together; only one of them was given")
        given = counts if values is None else {name: len(stops) for name, stops in values.items()}
        if list(given.items()) != list(counts.items()):
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
        images = images_of(frames)
        if not len(images) == len(alts) == math.prod(counts.values()):
            raise ValueError(
                f"each combination of {_count(counts)} must have a frame and an alt; "
                f"{len(images)} frames, {len(alts)} alts were given"
            )
        self.frames = Separate(images) if len(counts) == 1 else Sheet(images)

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
        """Draw one frame per combination with the function that also redraws them in a live kernel.

        Args:
            axes: for each axis its values: numbers (a one-dimensional tensor will do) or anything else
                `render` takes.
            render: draws the frame of one value per axis, in the order of `axes`.
            alt: what the frame shows, as a format string of those values or a function of them.
            label: what a slider shows, as a format string of its value or a function of it; one for all
                axes, or a mapping with one for each.
            start: for each axis the index of the value shown first; the middle one if it is not given.
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
        return f"{type(self).__name__}({', '.join(self.labels)}: {counts} frames)"

    def html(self) -> str:
        """The static face: one figure of HTML with its frames inside, which loads nothing."""
        first = self._index(self.start)
        image, texts = self.frames[first], list(self.labels.values())
        # The longest texts keep their room, so that all sliders are of one length, whatever they show.
        room = max(len(text) for text in itertools.chain(*texts))
        lead = max(map(len, self.labels)) if len(texts) > 1 else 0
        axes = [
            _template("slider_axis.html").substitute(
                name=html.escape(name),
                text=html.escape(self.labels[name][at]),
                last=len(self.labels[name]) - 1,
                start=at,
                lead=lead,
                room=room,
            )
            for name, at in zip(self.labels, self.start, strict=True)
        ]
        data = json.dumps({"labels": texts, "alts": self.alts, **self.frames.data(first)})
        content = "\n".join([data, image.uri, *axes])
        kind = "companion-slider" if len(texts) == 1 else "companion-editor"
        return _template("slider.html").substitute(
            kind=kind,
            id=f"{kind}-{hashlib.sha256(content.encode()).hexdigest()[:12]}",
            image=image.tag(self.alts[first]),
            width=image.width,
            ratio="/".join(map(str, image.size)),
            room="100%" if len(texts) == 1 else "16em",  # below the frame, or beside it
            axes="\n".join(axes),
            script=_file("slider.js"),
            data=data.replace("<", "\\u003c"),
        )

    def widget(self) -> Any:
        """The live face: an ipywidgets box with a frame and its sliders, the same one at every call."""
        if self._widget is None:
            import ipywidgets

            first = self.frames[self._index(self.start)].tag(self.alts[self._index(self.start)])
            shown = ipywidgets.HTML(first)
            sliders = [
                ipywidgets.SelectionSlider(
                    options=[(label, i) for i, label in enumerate(labels)],
                    index=at,
                    description=name,
                    # Drawing anew takes too long to follow every pixel of a drag.
                    continuous_update=self.render is None,
                    style={"description_width": "initial"},
                    layout={"width": "min(100%, 36em)"},
                )
                for (name, labels), at in zip(self.labels.items(), self.start, strict=True)
            ]

            def redraw(change: Any) -> None:
                shown.value = self._tag([slider.index for slider in sliders])

            for slider in sliders:
                slider.observe(redraw, names="index")
            self._widget = ipywidgets.VBox([shown, *sliders])
        return self._widget

    def _tag(self, indices: Sequence[int]) -> str:
        """The HTML of a combination as the kernel draws it now."""
        index = self._index(indices)
        if self.render is None or self.values is None:
            return self.frames[index].tag(self.alts[index])
        values = [stops[i] for stops, i in zip(self.values.values(), indices, strict=True)]
        return png_of(self.render(*values)).tag(self.alts[index])

    def _index(self, indices: Sequence[int]) -> int:
        """The place of a combination among the frames."""
        place = 0
        for texts, i in zip(self.labels.values(), indices, strict=True):
            place = place * len(texts) + i
        return place

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle: dict[str, Any] = {"text/plain": repr(self), "text/html": self.html()}
        if _in_live_kernel():
            bundle["application/vnd.jupyter.widget-view+json"] = {
                "version_major": 2,
                "version_minor": 0,
                "model_id": self.widget().model_id,
            }
        return bundle


class Slider(Editor):
    """An `Editor` with one axis."""

    @classmethod
    def over(  # type: ignore[override]  # values of one axis in the place of named axes
        cls,
        values: Iterable[Any],
        render: Callable[[Any], Frame],
        *,
        description: str,
        alt: Text,
        label: Text = "{:.3g}",
        start: int = 0,
    ) -> "Editor":
        """`Editor.over` these values of one property, which `description` names; it shows the first one first."""
        return super().over({description: values}, render, alt=alt, label=label, start=[start])


def _stops(values: Iterable[Any]) -> list[Any]:
    return [value.item() if getattr(value, "ndim", None) == 0 else value for value in values]


def _text(form: Text, *values: Any) -> str:
    return form.format(*values) if isinstance(form, str) else form(*values)


def _count(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counts.items())


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf8").strip()


def _template(name: str) -> Template:
    return Template(_file(name))


def _in_live_kernel() -> bool:
    try:
        import ipywidgets  # noqa: F401 -- is it here?
        from IPython import get_ipython
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")
