"""What may be seen of a worker from outside: counts, times, codes; by an allow-list, and nothing else."""
