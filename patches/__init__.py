"""Brings the stable scales to a checkout of someone else's VDVAE code: python -m patches --help"""
