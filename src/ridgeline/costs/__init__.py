"""What an operation costs on a chip: one formula, one place, one citation each. Arithmetic only: floats or arrays."""
