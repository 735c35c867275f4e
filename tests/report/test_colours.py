"""Colours: text stands out on every square, and gains are told from losses by readers who see fewer colours."""

from __future__ import annotations

import numpy as np
import pytest

from layover.report.colours import LINES, PAPER, UNKNOWN, contrast, ink, paler, shade

# Machado, Oliveira & Fernandes 2009, severity 1, of linear light
SIGHT = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "all colours": np.eye(3).tolist(),
}


def lab(colour: str, sight: str) -> np.ndarray:
    """CIE L*a*b* of a colour as it is seen."""
    channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(SIGHT[sight]) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ seen
    x, y, z = (v ** (1 / 3) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz / [0.9505, 1.0, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def apart(one: str, other: str, sight: str) -> float:
    return float(np.linalg.norm(lab(one, sight) - lab(other, sight)))


def test_text_stands_out_on_every_square() -> None:
    grounds = [shade(delta, 100) for delta in range(-100, 101)] + [UNKNOWN]
    for ground in [*grounds, *map(paler, grounds)]:
        assert contrast(ink(ground), ground) >= 4.5


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("sight", SIGHT)
def test_gains_are_told_from_losses(sight) -> None:
    for size in (25, 50, 75, 100):  # 10 is a difference that is seen at a glance
        assert apart(shade(size, 100), shade(-size, 100), sight) > 10
        assert apart(shade(size, 100), shade(0, 100), sight) > 5


@pytest.mark.parametrize("sight", SIGHT)
def test_the_first_lines_are_told_apart(sight) -> None:
    first = LINES[:5]
    assert min(apart(a, b, sight) for i, a in enumerate(first) for b in first[:i]) > 10
    assert all(contrast(line, PAPER) >= 3 for line in first)  # WCAG 2.2, 1.4.11


def test_more_is_fuller() -> None:
    away = [apart(shade(delta, 100), PAPER, "all colours") for delta in (0, 20, 40, 60, 80, 100)]
    assert away == sorted(away)
    assert shade(250, 100) == shade(100, 100)
