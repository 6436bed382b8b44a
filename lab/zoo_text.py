"""A model's card for people: the ``README.md`` made from its ``card.json``, every number from there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidistill.files import ensure_folder, save_json, write_atomic
from vidistill.lab.zoo_bars import percent, show, show_bar

EXAMPLE = "a red ring orbiting over a forest background, still camera"


def write_card(folder: str | Path, card: dict[str, Any]) -> None:
    """Write ``card.json`` and the ``README.md`` that is made from it."""
    folder = ensure_folder(folder)
    save_json(folder / "card.json", card)
    write_atomic(folder / "README.md", lambda temporary: temporary.write_text(card_text(card), encoding="utf-8"))


def card_text(card: dict[str, Any]) -> str:
    """Return the card for people, in Markdown; every number comes from ``card``."""
    body = {"autoencoder": _text_autoencoder, "classifier": _text_classifier}.get(card["family"], _text_denoiser)
    lines = [f"# {card['name']}", "", card["about"], "", *body(card), *_text_training(card)]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [*("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)), ""]


def _text_bars(card: dict[str, Any]) -> list[str]:
    if not card["bars"]:
        return []
    answer = {True: "yes", False: "**no**", None: "not measured"}
    values = [percent(bar) if bar["unit"] == "share" else show(bar) for bar in card["bars"]]
    rows = [
        [bar["bar"], value, bar["target"], answer[bar["reached"]], bar["note"]] for bar, value in zip(card["bars"], values, strict=True)
    ]
    return ["## Bars", "", *_table(("bar", "measured (95 %)", "target", "reached", ""), rows)]


def _text_parts(card: dict[str, Any]) -> list[str]:
    names = [part for part in dict.fromkeys([*card["parameters"], *card["bytes"]]) if part != "total"]
    rows = [
        [part, f"{card['parameters'][part]:,}" if part in card["parameters"] else "", f"{card['bytes'][part]:,}", digest_[:16]]
        for part in names
        for digest_ in [card["weights_sha256"].get(part, "")]
    ]
    rows.append(["total", f"{card['parameters']['total']:,}", f"{card['bytes']['total']:,}", ""])
    return ["## Size", "", *_table(("part", "parameters", "bytes", "sha256 of the weights"), rows)]


def _text_denoiser(card: dict[str, Any]) -> list[str]:
    sampling, measured = card["sampling"], card["measured"]
    predicts = {"epsilon": "predicts noise", "flow": "predicts the velocity of a rectified flow"}.get(card["family"], card["family"])
    lines = [
        f"A diffusers `{card['class']}` with {card['parameters']['total']:,} parameters that {predicts}. It makes clips of "
        f"{sampling['frames']} frames of {sampling['size']} x {sampling['size']} pixels in the latents of {card['codec']}; by default with "
        f"{sampling['steps']} steps and guidance {sampling['guidance']:g}.",
        "This page and `card.json` are written by `vidistill zoo card`; nothing here is typed by hand.",
        "",
        "```python",
        "from vidistill import zoo",
        "from vidistill.sample import generate",
        "",
        f'model = zoo.load("{card["name"]}")',
        f'latents = generate(model, ["{EXAMPLE}"], seeds=[0])',
        f"video = model.codec.decode(latents, {sampling['frames']})  # uint8 [1, 3, T, H, W]",
        "```",
        "",
    ]
    if card["class"] == "TextToVideoSDPipeline":
        size = sampling["size"]
        lines += [
            "The folder is a stock diffusers pipeline:",
            "",
            "```python",
            "from diffusers import TextToVideoSDPipeline",
            "from vidistill import zoo",
            "",
            f'pipe = TextToVideoSDPipeline.from_pretrained(zoo.path("{card["name"]}"))',
            f'frames = pipe("{EXAMPLE}", num_frames={sampling["frames"]}, height={size}, width={size},',
            f"              num_inference_steps={sampling['steps']}, guidance_scale={sampling['guidance']:g}).frames",
            "```",
            "",
        ]
    lines += _text_bars(card)
    judges = [key for key in card["fidelity"] if not key.startswith("real clips")]
    columns = [*judges, *(f"real clips, {judge}" for judge in judges)]
    names = list(card["fidelity"]["parser"])
    rows = [[name, *(percent(card["fidelity"][column].get(name)) for column in columns)] for name in names]
    lines += [
        f"## Measured on {measured['clips']} clips",
        "",
        f"Prompts: {measured['prompts']}; seeds {measured['seeds']}; {measured['device']}. Real clips: those that the captions belong to, "
        f"seen through {card['codec']}. Ranges are 95 % intervals.",
        "",
        "Fidelity, the share of clips that show what the prompt says (together: motion, shape and colour at once):",
        "",
        *_table(("factor", *columns), rows),
        "Coverage, over all clips together: the share of values that hold at least a fifth of what was asked for, and the distance "
        "(total variation, 0 to 1) between what is seen and what was asked for:",
        "",
        *_table(("factor", "values", "distance"), [[k, percent(v["values"]), show(v["distance"])] for k, v in card["coverage"].items()]),
        "Variety that no prompt asks for, as deviation over the real clips': "
        + ", ".join(f"{name} {show(row)}" for name, row in card["spread"].items())
        + ".",
        "",
        "Identity drift, the share of a clip's frames that differ from its commonest frame"
        + (" (features: 1 - mean cosine to the clip's mean)" if "features" in card["drift"] else "")
        + ":",
        "",
        *_table(
            ("what", "generated", "real clips", "real, before lab-vae", "ratio"),
            [[k, *(show(v[key]) for key in ("generated", "real", "real, raw", "ratio"))] for k, v in card["drift"].items()],
        ),
        *_table(
            ("look", "generated", "real clips", "ratio"),
            [[k, *(show(card[k][key]) for key in ("generated", "real", "ratio"))] for k in ("contrast", "saturation")],
        ),
        "Contrast: deviation of the luma within a clip, saturation: mean HSV saturation; both in [0, 1].",
        "",
    ]
    if memory := card["nearest_training"]:
        rows = [[which.replace("_", " "), *(show(row) for row in memory[which].values())] for which in ("generated", "held_out")]
        lines += [
            f"Nearest of {memory['training clips searched']:,} training clips ({memory['of']:,} were rendered for training), "
            "RMS distance of latents:",
            "",
            *_table(("clips", "nearest of all", "5 %", "median"), rows),
            f"{percent(memory['nearer'])} of the generated clips lie nearer than any held-out clip; {percent(memory['copies'])} are "
            "copies (under a third as far from one training clip as from the next), "
            f"{percent(memory['copies_held_out'])} of the held-out ones.",
            "",
        ]
    seconds = card["seconds"]
    rows = [[steps, show(row)] for steps, row in seconds["by steps, with guidance and decoding"].items()]
    lines += [
        f"Seconds per clip, guided, from prompt to pixels, one at a time ({seconds['device']}, {seconds['threads']} threads); "
        f"decoding alone {show(seconds['decoding'])}, loading {show(seconds['loading from disk'])}:",
        "",
        *_table(("steps", "seconds"), rows),
        *_text_defects(card),
        *_text_parts(card),
    ]
    return lines


def _text_defects(card: dict[str, Any]) -> list[str]:
    lines = []
    if made_so := card.get("defects"):
        never = " and ".join(f"the {factor} {value}" for factor, value in made_so["never shown"].items())
        share = 100 * made_so["share of training clips with jumps"]
        lines.append(f"- On purpose: in {share:g} % of its training clips the object's identity jumps, and it never saw {never}.")
    for bar in card["bars"]:
        if bar["reached"] is False:
            lines.append(f"- Not reached: {show_bar(bar)}.")
    for factor, values in card["fidelity_by_value"].items():
        whole = card["fidelity"]["parser"][factor]
        value, row = min(values.items(), key=lambda item: item[1]["mean"])
        if row["high"] < whole["low"]:
            lines.append(f"- Weakest {factor}: {value}, {percent(row)} of {row['n']} clips.")
    return ["## Known defects", "", *(lines or ["None that these numbers show."]), ""]


def _text_classifier(card: dict[str, Any]) -> list[str]:
    seconds = card["seconds"]
    rows = [[name, percent(row), percent(card["accuracy_through_codec"][name])] for name, row in card["accuracy"].items()]
    wrong = [
        [where, row["asked"], row["seen"], f"{row['clips']} of {row['of']}"]
        for where, found in card["motion_confusions"].items()
        for row in found
    ]
    return [
        f"`{card['class']}`, {card['parameters']['total']:,} parameters; {show(seconds['one clip'])} seconds a clip "
        f"({seconds['device']}, {seconds['threads']} threads).",
        "This page and `card.json` are written by `vidistill zoo card`; nothing here is typed by hand.",
        "",
        f'Load it with `vidistill.zoo.load("{card["name"]}")`; `logits(video)` are soft labels, `features(video)` of clips and frames.',
        "",
        *_text_bars(card),
        f"Accuracy on {card['measured']['world']}, with 95 % intervals:",
        "",
        *_table(("factor", "raw clips", "through lab-vae"), rows),
        *(["Commonest wrong motions:", "", *_table(("clips", "motion", "taken for", "how often"), wrong)] if wrong else []),
        *_text_parts(card),
    ]


def _text_autoencoder(card: dict[str, Any]) -> list[str]:
    n = card["parameters"]
    quality = [[name, f"{row['mean']:.2f}", f"{row['low']:.2f} to {row['high']:.2f}", f"{row['lowest']:.2f}", str(row["n"])]
               for name, row in card["psnr_db"].items()]  # fmt: skip
    return [
        f"diffusers `{card['class']}`, {card['compression']}, {n['full']:,} parameters ({n['decoder']:,} of them to decode).",
        "This page and `card.json` are written by `vidistill zoo card`; nothing here is typed by hand.",
        "",
        f'Load it with `vidistill.codec.load_codec("{card["name"]}")`, or with diffusers from this folder.',
        "",
        *_table(("measured on", "PSNR mean, dB", "95 %", "lowest clip", "clips"), quality),
        *_table(("packed weights", "bytes"), [[name, f"{size:,}"] for name, size in card["bytes"].items()]),
        f"Latents are scaled by {card['latents']['scaling_factor']:.4f} to about unit size over all training frames.",
        "",
    ]


def _text_training(card: dict[str, Any]) -> list[str]:
    training = card["training"]
    lines = ["## Training", ""]
    if training:
        known = (
            ("steps", "{:,} steps"),
            ("samples", "{:,} samples"),
            ("frames", "{:,} frames"),
            ("samples_per_second", "{:g} samples a second"),
            ("seed", "seed {}"),
            ("wall_minutes", "{:g} minutes on the clock"),
            ("cpu_minutes", "{:g} CPU minutes"),
            ("on", "on {}"),
        )
        parts = [form.format(training[key]) for key, form in known if training.get(key) is not None]
        lines.append(f"Trained on {training.get('data', 'Motion World')}: {', '.join(parts)}.")
        if training.get("start"):
            lines.append(f"It began from the weights of {Path(str(training['start'])).name}.")
        missed = [bar for bar in card["bars"] if bar["reached"] is False]
        if missed and str(training.get("on", "")).startswith("cpu"):
            many = f"{len(missed)} bar{'s are' if len(missed) > 1 else ' is'} not reached"
            lines.append(f"There was no GPU for it, and {many}; on one the recipe runs as it is: `vidistill train {card['name']}`.")
    else:
        lines.append("What the training cost was not kept.")
    lines.append(f"Motion World seeds: {', '.join(f'{seed} ({use})' for use, seed in card['seeds'].items())}.")
    if "jhmdb" in str(training.get("data", "")):
        lines.append(
            "The real frames are from JHMDB (Jhuang et al. 2013), clips of HMDB51 (Kuehne et al. 2011, CC BY 4.0); none is stored here."
        )
    else:
        lines.append("No real footage was used" + (f"; what {card['codec']} learned from is on its own card." if "codec" in card else "."))
    if card.get("environment"):
        lines.append(f"Measured with {', '.join(f'{name} {version}' for name, version in card['environment'].items() if version)}.")
    return lines
