"""Select: which source is worth a stop, for one target, before the transfer is paid for."""
