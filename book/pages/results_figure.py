"""The picture that opens the results: each model as a dot on one axis, with its error and what others published."""

from __future__ import annotations

import re
from typing import Any

BELOW = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")  # the digits as an index

AXES = {
    "nats": (
        "Black-and-white digits: minus log p(x), in nats",
        77.0,
        89.0,
        (78, 80, 82, 84, 86, 88),
    ),
    "bits": (
        "Gray digits: minus log p(x) or its bound, in bits per dimension",
        0.5,
        1.8,
        (0.6, 0.8, 1.0, 1.2, 1.4, 1.6),
    ),
    "shares": (
        "Samples not recognized as a digit, in percent, in excess over real digits",
        0.0,
        80.0,
        (0, 20, 40, 60),
    ),
}


def dots(
    cards: list[dict[str, Any]], samples: dict[str, Any], neighbors: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The axes with their rows, the best first. A value beyond an axis stands at its end."""
    shipped = {card["name"] for card in cards}
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in AXES}
    for card in cards:
        metric, bound = card["metric"], "bound" in card["metric"]
        of_shipped = card.get("model") in shipped and not card["name"].endswith("-bits")
        if "binarized" in metric and not of_shipped:
            few = ["2,000 digits"] if "first 2000" in metric else []
            samples_used = ["L" + k.translate(BELOW) for k in re.findall(r"L_(\d+)", metric)]
            remarks = (["a bound"] if bound else samples_used) + few
            rows["nats"].append(_row(card, f" ({', '.join(remarks)})"))
        if "256 levels" in metric:
            rows["bits"].append(_row(card, ""))
    for name, each in samples.items():
        if "unrecognized" in each:
            value, error = (100 * each[key] for key in ("unrecognized", "unrecognized_se"))
            way = f" ({each['way']})" if "way" in each else ""
            rows["shares"].append(
                _row({"name": name, "metric_value": value, "metric_se": error}, way)
            )
    for row in neighbors:
        value = float(row["value"])
        text = {"value": value, "error": None, "text": row["value"]}
        rows[row["axis"]].append(row | text)
    return [
        {"title": AXES[name][0], **_placed(mine, *AXES[name][1:])}
        for name, mine in rows.items()
        if mine
    ]


def _row(card: dict[str, Any], remark: str) -> dict[str, Any]:
    value, error = card["metric_value"], card["metric_se"]
    places = 1 if error > 0.5 else 2 if error > 0.02 else 3
    text = f"{value:.{places}f} ± {error:.{places}f}"
    return {"value": value, "error": error, "text": text, "card": card["name"], "remark": remark}


def _placed(
    rows: list[dict[str, Any]], low: float, high: float, ticks: tuple[float, ...]
) -> dict[str, Any]:
    """Rows in their order, with places in percent of the axis: of the dot, and of two standard errors around it."""

    def place(value: float) -> float:
        return round(100 * min(max((value - low) / (high - low), 0.0), 1.0), 2)

    for row in rows:
        row["at"], row["beyond"] = place(row["value"]), row["value"] > high
        if row["error"] is not None and not row["beyond"]:
            left, right = (place(row["value"] + k * row["error"]) for k in (-2, 2))
            row["bar"] = (left, round(right - left, 2))
    rows.sort(key=lambda row: row["value"])
    return {"rows": rows, "ticks": [(place(tick), f"{tick:g}") for tick in ticks]}
