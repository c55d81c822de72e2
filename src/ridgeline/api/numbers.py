"""Number formats that compute: quantise an array, dequantise it, and how much noise that made."""

from ridgeline.numerics.formats import Quantised, dequantise, quantise, signal_to_noise

__all__ = ["Quantised", "dequantise", "quantise", "signal_to_noise"]
