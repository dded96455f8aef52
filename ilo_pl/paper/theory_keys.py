"""Keys of ``ilo-pl theory``: what each is, and what ``--help`` says.

Shell completion reads this between two keys: it imports nothing that takes long.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ilo_pl.spec import PathText, Spec

Matrix = Literal["gaussian", "circulant"]
# Bounds that only a slip of the keyboard crosses; beyond them numbers overflow, or fill the memory.
Count = Annotated[int, Field(ge=1, le=10**5)]
Dimension = Annotated[int, Field(ge=1, le=10**12)]
Positive = Annotated[float, Field(ge=1e-12, le=1e12)]
NonNegative = Annotated[float, Field(ge=0, le=1e12)]


class TheoryKeys(Spec):
    """The bounds of section 3 of the paper, and an empirical check of Lemma 1."""

    output: Annotated[PathText, Field(description="folder of the tables, new or empty")]
    k: Annotated[Dimension, Field(description="dimension of the latent")] = 512
    p: Annotated[Dimension, Field(description="scalars of the split state")] = 131072
    lipschitz1: Annotated[
        Positive,
        Field(description="Lipschitz constant of G1; an example, nobody knows a real generator's"),
    ] = 10.0
    lipschitz2: Annotated[Positive, Field(description="Lipschitz constant of G2; likewise")] = 10.0
    r1: Annotated[
        Positive, Field(description="l2 radius of the latents; sqrt(512) is where N(0, 1) lives")
    ] = 22.6
    delta: Annotated[
        Positive, Field(description="accuracy in the image: an l2 norm over all scalars")
    ] = 10.0
    K: Annotated[
        Positive, Field(description="delta / r2, where r2 is the l1 radius around the range")
    ] = 10.0
    gamma: Annotated[
        float, Field(description="constant of the set-restricted eigenvalue condition")
    ] = 0.5
    constant: Annotated[Positive, Field(description="the factor that the proofs do not name")] = 1.0
    representation: Annotated[
        NonNegative,
        Field(description="l2 distance of the true image from the set that is searched"),
    ] = 0.0
    noise: Annotated[NonNegative, Field(description="l2 norm of the noise on the measurements")] = (
        0.0
    )
    slack: Annotated[
        NonNegative, Field(description="how far a search is from the smallest measurement error")
    ] = 0.0
    run: Annotated[
        PathText | None,
        Field(
            description="run folder: bounds also for its stages, with p of their split and K of their radius"
        ),
    ] = None
    generator: Annotated[
        str,
        Field(
            description="draws the images of the empirical check; its name, or module:function, which is "
            "then imported for run too"
        ),
    ] = "tiny"
    weights: Annotated[
        PathText | None, Field(description="file of the generator's weights, where it needs one")
    ] = None
    matrices: Annotated[
        tuple[Matrix, ...],
        Field(min_length=1, description="kinds of A; gaussian is for small images"),
    ] = ("gaussian", "circulant")
    counts: Annotated[
        tuple[Count, ...],
        Field(min_length=1, description="numbers m of measurements that are tried"),
    ] = (10, 20, 40, 80, 160, 320, 640)
    split: Annotated[int, Field(ge=0, description="where the generator is cut")] = 2
    radius: Annotated[
        NonNegative, Field(description="l1 radius per scalar of the extended range's points")
    ] = 0.1
    nonzeros: Annotated[Count, Field(description="scalars that its sparse points move")] = 16
    images: Annotated[
        int, Field(ge=2, le=10**4, description="images drawn; every pair of them is compared")
    ] = 40
    trials: Annotated[Count, Field(description="matrices drawn for each m")] = 5
    seed: Annotated[int, Field(ge=0, lt=2**63, description="of images and matrices")] = 0
