"""Tenants of a worker: who asks, how much, whose cache and whose adapter. All of it inside the seal."""
