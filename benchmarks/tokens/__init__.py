"""Inputs with many outputs: what is generated, how it is read, and what is measured of it."""
