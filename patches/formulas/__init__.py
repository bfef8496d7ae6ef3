"""Recognises the KL and the draw by what they compute."""
