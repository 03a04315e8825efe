"""The forms of requests and answers, by resource. ``schemas/openapi.json`` is made from them.

Requests are lenient at the top, as RSTUF is, and strict in what goes into metadata. What an artifact says is taken as any JSON here, and
judged by ``tufline.metadata.target``, whose reasons are for people; what the server judges that way is in the description too.
"""
