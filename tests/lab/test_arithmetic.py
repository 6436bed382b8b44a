"""What the papers' own storage and frame counts come to: the numbers of the specifications, digit for digit."""

from __future__ import annotations

import pytest

from vidistill.lab.arithmetic import CV_BYTES, MIB, frame_rows, storage_rows


@pytest.mark.parametrize(
    ("arm", "cores", "storage"),
    [
        ("MiniUCF, IPC 1, one decomposition", 27.47, 107.2),
        ("MiniUCF, IPC 1, chunks of 400", 23.81, 103.6),
        ("MiniUCF, IPC 1, raw latents", 57.42, 137.2),
        ("HMDB51, IPC 1, one decomposition", 28.13, 107.9),
        ("SSv2, IPC 1, one decomposition", 142.99, 222.8),
        ("SSv2, IPC 1, chunks of 400", 82.71, 162.5),
        ("K400, IPC 1, one decomposition", 383.20, 463.0),
        ("K400, IPC 1, chunks of 400", 46.30, 126.1),
        ("MiniUCF, IPC 1, pixels", 114.84, 114.8),
        ("HMDB51, IPC 1, pixels", 117.14, 117.1),
        ("K400, IPC 1, pixels", 150.0, 150.0),
        ("SSv2, IPC 1, pixels", 399.66, 399.7),
        ("MiniUCF, IPC 5, pixels", 574.22, 574.2),
        ("SSv2, IPC 5, pixels", 1998.28, 1998.3),
        ("MiniUCF, IPC 5, every clip", 104.25, 451.2),
        ("HMDB51, IPC 5, every clip", 128.55, 475.5),
    ],
)
def test_storage(arm, cores, storage):
    row = storage_rows()[arm]
    assert row["cores"]["mean"] == pytest.approx(cores, abs=0.006)
    assert row["storage"]["mean"] == pytest.approx(storage, abs=0.06)
    assert row["storage"]["exact"] is True


@pytest.mark.parametrize(
    ("arm", "measure", "value"),
    [
        ("SD-VAE, fp32", "storage", 319.1),
        ("SD-VAE, int8", "storage", 79.8),
        ("SD-VAE, int8", "saved", 75.0),
        ("SD-VAE, fp16", "saved", 50.0),
        ("CV-VAE, fp16 and int8", "times", 2.006),
        ("SSv2, of 16 x 112 x 112 pixels", "share", 55.7),
        ("SSv2, of 8 x 64 x 64 pixels", "share", 341.4),
    ],
)
def test_shares_and_sizes(arm, measure, value):
    assert storage_rows()[arm][measure]["mean"] == pytest.approx(value, abs=0.06 if value > 3 else 0.001)


def test_cv_vae_takes_347_mib():
    assert round(CV_BYTES / MIB) == 347


def test_frames_that_students_sample():
    rows = frame_rows()
    assert rows["MiniUCF, IPC 20"]["frames"]["mean"] == pytest.approx(21.45, abs=0.01)
    assert rows["HMDB51, IPC 20"]["frames"]["mean"] == pytest.approx(19.48, abs=0.01)
