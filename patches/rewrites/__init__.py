"""The three rewrites: latents, flags and counts. Each takes Sources and gives the modules that it changed."""
