"""Select: which stop, if any, is worth making for one target, before the transfer is paid for."""
