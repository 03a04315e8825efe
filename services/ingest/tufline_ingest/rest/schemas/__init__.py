"""The types of requests and answers, by resource. ``schemas/openapi.json`` is made from them.

Requests are lenient at the top level, as in RSTUF, and strict in everything that goes into metadata. Here an artifact's metadata may be any
JSON; ``tufline.metadata.target`` checks it, and its messages are written for people. The OpenAPI document describes these checks too.
"""
