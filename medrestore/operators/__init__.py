"""Degradations y = A(x) and their reconstruction."""
