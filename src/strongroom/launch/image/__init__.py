"""The worker image: a unified kernel image made of Debian packages and wheels that a lock names, byte for byte the same each time.

Nothing is installed and nobody needs to be root: packages are read, chosen files are put into an archive in a fixed order, and the
archive goes into one file behind systemd's stub. All of it is measured when it boots (`launch.measure`).
"""
