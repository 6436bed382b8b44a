"""Videos in: files become clips, folders become labelled sets, sets become a store of decoded clips; Motion World makes its own."""

from vidistill.data.clips import BACKENDS, BadClip, count_frames, frame_indices, inspect_files, pick_backend, read_clip
from vidistill.data.knobs import KNOBS, protocol_of
from vidistill.data.layouts import LAYOUTS, MINIUCF, Item, VideoSet, inspect, open_videos
from vidistill.data.store import ClipStore, describe, prepare_clips

__all__ = [
    "BACKENDS",
    "KNOBS",
    "LAYOUTS",
    "MINIUCF",
    "BadClip",
    "ClipStore",
    "Item",
    "VideoSet",
    "count_frames",
    "describe",
    "frame_indices",
    "inspect",
    "inspect_files",
    "open_videos",
    "pick_backend",
    "prepare_clips",
    "protocol_of",
    "read_clip",
]
