"""Engines: what generates text, in a confined process without keys, network or files.

`port` says what a worker asks of one, `process` runs one, `confine` is the confinement, also for a user's own script.
"""
