"""Predictions against measurements: the schema's rows, a prediction of each, the errors by slice, and the fit of constants."""
