#!/usr/bin/env python
"""Cut the shipped portrait from scikit-image's ``astronaut`` photograph.

    pip install scikit-image
    python scripts/make_portrait.py

The photograph (NASA, Eileen Collins, public domain) is 512 x 512. Its face square, aligned as FFHQ
images are from dlib's 68 landmarks, is 174 pixels wide; it is resampled to 1024 x 1024.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from skimage import data

OUTPUT = Path(__file__).parent.parent / "ilo_pl" / "paper" / "assets" / "portrait.png"
# (x, y) of the corners: top left, bottom left, bottom right, top right.
QUAD = (142.3, 15.5, 133.7, 189.0, 307.1, 197.6, 315.7, 24.1)


def main() -> None:
    """Write the aligned portrait."""
    photograph = Image.fromarray(data.astronaut())
    face = photograph.transform((1024, 1024), Image.Transform.QUAD, QUAD, Image.Resampling.BICUBIC)
    face.save(OUTPUT, optimize=True)
    print(f"{OUTPUT}: {OUTPUT.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
