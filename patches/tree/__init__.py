"""The checkout on disk: read, compared, written as a whole or not at all, and put back."""
