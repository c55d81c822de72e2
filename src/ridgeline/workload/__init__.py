"""Models and scenarios become operations; nothing here knows a chip."""
