"""Signing: which key signs a role, how it is opened, and the audit trail of its uses."""
