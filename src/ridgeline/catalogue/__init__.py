"""Numbers with sources: TOML, CSV and BibTeX files become specs."""
