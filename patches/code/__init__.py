"""Reads Python code by its syntax tree and changes its text: everything else stays as it was, to the byte."""
