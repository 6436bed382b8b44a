"""Compression of latents, and the one file that a distilled set is.

:func:`compress` turns latents ``[N, C, T, H, W]`` into exactly the tensors that are stored (:class:`Compressed`);
:func:`save_distilled` and :func:`load_distilled` write and read the file, counted to the byte.
"""

from vidistill.compress.compressed import BASES, DECOMPOSITIONS, Compressed, compress
from vidistill.compress.pixels import load_clips, save_clips
from vidistill.compress.store import load_distilled, save_distilled, save_within
from vidistill.compress.tucker import (
    READINGS,
    Tucker,
    choose_ranks,
    core_energy,
    hooi,
    official_bytes,
    ranks_from_ratio,
    spectrum,
    st_hosvd,
)
from vidistill.compress.values import CORE_DTYPES

__all__ = [
    "BASES",
    "CORE_DTYPES",
    "DECOMPOSITIONS",
    "READINGS",
    "Compressed",
    "Tucker",
    "choose_ranks",
    "compress",
    "core_energy",
    "hooi",
    "load_clips",
    "load_distilled",
    "official_bytes",
    "ranks_from_ratio",
    "save_clips",
    "save_distilled",
    "save_within",
    "spectrum",
    "st_hosvd",
]
