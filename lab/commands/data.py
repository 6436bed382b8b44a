"""``vidistill data``: look at a data set, write Motion World, decode clips ahead of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vidistill.files import cache_home, ensure_folder
from vidistill.lab.terminal import Layout, Seed, console, progress_bars


def inspect(
    folder: Annotated[Path, typer.Argument(help="folder of videos")],
    layout: Layout = "ucf101",
    split: Annotated[int, typer.Option(min=1, help="official split")] = 1,
) -> None:
    """Count classes and clips, open every file, and list the bad ones with the reason."""
    from rich.table import Table

    from vidistill.data import inspect as inspect_videos
    from vidistill.data import open_videos

    with progress_bars() as bars:
        found = inspect_videos(open_videos(folder, layout, split), progress=bars)
    table = Table("class")
    for side in ("train", "test"):
        table.add_column(side, justify="right")
    for row in found["classes"]:
        table.add_row(row["name"], f"{row['train']:,}", f"{row['test']:,}")
    table.add_section()
    table.add_row(f"{len(found['classes'])} classes", f"{found['clips']['train']:,}", f"{found['clips']['test']:,}")
    typer.echo(f"{found['root']} ({found['layout']}, split {found['split']}), read by {found['backend']}")
    console().print(table)
    if frames := found["frames"]:
        typer.echo(f"frames per video: {frames['min']:,} to {frames['max']:,}, median {frames['median']:,g}")
    typer.echo(f"bad files: {len(found['bad'])}")
    for row in found["bad"]:
        typer.echo(f"  {row['path']} ({row['side']}): {row['reason']}")


def world(
    folder: Annotated[Path, typer.Argument(help="folder to write to")],
    train: Annotated[int, typer.Option(min=1, help="training clips per motion")] = 24,
    test: Annotated[int, typer.Option(min=1, help="test clips per motion")] = 12,
    seed: Seed = 0,
    size: Annotated[int, typer.Option(min=16, help="height and width, pixels")] = 64,
    frames: Annotated[int, typer.Option(min=2, help="frames per clip")] = 16,
) -> None:
    """Write Motion World, clips whose every factor is known, as mp4 files in UCF101's layout."""
    from vidistill.data.world import write_world

    ensure_folder(folder)
    with progress_bars() as bars:
        write_world(folder, seed=seed, per_class_train=train, per_class_test=test, size=size, frames=frames, progress=bars)
    typer.echo(f"Motion World: {folder} (--layout ucf101)")


def prepare(
    folder: Annotated[Path, typer.Argument(help="folder of videos")],
    layout: Layout = "ucf101",
    split: Annotated[int, typer.Option(min=1, help="official split")] = 1,
    frames: Annotated[int, typer.Option(help="frames per clip")] = 16,
    gap: Annotated[int, typer.Option(help="distance between sampled frames")] = 4,
    size: Annotated[int, typer.Option(help="height and width of a clip, pixels")] = 112,
    crop: Annotated[str, typer.Option(help="resize-crop, squash or center")] = "resize-crop",
    seed: Seed = 0,
) -> None:
    """Decode a data set into the cache now; a run with the same protocol and seed then starts at once."""
    from vidistill.data import open_videos, prepare_clips
    from vidistill.types import Protocol

    protocol = Protocol(frames, gap, size, crop)
    videos = open_videos(folder, layout, split)
    with progress_bars() as bars:
        for side, items in (("train", videos.train), ("test", videos.test)):
            clips = prepare_clips(items, videos.classes, protocol, side, seed=seed, progress=bars)
            typer.echo(f"{side}: {len(clips):,} clips read by {clips.backend}, {len(clips.skipped)} skipped")
            for bad in clips.skipped:
                typer.echo(f"  {bad['name']}: {bad['reason']}")
    typer.echo(f"cache: {cache_home()}")
