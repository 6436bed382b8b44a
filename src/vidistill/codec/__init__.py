"""Videos to latents and back: any diffusers VAE behind one encode and decode, quantised weights, a cache of latents."""

from vidistill.codec.autoencoder import DTYPES, Codec, load_codec
from vidistill.codec.cache import encode_store
from vidistill.codec.quantize import PACKINGS, PARTS, bytes_of_shapes, load_packed, pack, packed_bytes, save_codec, shapes_of, unpack

__all__ = [
    "DTYPES",
    "PACKINGS",
    "PARTS",
    "Codec",
    "bytes_of_shapes",
    "encode_store",
    "load_codec",
    "load_packed",
    "pack",
    "packed_bytes",
    "save_codec",
    "shapes_of",
    "unpack",
]
