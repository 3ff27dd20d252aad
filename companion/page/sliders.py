"""Sliders with two faces: live in a kernel, rendered frames on a page without one.

    Slider(sigmas, draw, description="noise level", alt="the density at noise level {:.1f}")
    Editor({"light": levels, "turn": angles}, draw, alt="a house, light {:.1f}, turned by {:.0f}")
    Film(range(51), draw, description="steps", alt="ten digits after {} steps of noise")

As the last expression of a cell it shows a widget that calls `draw` anew in a live kernel, and plain HTML
with frames drawn beforehand on a static page. Both work by mouse and by keyboard and name what is seen
for screen readers.
"""

import hashlib
import html
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import resources
from string import Template
from typing import Any, TypeAlias

from companion import checks
from companion.page.frames import GRAYS, SMALLEST, Frame, Separate, Sheet, images_of, png_of

Text: TypeAlias = str | Callable[..., str]  # a format string of some values or a function of them


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf8").strip()


class Editor:
    """A drawing of one thing with one to four properties, and a slider for each.

    The page holds a frame for each combination of values: with one axis each is a file of its own, which
    keeps 64 colors; with several, one file holds all of them, keeps 256, and one tile of it is shown.

    Args:
        axes: for each property, such as "light", its values: numbers (a one-dimensional tensor will do)
            or anything else `render` takes.
        render: draws one value per axis, in the order of `axes`, always at one size: a matplotlib figure,
            a PIL image, or (height, width) or (height, width, 3) pixels in [0, 1].
        alt: what the frame shows, as a format string of those values or a function of them.
        label: what a slider shows, as a format string of its value or a function of it; one for all axes,
            or a mapping with one for each.
        start: for each axis the index of the value shown first, and in print; by default the middle one.

    Raises:
        ValueError: if there are not 1 to 4 axes of at least 2 values each, an axis, label or alt is empty,
            `label` or `start` does not fit the axes, or the frames differ in size or are too large.
        TypeError: if `render` draws none of the accepted kinds.
    """

    _widget: Any = None
    _button, _smallest = "", SMALLEST
    _grays = GRAYS

    def __init__(
        self,
        axes: Mapping[str, Iterable[Any]],
        render: Callable[..., Frame],
        *,
        alt: Text,
        label: Text | Mapping[str, Text] = "{:.3g}",
        start: Sequence[int] | None = None,
    ) -> None:
        checks.instance(Mapping, axes=axes)
        checks.function(render=render)
        for name, values in axes.items():
            checks.instance(str, **{"the name of an axis": name})
            if not isinstance(values, Iterable):
                raise TypeError(f"axes must hold values for each of {name}; {values!r} was given")
        self.values = {name: _items(values) for name, values in axes.items()}
        counts = [len(values) for values in self.values.values()]
        given = ", ".join(f"{len(values)} {name}" for name, values in self.values.items())
        if not 1 <= len(counts) <= 4 or min(counts) < 2:
            raise ValueError(
                f"there must be 1 to 4 axes of at least 2 values; {given or 'none'} was given"
            )
        checks.instance(Sequence, start=() if start is None else start)
        self.start = [count // 2 for count in counts] if start is None else list(start)
        if len(self.start) != len(counts) or not all(
            type(i) is int and 0 <= i < count for i, count in zip(self.start, counts, strict=True)
        ):
            raise ValueError(f"start must hold an index per axis, below {given}; {start} was given")
        forms = label if isinstance(label, Mapping) else dict.fromkeys(axes, label)
        if set(forms) != set(axes):
            raise ValueError(
                f"label must hold one for each of {', '.join(axes)}; "
                f"{', '.join(forms) or 'none'} was given"
            )
        self.labels = {
            name: [_text("label", forms[name], value) for value in values]
            for name, values in self.values.items()
        }
        points = list(itertools.product(*self.values.values()))
        self.alts = [_text("alt", alt, *point) for point in points]
        if not all(
            text.strip() for text in itertools.chain(axes, *self.labels.values(), self.alts)
        ):
            raise ValueError("every axis, label and alt must hold text; an empty one was given")
        self.render = render
        images = images_of(itertools.starmap(render, points), self._smallest)
        self.frames = Separate(images, self._grays) if len(counts) == 1 else Sheet(images)

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
                button=self._button,
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
                    continuous_update=False,  # drawing takes too long to follow every pixel of a drag
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
        values = [values[i] for values, i in zip(self.values.values(), indices, strict=True)]
        return png_of(self.render(*values)).tag(self.alts[self._index(indices)])

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
    """An `Editor` of one property, which `description` names; by default it shows the first value first."""

    def __init__(
        self,
        values: Iterable[Any],
        render: Callable[[Any], Frame],
        *,
        description: str,
        alt: Text,
        label: Text = "{:.3g}",
        start: int = 0,
    ) -> None:
        super().__init__({description: values}, render, alt=alt, label=label, start=[start])


class Film(Slider):
    """A `Slider` of many frames that also plays them: fifty to a hundred make a motion.

    Gray frames keep 16 levels, since noise compresses badly, and single pixels are magnified more. A live kernel
    shows the frames that were drawn, too, because drawing anew takes longer than a frame may last.
    """

    _button, _smallest = _file("film_button.html"), 448
    _grays = 16

    def widget(self) -> Any:
        """The live face, with ipywidgets' own buttons to play and stop."""
        if self._widget is None:
            import ipywidgets

            shown, slider = super().widget().children
            play = ipywidgets.Play(max=len(self.alts) - 1, value=slider.index, interval=120)
            ipywidgets.jslink((play, "value"), (slider, "index"))
            self._widget = ipywidgets.VBox([shown, play, slider])
        return self._widget

    def _tag(self, indices: Sequence[int]) -> str:
        place = self._index(indices)
        return self.frames[place].tag(self.alts[place])


def _items(values: Iterable[Any]) -> list[Any]:
    return [value.item() if getattr(value, "ndim", None) == 0 else value for value in values]


def _text(name: str, form: Text, *values: Any) -> str:
    if not isinstance(form, str):
        checks.function(**{name: form})
        text = form(*values)
        checks.instance(str, **{f"what {name} returns": text})
        return text
    try:
        return form.format(*values)
    except (IndexError, KeyError, ValueError, TypeError, AttributeError):
        given = ", ".join(map(str, values))
        raise ValueError(f"{name} must fit its values, {given}; {form!r} was given") from None


def _template(name: str) -> Template:
    return Template(_file(name))


def _in_live_kernel() -> bool:
    try:
        import ipywidgets  # noqa: F401 -- is it here?
        from IPython import get_ipython
    except ImportError:
        return False
    return hasattr(get_ipython(), "kernel")
