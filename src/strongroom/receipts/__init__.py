"""Receipts and the transparency log: what a worker did, and what a broker decided, so that anyone can check it later.

`receipt` signs and verifies receipts; `identity` a broker's keys; `note` the log's signed checkpoints; `tiles` how
a log lies on disk and the tree over it; `proof` that an entry is in a log and that a log only grows. Nothing here does
I/O or judges evidence.
"""
