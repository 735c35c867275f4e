"""Report: a page computed from observations and contrasts alone."""
