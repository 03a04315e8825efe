"""Keys in the Transit engine of HashiCorp Vault or OpenBao."""
