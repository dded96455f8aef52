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
