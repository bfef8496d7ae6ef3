"""The report of `python -m vdvae.compare --out`: tables, figures and one page that holds all of it."""
