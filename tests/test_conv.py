"""The maps of the first stage: sizes, and codes of mean 0 and variance 1."""

import pytest
import torch

from companion.networks.conv import StandardMeans, map_decoder, map_encoder


def test_maps_have_a_quarter_of_the_side_and_come_back() -> None:
    x = torch.rand(2, 3, 32, 32)
    code = map_encoder(4, 8).eval()(x)
    assert code.shape == (2, 2 * 4 * 8 * 8)
    assert map_decoder(4, 8)(code[:, :256]).shape == x.shape


def test_a_place_of_the_image_belongs_to_a_place_of_the_map() -> None:
    decoder = map_decoder(4, 8).eval()
    z = torch.zeros(1, 4, 8, 8)
    near = z.clone()
    near[..., 0, 0] = 1
    changed = (decoder(near.flatten(1)) - decoder(z.flatten(1))).abs().amax((0, 1))
    # Normalization in groups sees all places; what is far moves less.
    assert changed[:8, :8].mean() > 3 * changed[16:, 16:].mean()


def test_means_get_mean_0_and_variance_1_and_the_rest_stays() -> None:
    h, layer = 3 + 5 * torch.randn(500, 5, 2, 2), StandardMeans(2)
    out = layer(h)
    torch.testing.assert_close(out[:, 2:], h[:, 2:])
    torch.testing.assert_close(out[:, :2].mean((0, 2, 3)), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(out[:, :2].var((0, 2, 3)), torch.ones(2), atol=1e-3, rtol=0)
    assert not list(layer.parameters())  # a scale would undo it
    for _ in range(100):
        layer(h)
    torch.testing.assert_close(layer.eval()(h[:1])[:, :2], out[:1, :2], atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize(("num_maps", "channels", "name"), [(0, 8, "num_maps"), (4, 2, "channels")])
@pytest.mark.parametrize("build", [map_encoder, map_decoder])
def test_sizes_that_cannot_be(build, num_maps: int, channels: int, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least"):
        build(num_maps, channels)
