"""Scripts that show a hazard on the real thing; ADRs cite them."""
