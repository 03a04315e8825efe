"""Scripts that demonstrate a hazard on real software; ADRs cite them."""
