"""Reads the syntax trees of a checkout, and changes them without touching another byte."""
