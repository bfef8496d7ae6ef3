"""Computes what a function of the user's computes, at single numbers, without running any of its code."""
