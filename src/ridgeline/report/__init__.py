"""Results become tables, plots, pages and JSON, each with the sources it used."""
