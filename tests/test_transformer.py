"""The transformer that reads, compared with torch's own attention and with what its parts must not see."""

import pytest
import torch
from bad_input import refused
from torch import nn

from companion.networks.transformer import PatchBlock, TextTransformer, VectorAttention, WordBlock


def awake(network: nn.Module) -> nn.Module:
    """The network with random numbers in what starts at zero."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    return network.double().eval()


def small(**options: int) -> TextTransformer:
    sizes = {"num_words": 9, "max_words": 6, "width": 16, "word_width": 12, "blocks": 2}
    return TextTransformer((2, 4, 6), **sizes | options)


@pytest.mark.parametrize("seen", [12, 20])
def test_attention_is_that_of_torch(seen: int) -> None:
    ours = VectorAttention(12, 3, seen).double()
    theirs = nn.MultiheadAttention(12, 3, kdim=seen, vdim=seen, batch_first=True).double()
    key, value = ours.key_value.weight.chunk(2)
    with torch.no_grad():
        if seen == 12:
            theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, key, value]))
        else:
            theirs.q_proj_weight.copy_(ours.query.weight)
            theirs.k_proj_weight.copy_(key)
            theirs.v_proj_weight.copy_(value)
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key_value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    h, others = torch.randn(2, 5, 12).double(), torch.randn(2, 7, seen).double()
    torch.testing.assert_close(ours(h, others), theirs(h, others, others)[0])


def test_words_go_through_the_layer_of_torch() -> None:
    ours = WordBlock(12, 3, hidden=2).double()
    torch.manual_seed(0)
    h = torch.randn(2, 5, 12).double()
    theirs = nn.TransformerEncoderLayer(
        12, 3, 24, 0.0, nn.functional.silu, batch_first=True, norm_first=True, dtype=torch.double
    )
    state = {
        "self_attn.in_proj_weight": torch.cat(
            [ours.attend.query.weight, ours.attend.key_value.weight]
        ),
        "self_attn.in_proj_bias": torch.cat([ours.attend.query.bias, ours.attend.key_value.bias]),
    }
    parts = {"self_attn.out_proj": ours.attend.out, "linear1": ours.mlp[0], "linear2": ours.mlp[2]}
    for name, part in (parts | {"norm1": ours.norms[0], "norm2": ours.norms[1]}).items():
        state |= {f"{name}.{key}": value for key, value in part.state_dict().items()}
    theirs.load_state_dict(state)
    torch.testing.assert_close(ours(h), theirs(h))


def test_a_block_starts_as_the_identity_and_a_gate_of_zero_closes_its_branch() -> None:
    block = PatchBlock(16, 12)
    h, words, e = torch.randn(2, 6, 16), torch.randn(2, 5, 12), torch.zeros(2, 6, 16)
    torch.testing.assert_close(block(h, words, e), h)
    e[:, 2] = 1  # only the first gate is open: patches see each other
    moved = block(h, words, e) - h
    seen = block.norms[0](h)
    torch.testing.assert_close(moved, block.attend(seen, seen))
    e[:, 0], e[:, 1] = 0.5, 2.0
    seen = 0.5 + 3 * seen
    torch.testing.assert_close(block(h, words, e) - h, block.attend(seen, seen))


def test_without_a_sentence_it_is_told_nothing() -> None:
    network = awake(small())
    x, t = torch.randn(3, 2, 4, 6).double(), torch.tensor([1, 5, 9])
    nothing = network(x, t)
    assert nothing.shape == x.shape
    assert torch.equal(nothing, network(x, t, torch.zeros(3, 6).long()))
    label = torch.tensor([[1, 2, 0, 0, 0, 0], [2, 1, 0, 0, 0, 0], [1, 2, 0, 0, 0, 0]])
    told = network(x, t, label)
    assert (told - nothing).flatten(1).norm(dim=1).min() > 1e-3
    # The order of words matters, and nothing but its own sentence does to an example.
    assert (network(x[:1], t[:1], label[1:2]) - told[:1]).norm() > 1e-3
    torch.testing.assert_close(network(x[1:], t[1:], label[1:]), told[1:])


def test_every_patch_sees_every_other_and_knows_its_place() -> None:
    network = awake(small())
    x = torch.randn(1, 2, 4, 6, dtype=torch.double, requires_grad=True)
    t = torch.tensor([3])
    network(x, t)[0, 0, 0, 0].backward()
    assert x.grad is not None and (x.grad.abs() > 0).all()
    # Patches of the same content differ by their places alone.
    same = network(torch.ones(1, 2, 4, 6).double(), t)
    assert not torch.allclose(same[..., :2, :2], same[..., 2:, 2:4])


def test_its_output_starts_at_zero_and_times_differ() -> None:
    x, t = torch.randn(2, 2, 4, 6), torch.tensor([1, 2])
    assert not small()(x, t).any()
    network = awake(small())
    out = network(x[:1].double().expand(2, -1, -1, -1), t)
    assert (out[0] - out[1]).norm() > 1e-3


test_bad_input = refused("transformer")


def test_words_are_normalized_as_the_patches_see_them():
    network = TextTransformer((4, 8, 8), num_words=20, max_words=6)
    torch.nn.init.normal_(network.words.weight, std=3.0)
    words = network.read(torch.randint(21, (5, 6)))
    assert words.mean(-1).abs().max() < 1e-5
    torch.testing.assert_close(words.var(-1, correction=0), torch.ones(5, 6), rtol=1e-3, atol=0)
