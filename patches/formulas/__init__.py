"""Recognises a KL and a draw by what they compute."""
