"""Code shared by tests, benchmarks and proofs. It is not part of the product, which does not import it."""
