"""Statistics: pure functions of the observation table."""
