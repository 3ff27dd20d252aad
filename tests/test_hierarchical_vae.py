"""Hierarchical VAEs: products of normals against quadrature, ladders against exact linear-Gaussian chains."""

import math
from typing import Any

import pytest
import torch
from tiny_recipes import card
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from companion.distributions import (
    Carried,
    bernoulli,
    diagonal_normal,
    evidence_alone,
    log_normalizer,
    normal_product,
)
from companion.elbo import (
    elbo_loss,
    elbo_terms,
    importance_weighted_loss,
    sample_log_weights,
)
from companion.hierarchical_vae import LOG_LIMIT, HierarchicalVae
from companion.ladders import conv_ladder, mlp_ladder
from companion.metrics import log_likelihood
from companion.networks.mlp import normalized_mlp
from companion.networks.residual import Residual, bottleneck, start_at_zero
from companion.samplers import ancestral_sample
from companion.training import minimize
from companion.zoo.weights import load_weights, save_weights

F64 = torch.double


# ---------------------------------------------------------------------------------------------- products of normals


def scalar(value: float, dtype: torch.dtype = F64) -> Tensor:
    return torch.tensor([[value]], dtype=dtype)


@pytest.mark.parametrize(
    ("m_p", "s_p", "m", "precision"),
    [(0.3, 0.7, -1.1, 2.5), (-2.0, 1.5, 0.4, 0.1), (0.0, 0.1, 1.0, 9.0)],
)
def test_the_product_of_two_normals_is_that_of_quadrature(
    m_p: float, s_p: float, m: float, precision: float
) -> None:
    p = diagonal_normal(scalar(m_p), s_p)
    evidence = scalar(m), scalar(math.log(precision))
    q, log_Z = normal_product(p, *evidence), log_normalizer(p, *evidence)
    z = torch.linspace(-20, 20, 400_001, dtype=F64)
    d = Normal(scalar(m), precision**-0.5)
    log_p, log_d = (p_or_d.log_prob(z)[0] for p_or_d in (Normal(scalar(m_p), s_p), d))
    joint = (log_p + log_d).exp()
    Z = torch.trapezoid(joint, z)
    mean = torch.trapezoid(z * joint, z) / Z
    variance = torch.trapezoid((z - mean) ** 2 * joint, z) / Z
    assert log_Z.item() == pytest.approx(Z.log().item(), abs=1e-8)
    assert q.mean.item() == pytest.approx(mean.item(), abs=1e-8)
    assert q.variance.item() == pytest.approx(variance.item(), abs=1e-8)
    # KL(q || p) = E_q log d - log Z, the price of the evidence.
    expected = torch.trapezoid(joint / Z * log_d, z) - Z.log()
    assert kl_divergence(q, p).item() == pytest.approx(expected.item(), abs=1e-8)


def test_the_product_and_its_normalizer_are_one_identity_in_many_dimensions() -> None:
    p = diagonal_normal(torch.randn(4, 3, 2, dtype=F64), torch.rand(4, 3, 2, dtype=F64) + 0.1)
    mean, log_precision, z = torch.randn(3, 4, 3, 2, dtype=F64)
    q, d = normal_product(p, mean, log_precision), evidence_alone(p, mean, log_precision)
    left = p.log_prob(z) + d.log_prob(z)
    right = q.log_prob(z) + log_normalizer(p, mean, log_precision)
    torch.testing.assert_close(left, right, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_evidence_of_no_weight_gives_the_prior_and_of_all_weight_itself(dtype: torch.dtype) -> None:
    mean_p, mean = torch.randn(2, 50, 3).to(dtype)
    p = diagonal_normal(mean_p, (torch.rand(50, 3) + 0.1).to(dtype))
    none = normal_product(p, mean, torch.full_like(mean, -math.inf))
    assert torch.equal(none.mean, p.mean) and torch.equal(none.stddev, p.stddev)
    none = normal_product(p, mean, torch.full_like(mean, -200))
    assert torch.equal(none.mean, p.mean) and torch.equal(none.stddev, p.stddev)
    assert torch.equal(kl_divergence(none, p), torch.zeros(50, dtype=dtype))
    everything = normal_product(p, mean, torch.full_like(mean, 60))
    assert torch.equal(everything.mean, mean)
    torch.testing.assert_close(
        everything.stddev, torch.full_like(mean, math.exp(-30)), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("log_std", [-30.0, 0.0, 30.0])
@pytest.mark.parametrize("log_precision", [-80.0, -20.0, 0.0, 20.0, 80.0])
def test_the_product_has_finite_values_and_slopes_at_extreme_standard_deviations(
    log_std: float, log_precision: float
) -> None:
    inputs = [
        scalar(value, torch.float32).requires_grad_()
        for value in (0.5, log_std, -0.5, log_precision)
    ]
    mean_p, log_std_p, mean, log_precision_d = inputs
    q = normal_product(diagonal_normal(mean_p, log_std_p.exp()), mean, log_precision_d)
    exact_var = 1 / (math.exp(-2 * log_std) + math.exp(log_precision))
    assert q.variance.item() == pytest.approx(exact_var, rel=1e-4)
    (q.mean + q.stddev.log()).backward()
    assert all(value.grad.isfinite() for value in inputs)


def test_evidence_alone_forgets_the_prior() -> None:
    mean, log_precision = torch.randn(2, 5, 3)
    q = evidence_alone(diagonal_normal(torch.randn(5, 3), 2.0), mean, log_precision)
    torch.testing.assert_close(q.mean, mean)
    torch.testing.assert_close(q.variance, torch.exp(-log_precision))


# ---------------------------------------------------------------------------------------------- what is carried


@pytest.mark.parametrize("rest", [(), (4, 5)])
def test_a_carried_tensor_costs_nothing_and_comes_along(rest: tuple[int, ...]) -> None:
    alone = diagonal_normal(torch.randn(6, 2, *rest), 0.5)
    other = diagonal_normal(torch.randn(6, 2, *rest), 1.5)
    carry = torch.randn(6, 3, *rest)
    q, p = Carried(alone, carry), Carried(other, carry)
    assert q.batch_shape == (6,) and q.event_shape == (5, *rest)
    for sample_shape in (torch.Size(), torch.Size([7])):
        sample = q.rsample(sample_shape)
        z, carried = sample.split([2, 3], dim=len(sample_shape) + 1)
        assert sample.shape == (*sample_shape, 6, 5, *rest)
        assert torch.equal(carried, carry.expand_as(carried))
        torch.testing.assert_close(q.log_prob(sample), alone.log_prob(z))
    torch.testing.assert_close(kl_divergence(q, p), kl_divergence(alone, other))
    assert torch.equal(q.mean[:, :2], alone.mean) and torch.equal(q.mean[:, 2:], carry)
    assert torch.equal(q.variance[:, :2], alone.variance) and not q.variance[:, 2:].any()
    assert not q.sample().requires_grad
    mean = torch.zeros(6, 2, *rest, requires_grad=True)
    moved = Carried(diagonal_normal(mean, 0.5), carry).rsample()
    (slope,) = torch.autograd.grad(moved.sum(), mean)
    assert torch.equal(slope, torch.ones_like(mean))


# ---------------------------------------------------------------------------------------------- exact linear chains


class Row(nn.Module):
    """A linear mean, beside a constant log-variance or log-precision, beside the input where it is carried on.

    It takes as many numbers as it has weights, and is blind to the rest.
    """

    def __init__(self, *weight: float, log: float = 0.1, carries: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=F64)[:, None])
        # The model bounds it softly; this is the inverse.
        self.log = nn.Parameter(torch.tensor(LOG_LIMIT * math.atanh(log / LOG_LIMIT), dtype=F64))
        self.carries = carries

    def forward(self, x: Tensor) -> Tensor:
        mean = x[:, : len(self.weight)] @ self.weight
        return torch.cat([mean, self.log.expand_as(mean), *([x] if self.carries else [])], 1)


A, S1, S0 = (
    0.9,
    0.3,
    0.09,
)  # z_1 = 0.9 z_2 + noise of variance 0.3, x = z_1 (+ z_2) + noise of variance 0.09


def linear_ladder(skip: bool, evidence: nn.Module) -> HierarchicalVae:
    """z_2 -> z_1 -> x, or also z_2 -> x, all one-dimensional; only the evidence is free."""
    prior = Row(A, log=math.log(S1), carries=skip)
    prior.requires_grad_(False)
    return HierarchicalVae(
        [nn.Identity(), nn.Identity()],
        [evidence, Row(0.1)],
        [prior],
        Total(),
        lambda mean: diagonal_normal(mean, math.sqrt(S0)),
        [(1,), (1,)],
    ).double()


class Total(nn.Module):
    """The sum of all that is given."""

    def forward(self, above: Tensor) -> Tensor:
        return above.sum(1, keepdim=True)


def log_evidence(x: Tensor, skip: bool) -> Tensor:
    variance = (A + skip) ** 2 + S1 + S0
    return diagonal_normal(torch.zeros_like(x), math.sqrt(variance)).log_prob(x)


def exact_elbo(model: HierarchicalVae, x: Tensor) -> Tensor:
    """The bound without sampling: each term is quadratic in z, so its mean over two points mean +- std is exact."""
    seen = model.encode(x)
    q2, p2 = model.posterior(*seen), model.prior(len(x))
    total = -kl_divergence(q2, p2)
    for sign2 in (-1, 1):
        z2 = q2.mean + sign2 * q2.stddev
        q1, p1 = model.inner(1, z2, *seen)
        total = total - kl_divergence(q1, p1) / 2
        for sign1 in (-1, 1):
            total = total + model.likelihood(q1.mean + sign1 * q1.stddev).log_prob(x) / 4
    return total


def best_gap(skip: bool, evidence: nn.Module) -> tuple[HierarchicalVae, Tensor]:
    model, x = linear_ladder(skip, evidence), torch.tensor([[-1.3], [0.4], [2.0]], dtype=F64)
    free = [parameter for parameter in model.parameters() if parameter.requires_grad]
    minimize(lambda: -exact_elbo(model, x).mean(), free)
    return model, log_evidence(x, skip) - exact_elbo(model, x)


def test_the_best_ladder_of_a_markov_chain_is_exact() -> None:
    model, gap = best_gap(False, Row(0.1))
    torch.testing.assert_close(gap, torch.zeros(3, dtype=F64), rtol=0, atol=1e-10)
    # Every weight is then p(x) itself.
    x = torch.randn(50, 1, dtype=F64)
    expected = log_evidence(x, False).expand(4, 50)
    torch.testing.assert_close(sample_log_weights(model, x, 4), expected, rtol=0, atol=1e-5)
    # The evidence has found what x alone says of z_1: N(x, 0.09).
    assert model.evidence[0].weight.item() == pytest.approx(1, abs=1e-4)


def test_a_skip_connection_puts_the_posterior_out_of_reach_of_a_markov_ladder() -> None:
    _, gap = best_gap(True, Row(0.1))
    torch.testing.assert_close(gap, gap[:1].expand(3), rtol=0, atol=1e-6)
    assert gap.mean().item() == pytest.approx(0.290, abs=5e-4)


def test_evidence_that_sees_what_is_carried_is_exact_again() -> None:
    model, gap = best_gap(True, Row(0.1, 0.1))
    torch.testing.assert_close(gap, torch.zeros(3, dtype=F64), rtol=0, atol=1e-10)
    # x = z_1 + z_2 + noise says that z_1 is near x - z_2.
    torch.testing.assert_close(
        model.evidence[0].weight, torch.tensor([[1.0], [-1.0]], dtype=F64), rtol=0, atol=1e-4
    )


# ---------------------------------------------------------------------------------------------- features, once per x


class Counted(nn.Linear):
    """A linear layer that counts its calls."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


def counted_ladder() -> HierarchicalVae:
    """Three levels of vectors, x being a vector too."""
    return HierarchicalVae(
        [Counted(5, 4), Counted(4, 4), Counted(4, 4)],
        [Counted(4, 6), Counted(4, 4), Counted(4, 2)],
        [Counted(2, 6), Counted(1, 4)],
        Counted(3, 5),
        bernoulli,
        [(3,), (2,), (1,)],
    )


def test_one_estimate_of_the_bound_runs_every_network_once() -> None:
    model, x = counted_ladder(), torch.ones(7, 5)
    networks = [layer for layer in model.modules() if isinstance(layer, Counted)]
    for estimate in (elbo_terms, lambda model, x: sample_log_weights(model, x, 6)):
        for network in networks:
            network.calls = 0
        estimate(model, x)
        assert [network.calls for network in networks] == [1] * 9


def test_q_and_p_of_a_level_are_the_same_together_and_alone() -> None:
    for model in (counted_ladder(), linear_ladder(True, Row(0.1, 0.1))):
        x = torch.ones(7, 5 if model.num_latents == 3 else 1).to(model.origin)
        seen, z = model.encode(x), model.prior(7).sample()
        assert len(seen) == model.num_latents
        t = model.num_latents - 1
        q, p = model.inner(t, z, *seen)
        for one, other in ((q, model.inner_posterior(t, z, *seen)), (p, model.inner_prior(t, z))):
            assert type(one) is type(other)
            assert torch.equal(one.mean, other.mean) and torch.equal(one.variance, other.variance)


def test_gradients_of_single_examples_can_be_taken() -> None:
    model, x = counted_ladder(), torch.ones(1, 5)
    parameters = dict(model.named_parameters())

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        torch.manual_seed(0)
        return torch.func.functional_call(
            MinusBound(model), {f"model.{k}": v for k, v in parameters.items()}, (x,)
        )

    slopes = torch.func.grad(loss)(parameters, x)
    torch.manual_seed(0)
    elbo_loss(model, x).sum().backward()
    for name, parameter in parameters.items():
        torch.testing.assert_close(slopes[name], parameter.grad)


class MinusBound(nn.Module):
    """Minus the bound as a network's output, which is what torch.func can call."""

    def __init__(self, model: HierarchicalVae) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return elbo_loss(self.model, x).sum()


# ---------------------------------------------------------------------------------------------- ladders


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
    for _ in range(200):
        loss = elbo_loss(model, (torch.rand(4, 1, 4, 4) < torch.rand(())).float()).mean()
        assert loss.isfinite()
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_blocks_do_what_they_say() -> None:
    x = torch.randn(2, 6, 5, 5)
    branch = bottleneck(6, 3, 6)
    torch.testing.assert_close(Residual(branch, 0.5)(x), x + branch(x) / 2)
    assert [layer.kernel_size for layer in branch if isinstance(layer, nn.Conv2d)] == [
        (1, 1),
        (3, 3),
        (3, 3),
        (1, 1),
    ]
    assert bottleneck(6, 3, 4)(x).shape == (2, 4, 5, 5)
    assert torch.equal(Residual(start_at_zero(branch))(x), x)
    layers = normalized_mlp([4, 3, 2], nn.BatchNorm1d, nn.Tanh)
    assert [type(layer) for layer in layers] == 2 * [nn.Linear, nn.BatchNorm1d, nn.Tanh]
    # Batch normalization: whatever all examples share is taken out.
    z = torch.randn(9, 4)
    torch.testing.assert_close(layers[:2](z + 100), layers[:2](z), rtol=1e-3, atol=1e-3)


def test_the_networks_have_the_sizes_they_say() -> None:
    model = mlp_ladder()
    assert model.latent_shapes == ((64,), (32,), (16,), (8,), (4,))
    assert [head.in_features for head in model.evidence] == [512, 256, 128, 64, 64]
    assert [prior[-1].out_features for prior in model.priors] == [128, 64, 32, 16]
    model = conv_ladder(levels=(2, 3))
    assert model.latent_shapes == (*2 * [(4, 14, 14)], *3 * [(4, 7, 7)], (8,))
    small = conv_ladder(2, 2, (1, 1), (4, 6), image_shape=(1, 4, 4))
    for networks in (small.evidence[:2], [prior.get_submodule("head") for prior in small.priors]):
        widths = [
            [layer.out_channels for layer in network.modules() if isinstance(layer, nn.Conv2d)]
            for network in networks
        ]
        assert widths == [[2, 2, 2, 4], [3, 3, 3, 4]]  # half of 4, of 6; mean and variance of 2
    assert (
        sum(
            parameter.numel()
            for build in (mlp_ladder, conv_ladder)
            for parameter in build().parameters()
        )
        < 4e6
    )


@pytest.mark.parametrize("build", [small_mlp, small_conv])
def test_weights_survive_a_file(build: Any, tmp_path: Any) -> None:
    model, other, x = build(), build(), torch.ones(2, 1, 28, 28)
    elbo_terms(model, x)
    save_weights(model, card("h"), tmp_path)
    load_weights("h", other, tmp_path)
    assert "origin" not in model.state_dict()
    means = [m.eval().posterior(*m.encode(x)).mean for m in (model, other)]
    torch.testing.assert_close(*means, rtol=0.01, atol=0.01)  # float16 has three digits
