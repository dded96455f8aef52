from __future__ import annotations

import torch

from ilo_pl.inversion.constraints import project_sphere


def test_vectors_get_length_sqrt_dimension_and_keep_their_direction() -> None:
    points = torch.randn(3, 5, 64, generator=torch.Generator().manual_seed(0)) * 7
    ours = project_sphere(points, 1)
    assert torch.allclose(ours.norm(dim=-1), torch.full((3, 5), 8.0))
    assert torch.allclose(torch.cosine_similarity(ours, points, dim=-1), torch.ones(3, 5))


def test_noise_maps_are_one_vector_each_and_zero_stays_zero() -> None:
    maps = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    maps[1] = 0
    ours = project_sphere(maps, 3)
    assert torch.allclose(ours[0].norm(), torch.tensor(6.0))
    assert torch.equal(ours[1], maps[1])
