"""Workloads on the river. They do not know each other; none has its own attestation, keys or log."""
