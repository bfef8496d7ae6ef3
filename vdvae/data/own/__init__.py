"""Anybody's own images: folders of files and arrays, how they are checked, split and measured."""
