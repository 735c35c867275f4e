"""Colours: what the page and the figures are painted with, told apart by readers who see fewer colours.

Differences: ColorBrewer's RdBu (Harrower & Brewer 2003), blue for gains, red for losses, white at 0; it was chosen by
its authors to be safe for colour-blind readers. Lines: Okabe & Ito (2008), darkened where one was too faint on white.
No fact is told by colour alone: every number has its sign, and every verdict its word.
"""

from __future__ import annotations

from collections.abc import Sequence

INK, FAINT, PAPER, BLACK = "#1f2430", "#5b6270", "#ffffff", "#000000"
HELPS, HURTS, NOISE, COLLAPSE = "#2166ac", "#b2182b", "#8a8f99", "#9a6700"
VERDICTS = {"helps": HELPS, "hurts": HURTS, "within noise": NOISE, "collapse": COLLAPSE, "untested": NOISE}
SCALE = (
    (178, 24, 43), (214, 96, 77), (244, 165, 130), (253, 219, 199), (247, 247, 247),
    (209, 229, 240), (146, 197, 222), (67, 147, 195), (33, 102, 172),
)  # fmt: skip
LINES = ("#1f2430", "#0072b2", "#d55e00", "#00815d", "#a8568c", "#8a6d00", "#3aa0d8", "#7a4fb5")
UNKNOWN = "#eceef1"
WITHIN_NOISE = 0.45  # of the colour of a difference that is within noise


def shade(delta: float | None, limit: float) -> str:
    """The colour of a difference on a scale from -limit to limit."""
    if delta is None:
        return UNKNOWN
    place = (max(-limit, min(limit, delta)) / limit + 1) / 2 * (len(SCALE) - 1)
    left = min(int(place), len(SCALE) - 2)
    share = place - left
    return _hex([a + share * (b - a) for a, b in zip(SCALE[left], SCALE[left + 1], strict=True)])


def paler(colour: str, share: float = WITHIN_NOISE) -> str:
    """A colour with white mixed in, of which `share` is left."""
    return _hex([share * channel + (1 - share) * 255 for channel in _channels(colour)])


def ink(ground: str) -> str:
    """Black or white, whichever stands out more from a ground: of any ground one does by 4.5 or more."""
    return max((BLACK, PAPER), key=lambda one: contrast(one, ground))


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, 1 to 21 (WCAG 2.2)."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [channel / 255 for channel in _channels(colour)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _channels(colour: str) -> list[int]:
    return [int(colour[place : place + 2], 16) for place in (1, 3, 5)]


def _hex(channels: Sequence[float]) -> str:
    return "#" + "".join(f"{round(channel):02x}" for channel in channels)
