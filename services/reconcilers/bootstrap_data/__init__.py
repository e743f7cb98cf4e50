"""The service from which hosts fetch their bootstrap data (secret transport ``Fetch``): one token opens one host's data once.

It runs inside every reconcilers worker for which FLEETWAKE_BOOTSTRAP_DATA_URL is set: a worker holds the rights to all it needs anyway, and any of them can
answer any host, because what counts is written on the API server. ``access`` decides, ``handing_out`` does, ``server`` listens, ``authority`` vouches for it.
"""
