"""The form that is compiled for a CPU against PyTorch's own."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ilo_pl.generators.activation import leaky_relu


def test_the_compiled_form_is_leaky_relu() -> None:
    x = torch.randn(1000, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weights = torch.arange(1000.0)
    compiled = torch.compile(leaky_relu, backend="eager", fullgraph=True)
    results = []
    for function in (compiled, lambda x: F.leaky_relu(x, 0.2)):
        y = function(x)
        (slope,) = torch.autograd.grad((y * weights).sum(), x)
        results.append((y.detach(), slope))
    torch.testing.assert_close(results[0], results[1])
