"""The story of strongroom on one machine, with real processes and a simulated TEE, and attacks on it, each refused."""
