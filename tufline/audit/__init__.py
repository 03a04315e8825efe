"""The audit of signatures: each use of an online key is a record, and all records of a process are a chain.

The signer writes a record before it uses the signatures that it tells of (``tufline_signer.signing.audit_trail``). Here is what a record is
(``records``), how a chain is made (``chain``), and how chains, files and published metadata are held against each other (``checks``,
``signatures``, ``verify``). ``docs/how-to/audit.md`` is for operators.
"""
