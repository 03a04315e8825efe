"""What tests, benchmarks and proofs share. No part of the product: nothing there imports it."""
