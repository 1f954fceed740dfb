"""Evaluation of restorations that have several target contrasts: what MR images must hold."""
