"""Published work set beside the models: the case study of the full-stack survey."""
