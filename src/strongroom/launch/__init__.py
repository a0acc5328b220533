"""From a bare host to a proven machine.

Knows: hosts and machines. Does not know: verdicts are the broker's; nothing that is said here of a host counts as proof.
"""
