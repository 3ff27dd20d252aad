"""Draw the figures of the prose pages: run `python book/figures/make_figures.py [name ...]` and commit the SVG files.

Nothing here is traced or downloaded: the diagrams are drawn, the picture in the chains is a formula, and every panel
of the toy data set is computed. Each figure is a white rounded card, which reads alike in the light and the dark theme.
"""

import sys
from collections.abc import Callable

from mistakes import mistake_noise, mistake_ppca, mistake_sign
from one_bound import one_bound, one_bound_narrow
from taxonomy import taxonomy
from without_labels import without_labels

DRAWINGS: dict[str, Callable[[], None]] = {
    "one-bound": one_bound,
    "one-bound-narrow": one_bound_narrow,
    "mistake-noise": mistake_noise,
    "mistake-ppca": mistake_ppca,
    "mistake-sign": mistake_sign,
    "taxonomy": taxonomy,
    "without-labels": without_labels,
}

if __name__ == "__main__":
    if unknown := set(sys.argv[1:]) - set(DRAWINGS):
        known = ", ".join(DRAWINGS)
        sys.exit(f"unknown figure {', '.join(sorted(unknown))}; the figures are {known}")
    for chosen in sys.argv[1:] or DRAWINGS:
        DRAWINGS[chosen]()
