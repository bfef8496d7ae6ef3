"""The data sets with names of their own, a file for each kind."""
