"""Variational autoencoders against probabilistic PCA, where bound and likelihood are known exactly."""

import math
from typing import Any

import pytest
import torch
from bad_input import refused
from networks import Network
from sklearn.decomposition import PCA
from tiny_recipes import card
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from companion.distributions import DiscretizedGaussianLikelihood, GaussianLikelihood, bernoulli
from companion.elbo import elbo_loss, elbo_terms, importance_weighted_loss, sample_log_weights
from companion.samplers import ancestral_sample
from companion.vae import (
    Vae,
    conv_vae,
    gray_cross_entropy_loss,
    linear_vae,
    linear_vae_log_likelihood,
    mlp_vae,
)
from companion.zoo.weights import load_weights, save_weights

F64 = torch.double


def draw(model: Vae, x: Tensor) -> Tensor:
    """One importance weight of each example, as a logarithm."""
    return sample_log_weights(model, x, 1)[0]


def pca_data(num: int = 400) -> Tensor:
    """Vectors of 6 dimensions, two of which vary more than the rest."""
    scales = torch.tensor([2.0, 1.5, 0.7, 0.7, 0.7, 0.7], dtype=F64)
    rotation = torch.linalg.qr(torch.randn(6, 6, dtype=F64)).Q
    return torch.randn(num, 6, dtype=F64) * scales @ rotation + torch.randn(6, dtype=F64)


def optimal_vae(x: Tensor, latent_dim: int, angle: float = 0.0) -> Vae:
    """The linear VAE at the maximum likelihood, W turned by `angle`, with the best q for it.

    Source: Tipping & Bishop 1999, eqs. 7, 8.
    """
    eigenvalues, U = torch.linalg.eigh(torch.cov(x.T, correction=0))
    eigenvalues, U = eigenvalues.flip(0), U.flip(1)
    var = eigenvalues[latent_dim:].mean()
    R = torch.eye(latent_dim, dtype=F64)
    R[:2, :2] = torch.tensor(
        [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    )
    W = U[:, :latent_dim] * (eigenvalues[:latent_dim] - var).sqrt() @ R
    M = W.T @ W + var * torch.eye(latent_dim, dtype=F64)
    V = torch.linalg.solve(M, W.T)
    model = linear_vae(x.shape[1], latent_dim).double()
    model.load_state_dict(
        {
            "encoder.mean.weight": V,
            "encoder.mean.bias": -V @ x.mean(0),
            "encoder.log_var": (var / M.diag()).log(),
            "decoder.weight": W,
            "decoder.bias": x.mean(0),
            "observation_model.log_std": var.log() / 2,
        }
    )
    return model


def exact_elbo(model: Vae, x: Tensor) -> Tensor:
    """The bound of a linear VAE in closed form: E||x - W z - mu||^2 is known for normal z."""
    q, std = model.posterior(x), model.observation_model.log_std.exp()
    residual = (x - model.decoder(q.mean)).square().sum(1)
    spread = (q.variance * model.decoder.weight.square().sum(0)).sum(1)
    log_p = -0.5 * (residual + spread) / std**2 - x.shape[1] * (std * math.sqrt(2 * math.pi)).log()
    return log_p - kl_divergence(q, model.prior(len(x)))


def test_as_many_latents_as_in_the_book_if_none_are_asked_for() -> None:
    assert (mlp_vae().latent_dim, conv_vae().latent_dim, conv_vae(1).latent_dim) == (50, 16, 1)


def test_the_bound_of_a_linear_vae_touches_the_likelihood_at_the_optimum_of_ppca() -> None:
    x = pca_data()
    model = optimal_vae(x, 2)
    log_p = linear_vae_log_likelihood(model, x)
    centered = (x - x.mean(0)).numpy()
    pca = PCA(2).fit(centered * math.sqrt(399 / 400))  # scikit-learn divides by n - 1
    assert log_p.mean().item() == pytest.approx(pca.score(centered), abs=1e-10)
    torch.testing.assert_close(exact_elbo(model, x), log_p, rtol=0, atol=1e-8)
    # Every weight is then p(x), so that sampling adds no error either.
    torch.testing.assert_close(draw(model, x), log_p, rtol=0, atol=1e-8)
    torch.testing.assert_close(-importance_weighted_loss(model, x, 5), log_p, rtol=0, atol=1e-8)


def test_the_likelihood_of_a_linear_vae_is_that_of_the_closed_form() -> None:
    x = pca_data()
    eigenvalues = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).flip(0)
    var = eigenvalues[2:].mean()
    by_hand = -0.5 * (6 * math.log(2 * math.pi) + eigenvalues[:2].log().sum() + 4 * var.log() + 6)
    log_p = linear_vae_log_likelihood(optimal_vae(x, 2), x).mean()
    assert log_p.item() == pytest.approx(by_hand.item(), abs=1e-10)


def test_a_turned_basis_costs_the_correlation_a_diagonal_q_cannot_have() -> None:
    x = pca_data()
    model = optimal_vae(x, 2, angle=0.6)
    W, var = model.decoder.weight, (2 * model.observation_model.log_std).exp()
    M = W.T @ W + var * torch.eye(2, dtype=F64)
    gap = 0.5 * (M.diag().log().sum() - torch.logdet(M))
    difference = linear_vae_log_likelihood(model, x) - exact_elbo(model, x)
    assert gap > 0.01
    torch.testing.assert_close(difference, gap.expand_as(difference), rtol=0, atol=1e-8)


def test_elbo_terms_of_a_linear_vae_average_to_the_closed_form() -> None:
    x = pca_data(1)
    model = linear_vae(6, 3).double()
    elbo = elbo_terms(model, x.expand(100_000, 6)).elbo
    assert abs(elbo.mean() - exact_elbo(model, x)) <= 5 * elbo.std() / math.sqrt(len(elbo))


def test_importance_weights_close_the_gap_of_a_linear_vae() -> None:
    x = pca_data(1).expand(2000, 6)
    model = optimal_vae(pca_data(), 2, angle=0.6)
    model.encoder.log_var.data += 0.5  # wider than the posterior, so that the weights are bounded
    log_p = linear_vae_log_likelihood(model, x)[0]
    loose, tight = [(log_p + importance_weighted_loss(model, x, K)).mean() for K in (1, 500)]
    assert loose > 0.05 and abs(tight) < 0.02 * loose


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize(
    "model",
    [
        mlp_vae(latent_dim=3, hidden=(8,)),
        mlp_vae(4, (16, 8), nn.ReLU, (3, 32, 32), GaussianLikelihood(0.3)),
        conv_vae(2, 4),
        conv_vae(5, 2, (3, 32, 32), DiscretizedGaussianLikelihood(0.2, learned=True)),
    ],
)
def test_shapes_and_precision(model: Vae, dtype: torch.dtype) -> None:
    model = model.to(dtype)
    *_, picture = ancestral_sample(model, 2)
    assert picture.dtype == dtype and picture.shape[2:] in ((28, 28), (32, 32))
    x = torch.ones_like(picture)
    q, p = model.posterior(x), model.prior(2)
    assert q.batch_shape == p.batch_shape == (2,)
    assert q.event_shape == p.event_shape == (model.latent_dim,)
    assert q.mean.dtype == p.mean.dtype == dtype
    assert model.likelihood(q.sample()).mean.shape == x.shape
    for loss in (elbo_loss, lambda model, x: importance_weighted_loss(model, x, 3)):
        value = loss(model, x)
        assert value.shape == (2,) and value.dtype == dtype
        value.mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_the_bound_keeps_the_model_s_precision_under_autocast() -> None:
    model, x = mlp_vae(3, (8,)), torch.ones(5, 1, 28, 28)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.encoder(x).dtype == torch.bfloat16
        for p in (model.posterior(x), model.likelihood(torch.zeros(5, 3))):
            assert p.mean.dtype == torch.float32
        for loss in (elbo_loss, draw):
            assert loss(model, x).dtype == torch.float32 and loss(model, x).isfinite().all()


def test_the_encoder_gives_the_mean_and_then_the_log_variance() -> None:
    constant = torch.tensor([1.0, 2.0, 0.0, math.log(4.0)])
    encoder = Network(lambda x: constant.expand(len(x), 4))
    q = Vae(encoder, nn.Linear(2, 3), bernoulli, 2).posterior(torch.zeros(1, 3))
    torch.testing.assert_close(q.mean, torch.tensor([[1.0, 2.0]]))
    torch.testing.assert_close(q.stddev, torch.tensor([[1.0, 2.0]]))


def test_the_default_is_the_net_of_burda_and_others() -> None:
    layers = [m for m in mlp_vae().modules() if isinstance(m, nn.Linear)]
    assert [m.in_features for m in layers] == [784, 200, 200, 50, 200, 200]
    assert [m.out_features for m in layers] == [200, 200, 100, 200, 200, 784]
    assert sum(isinstance(m, nn.Tanh) for m in mlp_vae().modules()) == 4


def test_weights_survive_a_file_and_hold_no_zeros(tmp_path: Any) -> None:
    model = linear_vae(4, 2)
    maps = {f"{m}.{kind}" for m in ("encoder.mean", "decoder") for kind in ("weight", "bias")}
    names = maps | {"encoder.log_var", "observation_model.log_std"}
    assert set(model.state_dict()) == set(dict(model.named_parameters())) == names  # all is learned
    save_weights(model, card("v"), tmp_path)
    other = linear_vae(4, 2)
    load_weights("v", other, tmp_path)
    torch.testing.assert_close(other.decoder.weight, model.decoder.weight.half().float())


def test_gaussian_likelihoods_hold_their_standard_deviation_as_a_parameter_or_a_buffer() -> None:
    mean, x = torch.rand(2, 3), torch.rand(2, 3)
    for learned in (True, False):
        p = GaussianLikelihood(0.3, learned)
        assert len(list(p.parameters())) == learned and "log_std" in p.state_dict()
        torch.testing.assert_close(p(mean).log_prob(x), Normal(mean, 0.3).log_prob(x).sum(1))
    # 256 gray levels from 0 to 1, whose probabilities add up to one.
    levels = torch.arange(256).view(256, 1) / 255
    masses = DiscretizedGaussianLikelihood(0.3)(torch.full((256, 1), 0.4)).log_prob(levels)
    assert masses.exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_gray_cross_entropy_is_the_loss_of_the_well_known_example() -> None:
    model, x = mlp_vae(20, (400,), nn.ReLU), torch.rand(4, 1, 28, 28)
    torch.manual_seed(2)
    loss = gray_cross_entropy_loss(model, x)
    torch.manual_seed(2)
    mean, log_var = model.encoder(x).chunk(2, 1)
    z = mean + torch.exp(0.5 * log_var) * torch.randn_like(mean)
    cross_entropy = (
        F.binary_cross_entropy(model.decoder(z).sigmoid(), x, reduction="none").flatten(1).sum(1)
    )
    kl = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum(1)
    torch.testing.assert_close(loss, cross_entropy + kl)
    # On black and white pictures it is the bound.
    x = x.round()
    torch.manual_seed(2)
    loss = gray_cross_entropy_loss(model, x)
    torch.manual_seed(2)
    torch.testing.assert_close(loss, elbo_loss(model, x))


test_bad_input = refused("vae")
