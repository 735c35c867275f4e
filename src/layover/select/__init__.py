"""Select: which stop, if any, before paying for all of them."""
