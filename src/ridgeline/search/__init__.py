"""Spaces of designs and scenarios: axes, sweeps, and what is kept of them."""
