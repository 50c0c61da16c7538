"""Bracketed scenes: where their files lie, how they are read, and how training crops are drawn from them."""
