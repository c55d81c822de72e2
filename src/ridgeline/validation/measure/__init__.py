"""Micro-benchmarks of the machine that this runs on: a chip file that they make, and rows that judge it."""
