"""How likely an image is given the decoder's final state; one file for each distribution of the pixels."""
