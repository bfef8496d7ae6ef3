"""The checkout on disk: it is read, written as a whole or not at all, and restored."""
