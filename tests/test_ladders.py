"""Ladders of perceptrons and of feature maps: their networks' formulas, sizes, and what holds for both."""

import math
from typing import Any

import pytest
import torch
from bad_input import refused
from tiny_recipes import card
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn import functional as F

from companion.distributions import Carried, diagonal_normal, evidence_alone
from companion.elbo import elbo_loss, elbo_terms, importance_weighted_loss, sample_log_weights
from companion.hierarchical_vae import HierarchicalVae
from companion.ladders import Merge, conv_ladder, mlp_ladder
from companion.metrics import log_likelihood
from companion.networks.residual import Residual
from companion.samplers import ancestral_sample
from companion.zoo.weights import load_weights, save_weights

F64 = torch.double


def small_mlp(**settings: Any) -> HierarchicalVae:
    return mlp_ladder((4, 3, 2), (16, 8, 8), **settings)


def small_conv(**settings: Any) -> HierarchicalVae:
    return conv_ladder(3, 2, (1, 2), (4, 6), **settings)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize(
    "build",
    [
        small_mlp,
        lambda: mlp_ladder((3,), (8,)),
        lambda: small_mlp(image_shape=(3, 8, 8), combine=evidence_alone),
        small_conv,
        lambda: conv_ladder(3, 2, (2, 1, 1), (4, 4, 4), (3, 32, 32)),
    ],
)
def test_shapes_and_precision(build: Any, dtype: torch.dtype) -> None:
    model = build().to(dtype)
    *film, picture = ancestral_sample(model, 2)
    assert len(film) == model.num_latents and picture.dtype == dtype
    for z, shape in zip(reversed(film), model.latent_shapes):
        assert z.shape[0] == 2 and z.shape[2:] == shape[1:] and z.shape[1] >= shape[0]
    x = (picture > 0.5).to(dtype)
    terms = elbo_terms(model, x)
    assert terms.kl.shape == (2, model.num_latents) and terms.kl.dtype == terms.elbo.dtype == dtype
    assert (terms.kl > -1e-6).all()
    assert log_likelihood(model.eval(), x, 5, chunk=4).shape == (2,)
    model.train()
    for loss in (elbo_loss, lambda model, x: importance_weighted_loss(model, x, 3)):
        value = loss(model, x)
        assert value.shape == (2,) and value.dtype == dtype
        value.mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize("build", [small_mlp, small_conv])
def test_the_bound_keeps_the_model_s_precision_under_autocast(build: Any) -> None:
    model, x = build(), torch.ones(5, 1, 28, 28)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.encode(x)[0].dtype == torch.bfloat16
        for loss in (elbo_loss, lambda model, x: sample_log_weights(model, x, 1)):
            assert loss(model, x).dtype == torch.float32 and loss(model, x).isfinite().all()


@pytest.mark.parametrize("build", [small_mlp, small_conv])
def test_log_weights_average_to_the_bound(build: Any) -> None:
    shape = (1, 8, 8)
    model = build(image_shape=shape).eval()
    for head in model.evidence:  # so that no KL is small
        for parameter in head.parameters():
            nn.init.normal_(parameter, std=0.3)
    x = torch.rand(1, *shape).round().expand(500, *shape)
    with torch.no_grad():
        log_w, terms = sample_log_weights(model, x, 1)[0], elbo_terms(model, x)
    assert (terms.kl.mean(0) > 0.1).all()
    error = math.hypot(log_w.std().item(), terms.elbo.std().item()) / math.sqrt(len(x))
    assert abs(log_w.mean() - terms.elbo.mean()) <= 5 * error


def test_the_conv_ladder_starts_with_standard_normal_priors_on_every_level() -> None:
    model = small_conv()
    *film, _ = ancestral_sample(model, 3)
    for t, above in zip((3, 2, 1), film):
        p = model.inner_prior(t, above)
        assert isinstance(p, Carried) and p.carry.std() > 0
        assert torch.equal(p.base_dist.mean, torch.zeros(3, *model.latent_shapes[t - 1]))
        assert torch.equal(p.base_dist.stddev, torch.ones(3, *model.latent_shapes[t - 1]))


@pytest.mark.parametrize(
    "model",
    [
        mlp_ladder((3, 2), (8, 4), image_shape=(1, 4, 4)),
        conv_ladder(2, 2, (1, 1), (4, 4), image_shape=(1, 4, 4)),
    ],
)
def test_no_training_step_gives_a_nan(model: HierarchicalVae, unchecked: None) -> None:
    adam = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(60):
        loss = elbo_loss(model, (torch.rand(4, 1, 4, 4) < torch.rand(())).float()).mean()
        assert loss.isfinite()
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def widths(network: nn.Module) -> list[tuple[int, int]]:
    """From how many numbers, or channels, to how many each layer of a network leads."""
    linear = [m for m in network.modules() if isinstance(m, nn.Linear)]
    maps = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    return [(m.in_features, m.out_features) for m in linear] + [
        (m.in_channels, m.out_channels) for m in maps
    ]


def test_the_networks_have_the_sizes_they_say() -> None:
    model = mlp_ladder()
    assert model.latent_shapes == ((64,), (32,), (16,), (8,), (4,))
    model = mlp_ladder((3, 2), (8, 5), image_shape=(1, 4, 4))
    assert [*map(widths, model.bottom_up)] == [[(16, 8), (8, 8)], [(8, 5), (5, 5)]]
    assert [*map(widths, model.evidence)] == [[(8, 6)], [(5, 4)]]
    assert [*map(widths, model.priors)] == [[(2, 5), (5, 5), (5, 6)]]
    assert widths(model.decoder) == [(3, 8), (8, 8), (8, 16)]
    model = conv_ladder(levels=(2, 3))
    assert model.latent_shapes == (*2 * [(4, 14, 14)], *3 * [(4, 7, 7)], (8,))
    wide = conv_ladder(2, 2, (1, 1), (4, 6), image_shape=(1, 4, 8))
    assert wide.latent_shapes == ((2, 2, 4), (2, 1, 2), (2,))
    model = conv_ladder(2, 2, (1, 1), (4, 6), image_shape=(1, 4, 4))
    block = {w: [(w, w // 2), (w // 2, w // 2), (w // 2, w // 2), (w // 2, w)] for w in (4, 6)}
    assert [*map(widths, model.bottom_up)] == [[(1, 4), *block[4]], [(4, 6), *block[6]], []]
    code = {w: [(w // 2, w // 2), (w // 2, w // 2), (w // 2, 4)] for w in (4, 6)}
    assert [*map(widths, model.evidence)] == [[(8, 2), *code[4]], [(12, 3), *code[6]], [(6, 4)]]
    heads = [[(w, w // 2), *code[w]] for w in (4, 6)]
    assert widths(model.priors[0]) == [(2, 6), (6, 4), *block[4], *heads[0]]
    assert widths(model.priors[1]) == [(2, 6), *block[6], *heads[1]]
    assert widths(model.decoder) == [(2, 4), *block[4], (4, 2), (2, 1)]
    assert all(m.bias is not None for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))


def hidden(network: nn.Sequential, x: Tensor) -> Tensor:
    """Linear layers, each with batch normalization and x sigmoid(x), by their formulas."""
    for linear, norm in zip(network[0::3], network[1::3], strict=True):
        x = x @ linear.weight.T + linear.bias
        x = (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
        x = norm.weight * x + norm.bias
        x = x * torch.sigmoid(x)
    return x


def ready(model: HierarchicalVae) -> HierarchicalVae:
    """In evaluation mode, with no parameter at zero, where some of them start."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.double().eval()


def test_a_ladder_of_perceptrons_is_its_formula() -> None:
    model = ready(mlp_ladder((3, 2), (8, 5), image_shape=(1, 2, 4), observation_model=shown))
    x, z_1, z_2 = torch.rand(6, 1, 2, 4).double(), torch.randn(6, 3).double(), torch.randn(6, 2)
    one = hidden(model.bottom_up[0][1], x.flatten(1))
    two = hidden(model.bottom_up[1], one)
    torch.testing.assert_close(model.encode(x), (one, two))
    mean, log_precision = (two @ model.evidence[1].weight.T + model.evidence[1].bias).chunk(2, 1)
    precision = torch.exp(10 * torch.tanh(log_precision / 10))
    torch.testing.assert_close(model.posterior(one, two).mean, precision * mean / (1 + precision))
    model.combine = alone = mlp_ladder((3,), (8,), combine=evidence_alone).combine
    assert alone is evidence_alone
    torch.testing.assert_close(model.posterior(one, two).mean, mean)
    layers, last = model.priors[0][:-1], model.priors[0][-1]
    mean = (hidden(layers, z_2.double()) @ last.weight.T + last.bias)[:, :3]
    torch.testing.assert_close(model.inner_prior(1, z_2.double()).mean, mean)
    layers, last = model.decoder[:6], model.decoder[6]
    expected = (hidden(layers, z_1) @ last.weight.T + last.bias).view(6, 1, 2, 4)
    torch.testing.assert_close(model.likelihood(z_1).mean, expected)


def shown(mean: Tensor) -> Distribution:
    """What the decoder gives."""
    return diagonal_normal(mean, 1.0)


def test_a_ladder_of_maps_is_its_formula() -> None:
    shape = (1, 8, 8)
    model = ready(conv_ladder(3, 2, (1, 2), (4, 6), shape, observation_model=shown))

    def block(residual: Residual, x: Tensor) -> Tensor:
        return x + residual.branch(x) / math.sqrt(3)  # three maps

    def merged(merge: Merge, above: Tensor) -> Tensor:
        z, carry = above[:, :2], above[:, 2:]
        weight = merge.into.weight[:, :, 0, 0]
        return carry + torch.einsum("oi,bihw->bohw", weight, z) + merge.into.bias[:, None, None]

    def doubled(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    x, seen = torch.rand(2, *shape).double(), []
    given = x
    for halve, (stem, residual) in zip((True, True, False), model.bottom_up[:3], strict=True):
        x = block(residual, F.conv2d(x, stem.weight, stem.bias, 2, 1) if halve else x)
        seen.append(x)
    torch.testing.assert_close(model.encode(given), (*seen, x.flatten(1)))
    below, middle, top = model.priors
    z, z_3, z_2 = (torch.randn(2, *s).double() for s in ((3,), (8, 2, 2), (6, 4, 4)))
    start, convolved = top.lift[0], below.lift[1]
    lifted = (z @ start.weight.T + start.bias).view(2, 6, 2, 2)
    above = merged(below.lift[0], z_3)
    lower = doubled(F.conv2d(above, convolved.weight, convolved.bias))
    for level, at, lift in (
        (top, z, lifted),
        (middle, z_3, merged(middle.lift, z_3)),
        (below, z_3, lower),
    ):
        carry = block(level.block, lift)
        torch.testing.assert_close(level(at), torch.cat([level.head(carry), carry], 1))
    merge, residual, _, double, _, last = model.decoder
    h = F.silu(block(residual, merged(merge, z_2)))
    h = F.silu(F.conv_transpose2d(h, double.weight, double.bias, 2, 1))
    expected = F.conv2d(h, last.weight, last.bias, padding=1)
    torch.testing.assert_close(model.likelihood(z_2).mean, expected)


@pytest.mark.parametrize("build", [small_mlp, small_conv])
def test_weights_survive_a_file(build: Any, tmp_path: Any) -> None:
    model, other, x = build(), build(), torch.ones(2, 1, 28, 28)
    elbo_terms(model, x)
    save_weights(model, card("h"), tmp_path)
    load_weights("h", other, tmp_path)
    assert "origin" not in model.state_dict()
    means = [m.eval().posterior(*m.encode(x)).mean for m in (model, other)]
    torch.testing.assert_close(*means, rtol=0.01, atol=0.01)  # float16 has three digits


def test_a_ladder_of_maps_has_two_at_a_quarter_of_the_side() -> None:
    assert conv_ladder().latent_shapes == ((4, 14, 14), (4, 7, 7), (4, 7, 7), (8,))


test_bad_input = refused("ladders")
