"""The life of a worker inside the TEE: prove, obtain, open, run, renew, drain, wipe.

It knows nothing of language models: what runs is a `Workload`, and inference and jobs are two of them.
"""
