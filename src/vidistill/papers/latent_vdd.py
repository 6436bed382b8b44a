r"""Latent Video Dataset Distillation (LVDD, arXiv 2504.17132), whole and from top to bottom.

    clips x --E--> latents z --select--> S --Tucker--> (G; U_T, U_H, U_W) --int8--> one file --> z_hat --D--> clips --> student

    E, D            VAE encoder and decoder; z in [N, C, T, H, W]                                        (paper 3.1)
    L_ij            kernel between clips i and j of one class; P(S) ~ det(L_S), |S| = k                  (Eq. 2, 3)
    r               rank ratio: mode of size d keeps max(1, int(r d)); z_hat = G x_T U_T x_H U_H x_W U_W (Eq. 5-7)
    w ~ s q         int8 q with one scale s per output channel (decoder) or core slot                    (Eq. 8)

Every number stands beside its controls: random clips at equal bytes first of all, for the published kernel is the identity.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from vidistill import __version__
from vidistill.codec import encode_store, load_codec, pack, unpack
from vidistill.compress import compress, load_distilled, save_distilled, save_within, spectrum
from vidistill.data import KNOBS as CLIP_KNOBS
from vidistill.data import VideoSet, describe
from vidistill.files import ensure_folder, file_digest
from vidistill.knobs import Knob, Knobs
from vidistill.measure import mean_psnr, pick_arms, run_trials, summarise
from vidistill.papers.sets import judge, judged, real_clips
from vidistill.select import KERNELS, SELECTORS, check_k, select
from vidistill.student import KNOBS as STUDENT_KNOBS
from vidistill.types import Progress, Report, silent

ARMS: dict[str, tuple[str, dict[str, Any]]] = {  # name: (role, what it changes in the method's knobs)
    "method": ("method", {}),
    "random": ("control", {"selector": "random"}),
    "dpp-official": ("control", {"selector": "dpp", "kernel": "official"}),
    "dpp-rbf": ("control", {"selector": "dpp", "kernel": "rbf-median"}),
    "greedy-map": ("control", {"selector": "greedy-map", "kernel": "rbf-median"}),
    "k-means": ("control", {"selector": "k-means"}),
    "k-center": ("control", {"selector": "k-center"}),
    "herding": ("control", {"selector": "herding"}),
    "svd": ("control", {"decomposition": "svd", "basis": "shared"}),  # at equal bytes
    "whole-set": ("control", {"selector": "all"}),  # every training clip, squeezed into equal bytes
    "official-store": ("control", {"decomposition": "hooi", "basis": "chunk", "core_dtype": "fp32", "budget_kib": 0}),
    "full-data": ("reference", {}),  # real pixels, no codec
}
EQUAL_BYTES = ("svd", "whole-set")
SHOWN = ("bytes", "error", "psnr", "ranks", "clips")  # of the first seed
HOW = ("decomposition", "rank_ratio", "reading", "basis", "core_dtype")  # the knobs of step 4

KNOBS = Knobs(
    "latent_vdd",
    *CLIP_KNOBS,
    Knob("codec", "lab-vae", "VAE: a zoo name, a folder or a hub id", source="paper: stabilityai/sd-vae-ft-mse", group="codec"),
    Knob("latent", "mode", "posterior mean or a sample", choices=("mode", "sample"), source="official: sample", group="codec"),
    Knob("codec_part", "decoder", "codec weights the file carries", choices=("decoder", "full"), source="only D is needed", group="codec"),
    Knob("codec_dtype", "int8", "number format of those weights", choices=("fp32", "fp16", "int8"), source="LVDD Eq. 8", group="codec"),
    Knob("selector", "dpp", "how clips are chosen within a class", choices=SELECTORS, source="LVDD 3.2", group="selection"),
    Knob("kernel", "rbf-median", "similarity of two clips", choices=KERNELS, symbol="L", source="LVDD Eq. 2", group="selection"),
    Knob("bandwidth", 1.0, "kernel width, in median distances", low=0.05, high=10, step=0.05, source="ours", group="selection"),
    Knob("instances", 24, "clips kept per class", low=1, high=10000, symbol="k", unit="clips", source="LVDD 4.1, IPC 1", group="selection"),
    Knob("decomposition", "st-hosvd", "which decomposition", choices=("st-hosvd", "hooi", "svd"), source="official", group="compression"),
    Knob("rank_ratio", 0.75, "share of each mode that is kept", low=0, high=1, open_low=True, step=0.05, symbol="r", source="Table 3",
         equation=r"\hat z = G \times_T U_T \times_H U_H \times_W U_W \quad r_k = \lfloor r d_k \rfloor", group="compression"),
    Knob("reading", "per-mode", "what the ratio counts", choices=("per-mode", "per-parameter"), source="official", group="compression"),
    Knob("basis", "shared", "clips that share factors", choices=("shared", "class", "chunk"), source="official", group="compression"),
    Knob("core_dtype", "int8", "format of the cores", choices=("fp32", "fp16", "int8"), source="official: fp32", group="compression"),
    Knob("budget_kib", 0, "size of cores and factors, 0 follows r", low=0, high=2**21, unit="KiB", source="ours", group="compression"),
    *STUDENT_KNOBS,
    Knob("arms", "all", "all, or a comma list of: " + " ".join(ARMS), source="controls come with the method", group="controls"),
)  # fmt: skip


def run(values: dict[str, Any], videos: VideoSet, out: Path, *, device: str = "cpu", seed: int = 0, progress: Progress = silent) -> Report:
    """Distil ``videos`` into ``out/distilled.safetensors`` and score it beside every control.

    Args:
        out: folder; ``parts/`` in it keeps each finished arm and seed, so that an interrupted run resumes with the same result.
        seed: repetition s uses ``seed + s`` for its selection and its network.
        progress: ``progress(stage, done, total)``; raise ``Cancelled`` in it to stop.

    Raises:
        InputError: a knob is unknown or out of range, a class has fewer clips than ``instances``, or ``out`` cannot be written.
    """
    k = KNOBS.resolve(values)
    names = pick_arms(k["arms"], ARMS, always=("method", "random"))  # a number never stands without its control
    if k["selector"] != "all":
        check_k(k["instances"], [sum(item.label == label for item in videos.train) for label in range(len(videos.classes))], videos.classes)
    parts = ensure_folder(out / "parts")
    now = parts / "now.safetensors"  # the file of the trial that runs
    # 1. Clips x: decoded once, cached; a bad file is skipped and named in the report.
    train, test = (real_clips(k, videos, side, seed, progress) for side in ("train", "test"))
    # 2. Latents z = E(x), and D as the file will carry it (Eq. 8): students see only what the file itself decodes to.
    codec = load_codec(k["codec"], device=device, dtype="bf16" if device.startswith("cuda") else "fp32")
    z = encode_store(codec, train, latent=k["latent"], seed=seed, progress=progress)
    packed, record = pack(codec, k["codec_part"], k["codec_dtype"])
    decoder = unpack(packed, record, device=device)

    def distil(arm: dict[str, Any], seed: int, path: Path, limit: int | None = None) -> dict[str, Any]:
        # 3. S ~ k-DPP(L) within each class (Eq. 2-3), or a control's own choice.
        picked = select(z, selector=arm["selector"], kernel=arm["kernel"], bandwidth=arm["bandwidth"], k=arm["instances"], seed=seed)
        kept = z.take(picked.index)
        # 4. z ~ G x_T U_T x_H U_H x_W U_W (Eq. 5-7), cores quantised. 5. One file: cores, factors, decoder, labels.
        facts: dict[str, Any] = {"labels": kept.labels, "classes": z.classes, "names": (), "frames": z.frames}
        facts |= {"protocol": train.protocol.as_dict(), "meta": {name: arm[name] for name in ("selector", "kernel")}}
        facts |= {"codec_record": record, "codec_tensors": packed}
        how = {knob: arm[knob] for knob in HOW}
        if limit is None:
            tucker = compress(kept.z, kept.labels, budget=arm["budget_kib"] * 1024 or None, **how)
            size = save_distilled(path, tucker, **facts)
        else:  # equal bytes: the same file length
            tucker, size = save_within(path, kept.z, limit, how, **facts)
        found = {"bytes": size, "error": tucker.error(kept.z), "ranks": list(tucker.ranks), "clips": len(kept)}
        return found | {"kernel": picked.diagnostics, "picked": picked.index.tolist()}

    limit = distil(k, seed, out / "distilled.safetensors")["bytes"]["total"]

    @lru_cache(maxsize=1)  # herding, k-center, all ... write the same file whatever the seed
    def decoded(sha256: str) -> tuple[Any, Any]:
        decoded.cache_clear()  # never two sets of pixels in memory
        stored = load_distilled(now)
        return decoder.decode(stored.z, stored.frames), stored.labels  # 6. x_hat = D(z_hat)

    def score(name: str, seed: int, alive: Progress) -> dict[str, Any]:
        if name == "full-data":
            pixels, labels, part = train, train.labels, dict.fromkeys(("bytes", "error", "ranks", "kernel", "psnr")) | {"clips": len(train)}
        else:
            part = distil(k | ARMS[name][1], seed, now, limit if name in EQUAL_BYTES else None)
            pixels, labels = decoded(file_digest(now))
            part["psnr"] = mean_psnr(pixels, train.batch, part["picked"])
        # 7. Students learn from decoded pixels and are tested on real ones.
        return part | judge(k, pixels, labels, test, seed=seed, device=device, progress=alive)

    inputs, special = [train.key, test.key, codec.fingerprint, device, __version__], (*EQUAL_BYTES, "full-data")
    keys = {name: [inputs, k | ARMS[name][1] | {"arms": "", "seeds": 0}, name if name in special else ""] for name in names}
    table, notes = run_trials(score, keys, range(seed, seed + k["seeds"]), parts, progress, optional=EQUAL_BYTES)
    now.unlink(missing_ok=True)

    facts = {name: {"role": ARMS[name][0]} | {fact: (k | ARMS[name][1])[fact] for fact in ("selector", "kernel")} for name in table}
    arms = summarise(table, "random", "top1", also=("top5", "mean_class"), first=SHOWN, facts=facts)
    lamps = {name: trials[0]["kernel"] for name, trials in table.items() if trials[0]["kernel"]}
    notes += [f"{name}: {lamp['note']}" for name, lamp in lamps.items() if lamp["note"]]
    extra = {"kernels": lamps, "spectrum": spectrum(z.z), "codec": record}
    return Report("latent_vdd", k, describe(videos, train, test), arms, notes, extra, judged(videos.classes))
