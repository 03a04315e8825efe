"""The audit of signatures: each use of an online key is a record, and all records of a process are a chain.

The signer writes a record before it uses the signatures that the record lists (``tufline_signer.signing.audit_trail``). ``records`` defines
the records, and ``chain`` makes a chain of them. ``tufline.checks.audit`` compares chains, files and published metadata.
``docs/how-to/audit.md`` is for operators.
"""
