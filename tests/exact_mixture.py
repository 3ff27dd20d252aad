"""Data whose scores and denoiser are known: a mixture of three Gaussians in the plane."""

from __future__ import annotations

import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from companion.denoisers import MixtureDenoiser
from companion.schedule import linear_schedule

F64 = torch.double
LINEAR = linear_schedule(1000)
WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=F64)
MEANS = torch.tensor([[1.0, 0.5], [-1.0, 0.0], [0.3, -1.0]], dtype=F64)
FACTORS = torch.tensor(
    [[[0.4, 0.0], [0.2, 0.3]], [[0.3, 0.0], [0.0, 0.5]], [[0.2, 0.0], [-0.2, 0.3]]], dtype=F64
)
COVS = FACTORS @ FACTORS.mT
MIXTURE = MixtureSameFamily(Categorical(WEIGHTS), MultivariateNormal(MEANS, COVS))
DENOISER = MixtureDenoiser(LINEAR, WEIGHTS, MEANS, COVS)
SCORE = DENOISER.score_at_level
