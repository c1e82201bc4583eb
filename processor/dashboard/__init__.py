"""The web page: a fleet's devices, their charts, the pipeline's health, rejected records and their redrive.

`server.py` serves it, `app.py` has the routes, `guard.py` says who may ask; each of the other modules answers one
question (`fleet`, `series`, `health` and `cloudwatch`, `rejected`), and `events.py` tells what changed since.
"""
