"""Reference models that step cycles and events and move real numbers; they share no formula with `mapping` or `costs`."""
