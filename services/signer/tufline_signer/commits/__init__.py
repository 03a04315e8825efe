"""The commit half of the signer: new bins, root and targets become a snapshot and a timestamp."""
