"""Masks: of padding, for scaled_dot_product_attention on a GPU, made without a look at what is padded.

transformers leaves the mask out where nothing is padded. To know that it reads the mask back in every pass, and so the
host waits for the GPU to get there before it can queue any more work.
"""

from __future__ import annotations

from typing import Any

import torch

NAME = "layover_sdpa"  # what transformers calls its own attention with these masks


def install(encoder: Any) -> None:
    """Let an encoder whose attention is transformers' `sdpa` have these masks; any other is left as it is."""
    if encoder.config._attn_implementation != "sdpa":
        return
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    AttentionInterface.register(NAME, sdpa_attention_forward)
    AttentionMaskInterface.register(NAME, whole)
    encoder.set_attn_implementation(NAME)


def whole(**options: Any) -> torch.Tensor | None:
    """The mask [batch, 1, queries, keys] that transformers makes for these options, though nothing be padded."""
    from transformers.masking_utils import sdpa_mask

    return sdpa_mask(**{**options, "allow_is_bidirectional_skip": False})
