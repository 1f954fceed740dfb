"""Whole slides and the tiles that are drawn from them."""
