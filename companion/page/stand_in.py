"""What a chapter says of MNIST is not judged where scikit-learn's digits stand in for it.

    about_mnist("1f3a 22b0")

The set-up cell says so of the cells with the tag `mnist`, each by the start of a checksum. Where no copy of MNIST
can be found, a truth that they print, such as "below the PCA bound: False", reads "below the PCA bound: not judged:
other data".
"""

import builtins
import hashlib
import re
from typing import Any

NOT_JUDGED = "not judged: other data"
MARK = 4  # hexadecimal digits of a cell's mark


def mark(cell: str) -> str:
    """The start of the checksum of a cell's code."""
    return hashlib.sha256(cell.strip().encode()).hexdigest()[:MARK]


def about_mnist(marks: str) -> None:
    """Do not judge what these cells print, where MNIST is missing; outside a notebook nothing changes.

    Args:
        marks: of the cells that speak of MNIST, with spaces between.

    Raises:
        ValueError: if one is no mark.
    """
    from IPython import get_ipython

    known = set(marks.split())
    if bad := [each for each in known if not re.fullmatch(f"[0-9a-f]{{{MARK}}}", each)]:
        raise ValueError(f"marks must hold {MARK} hexadecimal digits each; {bad[0]!r} was given")
    shell = get_ipython()
    if shell is None:
        return

    def before(info: Any) -> None:
        judges = mark(info.raw_cell) not in known
        shell.user_ns["print"] = builtins.print if judges else without_judgment

    shell.events.register("pre_run_cell", before)


def without_judgment(*values: object, sep: str | None = None, **options: Any) -> None:
    """`print`, but where MNIST is missing, no True and no False is printed."""
    from companion.data import find

    if find("mnist") is None:
        text = (" " if sep is None else sep).join(map(str, values))
        values = (re.sub(r"\b(True|False)\b", NOT_JUDGED, text),)
    builtins.print(*values, sep=sep, **options)
