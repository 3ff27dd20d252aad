"""The U-Net against attention, convolution and normalization written out, and the embeddings against complex waves."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from bad_input import refused
from tiny_recipes import card
from torch import Tensor, nn
from torch.nn import functional as F

from companion.networks.embeddings import FourierEmbedding, SinusoidalEmbedding
from companion.networks.unet import (
    AdaptiveNorm,
    Attention,
    Block,
    ShiftedNorm,
    UNet,
    group_norm,
    grow,
    large_unet,
    mnist_unet,
    shrink,
    small_unet,
)
from companion.zoo.weights import load_weights, save_weights

F64 = torch.double
EMBEDDINGS = [SinusoidalEmbedding, partial(FourierEmbedding, std=16 / 1000)]
CONDITIONINGS = [ShiftedNorm, AdaptiveNorm]


def tiny(**options: Any) -> UNet:
    """A small network that has begun to learn: nothing in it is zero any more."""
    model = UNet(
        **{"image_shape": (1, 8, 8), "channels": 8, "multipliers": (1, 2), "blocks": 1, **options}
    )
    return awake(model)


@torch.no_grad()
def awake(model: Any) -> Any:
    for parameter in model.parameters():
        if not parameter.any():
            parameter.normal_(std=0.1)
    return model


def inputs(num: int = 3, side: int = 8) -> tuple[Tensor, Tensor]:
    return torch.randn(num, 1, side, side), torch.arange(1, num + 1)


# ------------------------------------------------------------------------------------------------ time as a vector


def test_waves_are_the_powers_of_one_complex_rotation() -> None:
    embedding = SinusoidalEmbedding(8, max_wavelength=1000.0)
    frequencies = torch.tensor([1.0, 0.1, 0.01, 0.001])
    torch.testing.assert_close(embedding.frequencies, frequencies)
    t = torch.tensor([0, 1, 7])
    rotation = torch.polar(torch.ones(4), frequencies)
    expected = torch.stack([rotation**n for n in t.tolist()])
    torch.testing.assert_close(embedding(t), torch.cat([expected.imag, expected.real], dim=1))
    assert embedding.state_dict() == {}


@pytest.mark.parametrize("make", EMBEDDINGS)
@pytest.mark.parametrize("dim", [16, 32])
def test_no_two_times_look_alike(make: Any, dim: int) -> None:
    embedding = make(dim)
    t = torch.arange(1, 1001)
    codes = embedding(t)
    assert codes.shape == (1000, dim)
    torch.testing.assert_close(codes.square().sum(1), torch.full((1000,), dim / 2))  # sin^2 + cos^2
    distances = torch.cdist(codes.double(), codes.double()) + 9 * torch.eye(1000)
    assert distances.min() > 0.05
    assert distances[0].argmin() == 1  # neighbors in time are neighbors
    torch.testing.assert_close(embedding(t.float()), codes)


def test_fourier_frequencies_are_normal_and_are_saved() -> None:
    embedding = FourierEmbedding(20_000, std=3.0)
    cycles = embedding.frequencies / (2 * math.pi)
    assert cycles.mean().item() == pytest.approx(0, abs=0.15)
    assert cycles.std().item() == pytest.approx(3, rel=0.03)
    assert [*embedding.state_dict()] == ["frequencies"]
    # Their average wave is the characteristic function of N(0, (2 pi std)^2).
    t = torch.tensor([0.02, 0.05])
    expected = torch.exp(-((2 * math.pi * 3 * t) ** 2) / 2)
    torch.testing.assert_close(embedding(t)[:, 10_000:].mean(1), expected, atol=0.03, rtol=0)


# ------------------------------------------------------------------------------------------------ its parts


def test_attention_is_a_softmax_of_products() -> None:
    attention = awake(Attention(8, heads=2)).double()
    h = torch.randn(2, 8, 3, 5, dtype=F64)
    pixels = attention.norm(h).flatten(2)  # (batch, channels, pixels)
    rows = torch.einsum("oc,bcp->bop", attention.qkv.weight, pixels) + attention.qkv.bias[:, None]
    seen = []
    for head in range(2):
        q, k, v = (rows[:, start + 4 * head : start + 4 * head + 4] for start in (0, 8, 16))
        weights = torch.softmax(torch.einsum("bcp,bcq->bpq", q, k) / 2, dim=-1)  # 2 = sqrt(4)
        seen.append(torch.einsum("bpq,bcq->bcp", weights, v))
    last = attention.out[0]
    out = torch.einsum("oc,bcp->bop", last.weight, torch.cat(seen, dim=1)) + last.bias[:, None]
    torch.testing.assert_close(attention(h), h + out.view_as(h))


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_a_block_adds_what_its_two_convolutions_make(conditioning: Any) -> None:
    block = awake(Block(8, 4, 6, conditioning)).double()
    h, skip, e = (torch.randn(2, num, 5, 5, dtype=F64) for num in (8, 4, 6))
    e = e[:, :, 0, 0]

    def normalize(x: Tensor, norm: nn.GroupNorm) -> Tensor:
        groups = x.unflatten(1, (norm.num_groups, -1)).flatten(2)
        std = (groups.var(2, keepdim=True, correction=0) + 1e-5).sqrt()
        groups = (groups - groups.mean(2, keepdim=True)) / std
        return groups.view_as(x) * norm.weight[:, None, None] + norm.bias[:, None, None]

    def swish(x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)

    def convolve(x: Tensor, layer: nn.Conv2d) -> Tensor:
        windows = F.pad(x, (1, 1, 1, 1)).unfold(2, 3, 1).unfold(3, 3, 1)
        return torch.einsum("bcxyij,ocij->boxy", windows, layer.weight) + layer.bias[:, None, None]

    first = convolve(swish(normalize(torch.cat([h, skip], dim=1), block.first[0])), block.first[2])
    norm = block.norm
    if conditioning is ShiftedNorm:
        shift = e @ norm.shift.weight.T + norm.shift.bias
        middle = normalize(first + shift[:, :, None, None], norm.norm)
    else:
        code = e @ norm.scale_shift.weight.T + norm.scale_shift.bias
        scale, shift = code[:, :8, None, None], code[:, 8:, None, None]
        middle = (1 + scale) * normalize(first, norm.norm) + shift
    torch.testing.assert_close(block(h, e, skip), h + convolve(swish(middle), block.second[1]))


def test_sides_halve_and_double() -> None:
    x = torch.randn(1, 4, 14, 6)
    assert shrink(4, 8)(x).shape == (1, 8, 7, 3)
    up = grow(4, 2)
    assert up(x).shape == (1, 2, 28, 12)
    torch.testing.assert_close(F.avg_pool2d(up(x), 2), up[0](x))
    assert [group_norm(num).num_groups for num in (4, 32, 96, 128, 512)] == [1, 8, 8, 32, 32]


# ------------------------------------------------------------------------------------------------ the whole


@pytest.mark.parametrize(
    ("options", "side"),
    [
        ({}, 28),
        ({"blocks": 1, "multipliers": (1, 2, 4)}, 32),
        ({"attention_sides": (7, 14), "blocks": 1}, 28),
        ({"multipliers": (1,), "channels": 12, "blocks": 1}, 7),
        ({"embedding": FourierEmbedding, "conditioning": AdaptiveNorm, "num_classes": 10}, 28),
    ],
)
def test_shapes(options: dict[str, Any], side: int) -> None:
    model = UNet(**{"image_shape": (3, side, side), "channels": 8, **options})
    x_t, t = torch.randn(2, 3, side, side), torch.tensor([1, 1000])
    assert not model(x_t, t).any()  # zero at the start
    out = awake(model)(x_t, t)
    assert out.shape == x_t.shape
    assert out.dtype == x_t.dtype
    attentions = sum(isinstance(module, Attention) for module in model.modules())
    assert attentions == (5 if "attention_sides" in options else 1)


def test_builders_have_the_sizes_they_say() -> None:
    sizes = {small_unet: (0.9e6, 1.4e6), mnist_unet: (1.5e6, 2.5e6), large_unet: (5.5e6, 6.7e6)}
    for build, (low, high) in sizes.items():
        assert low < sum(parameter.numel() for parameter in build().parameters()) < high
    x = torch.ones(1, 3, 32, 32)
    assert small_unet((3, 32, 32), num_classes=10)(x, torch.ones(1)).shape == x.shape


@pytest.mark.parametrize("embedding", EMBEDDINGS)
@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_the_gradient_reaches_every_parameter(embedding: Any, conditioning: Any) -> None:
    model = tiny(
        attention_sides=(4,), embedding=embedding, conditioning=conditioning, num_classes=3
    )
    x_t, t = inputs()
    model(x_t, t, torch.tensor([0, 1, 2])).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
    # At the start only the last layer learns, and it lets the others learn after one step.
    fresh = UNet((1, 8, 8), 8, (1, 2), 1)
    fresh(x_t, t).sub(1).square().sum().backward()
    learning = {name for name, p in fresh.named_parameters() if p.grad.any()}
    assert learning == {"exit.2.weight", "exit.2.bias"}


def test_the_picture_sees_its_time_and_each_pixel_all_others() -> None:
    model = tiny()
    x_t, t = inputs()
    out = model(x_t, t)
    assert torch.equal(out, model(x_t, t))
    torch.testing.assert_close(out, model(x_t, t.float()))
    assert not torch.allclose(out, model(x_t, t + 1), atol=1e-4)
    # Examples do not mix, and come out in the order in which they went in.
    torch.testing.assert_close(model(x_t.flip(0), t.flip(0)), out.flip(0))
    x_t.requires_grad_()
    (gradient,) = torch.autograd.grad(model(x_t, t)[0, 0, 0, 0], x_t)
    assert gradient[0].all()
    assert not gradient[1:].any()


def test_a_shift_by_the_coarsest_pixel_shifts_the_output() -> None:
    # Without borders the network commutes with shifts by a coarsest pixel: attention knows no positions.
    model = tiny(image_shape=(1, 16, 16)).double()
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.padding == (1, 1):
            module.padding_mode, module._reversed_padding_repeated_twice = "circular", [1, 1, 1, 1]
    x_t, t = torch.randn(2, 1, 16, 16, dtype=F64), torch.tensor([3, 900])
    shifted = model(x_t.roll((2, 4), (2, 3)), t)
    torch.testing.assert_close(shifted, model(x_t, t).roll((2, 4), (2, 3)))
    assert not torch.allclose(model(x_t.roll(1, 3), t), model(x_t, t).roll(1, 3), atol=1e-3)


def test_a_class_is_given_or_not() -> None:
    model = tiny(num_classes=3)
    x_t, t = inputs(2)
    by_label = [model(x_t, t, torch.full((2,), label)) for label in range(4)]
    assert torch.equal(by_label[3], model(x_t, t))
    for label in range(3):
        assert not torch.allclose(by_label[label], by_label[3], atol=1e-4)
    mixed = model(x_t, t, torch.tensor([1, 3]))
    torch.testing.assert_close(mixed, torch.stack([by_label[1][0], by_label[3][1]]))
    fresh = UNet((1, 8, 8), 8, (1,), num_classes=3)
    # At first no class says anything.
    assert fresh.label is not None and bool((fresh.label.weight == 0).all())
    e = model.time(t) + model.label.weight[1]
    torch.testing.assert_close(model.embed(t, torch.tensor([1, 1])), e * e.sigmoid())


def test_factors_are_told_or_not_each_by_itself() -> None:
    model = tiny(num_factors=2)
    x_t, t = inputs(2)
    told = torch.tensor([[0.3, -0.7], [0.3, math.nan]])
    both, one, none = (
        model(x_t, t, torch.tensor([row, row]))
        for row in ([0.3, -0.7], [0.3, math.nan], [math.nan, math.nan])
    )
    assert torch.equal(none, model(x_t, t)) and none.isfinite().all()
    torch.testing.assert_close(model(x_t, t, told), torch.stack([both[0], one[1]]))
    # A factor that is not told is no factor of 0.
    zero = model(x_t, t, torch.tensor([[0.3, 0.0]] * 2))
    for first, second in ((both, one), (one, none), (one, zero)):
        assert not torch.allclose(first, second, atol=1e-4)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_the_layout_in_memory_does_not_matter(conditioning: Any) -> None:
    model = tiny(conditioning=conditioning, attention_sides=(8,)).double()
    x_t, t = inputs()
    expected = model(x_t.double(), t)
    model = model.to(memory_format=torch.channels_last)
    out = model(x_t.double().contiguous(memory_format=torch.channels_last), t)
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("conditioning", CONDITIONINGS)
def test_bfloat16_is_near_and_finite(conditioning: Any) -> None:
    model = tiny(conditioning=conditioning, num_classes=2, attention_sides=(4,))
    x_t, t = inputs()
    expected = model(x_t, t)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(x_t, t)
        loss = out.square().mean()
    loss.backward()
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, expected, atol=0.05, rtol=0.05)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(
    "options", [{}, {"conditioning": AdaptiveNorm, "num_classes": 2, "attention_sides": (4,)}]
)
def test_the_graph_has_no_breaks(options: dict[str, Any]) -> None:
    model = tiny(**options)
    x_t, t = inputs()
    expected = model(x_t, t)
    program = torch.export.export(model, (x_t, t))
    torch.testing.assert_close(program.module()(x_t, t), expected)


def test_weights_survive_a_file(tmp_path: Any) -> None:
    model, other = (tiny(embedding=partial(FourierEmbedding, std=0.016)) for _ in range(2))
    x_t, t = inputs()
    assert not torch.allclose(model(x_t, t), other(x_t, t), atol=0.01)
    save_weights(model, card("u"), tmp_path)
    load_weights("u", other, tmp_path)
    # Float16 has three digits.
    torch.testing.assert_close(model(x_t, t), other(x_t, t), rtol=0.01, atol=0.01)


# ------------------------------------------------------------------------------------------------ bad input


test_bad_input = refused("unet")
