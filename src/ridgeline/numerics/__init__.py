"""Number formats and integer-only functions that really compute, bit by bit, on NumPy: references that the model never imports."""
