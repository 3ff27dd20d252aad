"""The data point of the chains: an evening by the sea, written as a formula, and what noise makes of it."""

import numpy as np


def landscape(size: int = 56) -> np.ndarray:
    """An evening by the sea, written as a formula: the data point x of the chains; (size, size, 3) in [0, 1]."""
    v, u = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    horizon, sun = 0.66, (0.64, 0.42)

    def mix(low: np.ndarray, high: np.ndarray, share: np.ndarray) -> np.ndarray:
        return low + (high - low) * share[..., None]

    dusk, glow, water = (np.array(c) / 255 for c in ((38, 62, 120), (255, 176, 96), (30, 74, 122)))
    below = np.clip(v - horizon, 0, 1)
    picture = mix(dusk, glow, np.clip(v / horizon, 0, 1) ** 1.3)
    distance = np.hypot(u - sun[0], v - sun[1])
    picture = mix(picture, np.array([1.0, 0.86, 0.52]), np.exp(-((distance / 0.22) ** 2)) * 0.7)
    picture[distance < 0.115] = (1.0, 0.95, 0.78)
    far = horizon - 0.05 - 0.05 * np.sin(6 * u + 1.2) - 0.02 * np.sin(17 * u)
    near = (
        horizon
        - 0.34 * np.exp(-(((u - 0.10) / 0.17) ** 2))
        - 0.10 * np.exp(-(((u - 0.40) / 0.12) ** 2))
    )
    picture[v > far] = (0.45, 0.34, 0.48)
    picture[v > near] = (0.16, 0.19, 0.33)
    ripple = 0.5 + 0.5 * np.sin(90 * below**0.7 + 5 * np.sin(9 * u))
    light = np.exp(-(((u - sun[0]) / (0.05 + 0.35 * below)) ** 2)) * (0.35 + 0.65 * ripple)
    sea = mix(water * (0.65 + 0.35 * ripple[..., None]), glow, 0.9 * light)
    return np.clip(np.where((v > horizon)[..., None], sea, picture), 0, 1)


def noised(picture: np.ndarray, t: int, seed: int = 0) -> np.ndarray:
    """The picture after t of 1000 steps of the linear schedule; the noise is drawn at 3/4 of its size, to clip less."""
    alpha_bar = np.prod(1 - np.linspace(1e-4, 0.02, 1000)[:t])
    noise = np.random.default_rng(seed).standard_normal(picture.shape)
    return np.clip(
        (np.sqrt(alpha_bar) * (2 * picture - 1) + 0.75 * np.sqrt(1 - alpha_bar) * noise + 1) / 2,
        0,
        1,
    )
