"""HTTP applications over the rooms: broker, log, gateway of a worker, the user's proxy."""
