from __future__ import annotations

import torch

from ilo_pl import TinyGenerator


def test_same_seed_same_network_and_other_seed_another() -> None:
    z = torch.randn(1, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(TinyGenerator(3)(z), TinyGenerator(3)(z))
    assert not torch.equal(TinyGenerator(3)(z), TinyGenerator(4)(z))


def test_split_states_compose_and_carry_the_rgb_image(tiny: TinyGenerator) -> None:
    styles = torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(0))
    whole = tiny.run({}, styles, [None] * 4)["image"]
    for k in range(1, tiny.last):
        state = tiny.run({}, styles, [None] * 4, 0, k)
        assert set(state) == {"features", "rgb"}
        assert torch.equal(tiny.run(state, styles[:, k:], [None] * (4 - k), k)["image"], whole)
        # Without the RGB image the picture would change: the published code drops it.
        state["rgb"] = torch.zeros_like(state["rgb"])
        other = tiny.run(state, styles[:, k:], [None] * (4 - k), k)["image"]
        assert not torch.allclose(other, whole, atol=1e-2)


def test_latent_spaces_agree(tiny: TinyGenerator) -> None:
    z = torch.randn(2, 1, 16, generator=torch.Generator().manual_seed(0))
    w = tiny.to_styles(z, "z")
    assert torch.equal(tiny(w, "w"), tiny(z, "z"))
    assert tiny.from_normal(z, "v") is z
    assert torch.equal(tiny.from_normal(z, "w"), w)


def test_the_mean_of_every_space_is_a_mean(tiny: TinyGenerator) -> None:
    """As in StyleGAN2, whose files bring the mean of w: not the w of the mean of v, nor that of z = 0."""
    zeros = torch.zeros(1, 1, 16)
    draws = torch.randn(1, 200_000, 16, generator=torch.Generator().manual_seed(3))
    for space in tiny.latent_spaces:
        expected = tiny.from_normal(draws, space).double().mean(1, keepdim=True)
        torch.testing.assert_close(
            tiny.from_normal(zeros, space).double(), expected, atol=0.02, rtol=0
        )
    of_v = tiny.to_styles(zeros, "v")
    assert not torch.allclose(tiny.from_normal(zeros, "w"), of_v, atol=0.02)
