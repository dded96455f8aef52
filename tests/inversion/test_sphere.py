from __future__ import annotations

import torch

from ilo_pl import Sphere, Stage
from ilo_pl.inversion.constraints import project, project_sphere


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


def test_vectors_keep_the_length_that_they_began_with() -> None:
    """As the published code: of a noise map every row, of latents every slot."""
    rng = torch.Generator().manual_seed(1)
    start, moved = torch.randn(2, 3, 1, 4, 5, generator=rng).unbind()
    start[0, 0, 1] = 0
    spec = Stage(split=0, steps=1, sphere=Sphere(latents=True, noises=True, radius="start"))
    values = {"latents": moved[:, 0], "noises.0": moved}
    found = project(spec, values, {"latents": start[:, 0], "noises.0": start})
    rows = found["noises.0"].double().norm(dim=-1)
    torch.testing.assert_close(rows, start.double().norm(dim=-1), rtol=1e-6, atol=1e-7)
    cosine = torch.cosine_similarity(found["latents"], moved[:, 0], dim=-1)
    torch.testing.assert_close(cosine[start[:, 0].norm(dim=-1) > 0], torch.ones(11))
