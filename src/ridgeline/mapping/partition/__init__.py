"""A step spread over chips: what each chip holds and does, which collectives join them, and what is done more than once."""

from ridgeline.mapping.partition.exchange import Exchange
from ridgeline.mapping.partition.layout import Layout, layout
from ridgeline.mapping.partition.stages import Partition, Stage, partition

__all__ = ["Exchange", "Layout", "Partition", "Stage", "layout", "partition"]
