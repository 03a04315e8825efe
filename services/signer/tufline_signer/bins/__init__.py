"""The bins half of the signer: changes from ``artifacts`` become new versions of bins."""
