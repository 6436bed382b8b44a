"""Videos in: files become clips, folders become labelled sets, sets become a store of decoded clips; Motion World makes its own."""

from vidistill.data.captions import captions_of, describe_prompts, prompts_of, read_captions, read_prompts, world_captions
from vidistill.data.clip_record import clip_record
from vidistill.data.clips import BACKENDS, BadClip, count_frames, frame_indices, inspect_files, pick_backend, read_clip, resized
from vidistill.data.knobs import KNOBS, protocol_of
from vidistill.data.layouts import LAYOUTS, MINIUCF, Item, VideoSet, inspect, list_clips, open_videos, spoken
from vidistill.data.store import ClipStore, describe, prepare_clips, share_of_frames

__all__ = [
    "BACKENDS",
    "KNOBS",
    "LAYOUTS",
    "MINIUCF",
    "BadClip",
    "ClipStore",
    "Item",
    "VideoSet",
    "captions_of",
    "clip_record",
    "count_frames",
    "describe",
    "describe_prompts",
    "frame_indices",
    "inspect",
    "inspect_files",
    "list_clips",
    "open_videos",
    "pick_backend",
    "prepare_clips",
    "prompts_of",
    "protocol_of",
    "read_captions",
    "read_clip",
    "read_prompts",
    "resized",
    "share_of_frames",
    "spoken",
    "world_captions",
]
