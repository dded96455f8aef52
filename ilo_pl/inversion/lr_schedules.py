"""How the learning rate moves over a stage."""

from __future__ import annotations

import math


def ramp(progress: float, up: float, down: float) -> float:
    """Return the published learning-rate factor at a share ``progress`` of a stage, in [0, 1].

    Rises linearly over the first ``up`` of the stage and falls as a cosine over the last ``down``.
    """
    fall = min(1.0, (1 - progress) / down) if down > 0 else 1.0
    rise = min(1.0, progress / up) if up > 0 else 1.0
    return (0.5 - 0.5 * math.cos(math.pi * fall)) * rise


def one_cycle_drop(progress: float) -> float:
    """Return PULSE's learning-rate factor at a share ``progress`` of a stage, in [0, 1].

    Over the first nine tenths it rises linearly from 0.1 to 1 and falls back to 0.1; over the last tenth
    it drops on to 0.001 (``linear1cycledrop`` of the published code of arXiv 2003.03808).
    """
    cycle = 0.9
    if progress < cycle:
        return (9 * (1 - abs(2 * progress / cycle - 1)) + 1) / 10
    return 0.1 + (progress - cycle) / (1 - cycle) * (0.001 - 0.1)
