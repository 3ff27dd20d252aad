"""What one can learn without labels: five things, all computed from one toy data set."""

import numpy as np
import torch
from drawing import BLUE, GRAY, GREEN, INK, ORANGE, PALE, VERMILION, card, save
from matplotlib.axes import Axes
from scipy.cluster.vq import kmeans2
from scipy.stats import gaussian_kde


def toy_points(num: int = 420, seed: int = 3) -> np.ndarray:
    """Points near an arc, denser in three places: (num, 2)."""
    rng = np.random.default_rng(seed)
    angle = np.concatenate([rng.normal(mean, 0.22, num // 3) for mean in (0.45, 1.57, 2.70)])
    radius = 1 + 0.075 * rng.standard_normal(len(angle))
    return np.stack([1.35 * radius * np.cos(angle), 1.25 * radius * np.sin(angle) - 0.75], axis=1)


def one_number_code(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Train an autoencoder with a one-dimensional code; returns each point's code in [0, 1] and the decoder's curve."""
    torch.manual_seed(1)
    encoder = torch.nn.Sequential(
        torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1), torch.nn.Sigmoid()
    )
    decoder = torch.nn.Sequential(torch.nn.Linear(1, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-2)
    x = torch.as_tensor(points, dtype=torch.float32)
    for _ in range(3000):
        optimizer.zero_grad()
        (decoder(encoder(x)) - x).square().sum(1).mean().backward()
        optimizer.step()
    with torch.no_grad():
        codes = encoder(x)[:, 0]
        curve = decoder(torch.linspace(codes.min(), codes.max(), 200)[:, None])
    return codes.numpy(), curve.numpy()


def without_labels() -> None:
    """Six panels over one toy data set: the data, and five things that can be learned from it."""
    points = toy_points()
    rng = np.random.default_rng(0)
    figure, _ = card(10, 6.5)
    panels: list[Axes] = []
    titles = (
        "Data without labels",
        "Clustering",
        "Dimension reduction",
        "Feature learning",
        "Density estimation",
        "Sampling",
    )
    notes = (
        "",
        "k-means, k = 3",
        "first principal component",
        "autoencoder, 1-number code",
        "kernel density estimate",
        "300 new points from it",
    )
    for i, (title, note) in enumerate(zip(titles, notes, strict=True)):
        axes = figure.add_axes((0.025 + 0.325 * (i % 3), 0.515 - 0.48 * (i // 3), 0.30, 0.375))
        axes.set(xlim=(-1.95, 1.95), ylim=(-1.42, 1.05), xticks=[], yticks=[], facecolor="#FAFBFC")
        for spine in axes.spines.values():
            spine.set(color=PALE)
        axes.set_title(title, fontsize=14.5, fontweight="bold", color=INK, pad=7)
        axes.text(0.5, 0.045, note, transform=axes.transAxes, ha="center", fontsize=13, color=GRAY)
        panels.append(axes)
    dots = {"s": 11, "linewidths": 0, "alpha": 0.85}
    panels[0].scatter(*points.T, color=INK, **dots)
    centers, label = kmeans2(points, 3, minit="++", seed=4)
    for k, (color, marker) in enumerate(zip((BLUE, ORANGE, GREEN), "o^s", strict=True)):
        panels[1].scatter(*points[label == k].T, color=color, marker=marker, **dots)
        panels[1].scatter(
            *centers[k],
            color="white",
            edgecolors=INK,
            marker=marker,
            s=110,
            linewidths=1.8,
            zorder=4,
        )
    mean = points.mean(0)
    direction = np.linalg.svd(points - mean, full_matrices=False)[2][0]
    projected = mean + np.outer((points - mean) @ direction, direction)
    panels[2].plot(
        *np.stack([points, projected], 1)[::4].transpose(2, 1, 0),
        color=PALE,
        linewidth=0.9,
        zorder=1,
    )
    panels[2].plot(
        *np.stack([mean - 1.75 * direction, mean + 1.75 * direction]).T,
        color=VERMILION,
        linewidth=2,
        zorder=2,
    )
    panels[2].scatter(*points.T, color=INK, s=7, alpha=0.35, linewidths=0)
    panels[2].scatter(*projected.T, color=VERMILION, s=12, linewidths=0, zorder=3)
    codes, curve = one_number_code(points)
    panels[3].plot(*curve.T, color=INK, linewidth=2, zorder=3)
    panels[3].scatter(*points.T, c=codes, cmap="viridis", **dots)
    density = gaussian_kde(points.T, bw_method=0.16)
    grid = np.stack(np.meshgrid(np.linspace(-1.95, 1.95, 130), np.linspace(-1.42, 1.05, 90)))
    height = density(grid.reshape(2, -1)).reshape(90, 130)
    panels[4].contourf(
        *grid, height, levels=np.linspace(0.03, height.max(), 9), cmap="Blues", extend="max"
    )
    panels[5].scatter(*density.resample(300, seed=rng), color=VERMILION, **dots)
    save(figure, "without-labels")
