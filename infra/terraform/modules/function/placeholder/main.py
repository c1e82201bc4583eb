"""The package a function is created with, until its code is deployed.

It fails on purpose: a batch that it were to accept would be gone. The mapping retries until real code is there.
"""


def handle(event, context):
    """Refuse the event."""
    raise RuntimeError("no code has been deployed yet: run `apex deploy -e ENV` in apex/, or `processor deploy`")
