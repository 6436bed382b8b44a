"""What VideoGuide's page says of a look: who made each clip, what is measured and read in it, what it cost, which failures it shows."""

from __future__ import annotations

import html
from dataclasses import replace

from vidistill.lab.videoguide_session import BASE, GUIDED, SELF, SUBJECT, TEACHER, Look
from vidistill.widgets import style, theme
from vidistill.widgets.zoo import readings_html

MEASURES = {
    "drift_any": ("drift", "frames that show another object or scene than the clip", ".0%"),
    "drift_shape": ("of the shape", "", ".0%"),
    "drift_colour": ("of the colour", "", ".0%"),
    "drift_background": ("of the background", "", ".0%"),
    "motion": ("motion", "path of the object, half widths a clip", ".2f"),
    SUBJECT: ("subject consistency", "offline probe, not DINO", ".3f"),
    "probe_background_consistency": ("background consistency", "offline probe, not CLIP", ".3f"),
    "probe_motion_smoothness": ("motion smoothness", "offline probe, not AMT", ".3f"),
    "probe_flow_magnitude": ("flow of the fastest", "pixels a frame; offline probe, not RAFT", ".2f"),
}


def captions(look: Look) -> dict[str, str]:
    """Return what each clip is called: who made it, and how."""
    by = "by itself" if look.teacher == SELF else f"by {look.teacher}"
    said = {BASE: f"{look.base} alone", TEACHER: f"{look.teacher} alone", GUIDED: f"{look.base} guided {by}"}
    return {name: said[name] for name in look.takes}


def tiles_html(look: Look) -> str:
    """Return six tiles of the guided clip, each above the same number of the others."""

    def under(name: str, form: str) -> str:
        return ", ".join(f"{clip.split()[0]} {style.number(value, form)}" for clip, value in look.numbers[name].items() if clip != GUIDED)

    others = {clip.split()[0]: take for clip, take in look.takes.items() if clip != GUIDED}
    last = look.takes[GUIDED]
    tiles = (
        ("drift", style.number(look.numbers["drift_any"][GUIDED], ".0%"), "drift", under("drift_any", ".0%")),
        ("motion", style.number(look.numbers["motion"][GUIDED], ".2f"), "motion", under("motion", ".2f")),
        ("consistency", style.number(look.numbers[SUBJECT][GUIDED], ".3f"), "subject consistency", under(SUBJECT, ".3f")),
        (
            "right",
            "{} of {}".format(*last.score),
            "words are right",
            ", ".join("{} {} of {}".format(who, *one.score) for who, one in others.items()),
        ),
        ("evaluations", f"{last.evaluations}", "network evaluations", ", ".join(f"{who} {one.evaluations}" for who, one in others.items())),
        ("seconds", f"{last.seconds:.2f}", "seconds", ", ".join(f"{who} {one.seconds:.2f}" for who, one in others.items())),
    )
    cells = "".join(style.tile(*tile) for tile in tiles)
    looks = "display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:8px"
    return f'<div role="status" aria-live="polite" style="{looks}">{cells}</div>'


def numbers_html(look: Look) -> str:
    """Return the measures of all clips, one column a clip."""
    return style.measures(captions(look), look.numbers, MEASURES)


def seen_html(look: Look) -> str:
    """Return what the exact parser reads in each clip beside what the prompt asks, and what each clip cost."""
    said = captions(look)
    return readings_html([replace(take, model=said[name]) for name, take in look.takes.items()])


def alarms_html(look: Look) -> str:
    """Return the failures that a look shows, each with a sign and a name, or that there is none."""
    return style.alarms(look.alarms, "the object still moves, drifts hardly more than the base's, and no word is lost")


def alt_text(look: Look) -> str:
    """Say in words what the player shows."""
    said = ", ".join(
        f"{name} ({look.takes[clip].score[0]} of {look.takes[clip].score[1]} words right, drift "
        f"{style.number(look.numbers['drift_any'][clip], '.0%')})"
        for clip, name in captions(look).items()
    )
    return f'The prompt "{look.prompt}", playing in step from the same noise: {said}'


def made_html(look: Look) -> str:
    """Return how the clips were made."""
    k = look.values
    how = f"seed {look.seed}, {k['sampling_steps']} steps, guidance {k['guidance']:g}; {look.guided}, tau {k['tau']}, beta {k['beta']:g}"
    how += f"; forked, until step {look.until}" if look.until else ""
    known = f" · known before: {', '.join(look.remembered)}" if look.remembered else ""
    return f'<span style="color:{theme.MUTED}">{html.escape(look.prompt) or "(empty prompt)"} · {html.escape(how)}{known}</span>'
