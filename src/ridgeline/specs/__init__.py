"""What things are: number formats, chips, systems, models, scenarios and plans, frozen and in SI units."""
