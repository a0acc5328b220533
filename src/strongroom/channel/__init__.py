"""The sealed channel: requests and answers that only the proved worker can read, over anybody's proxies.

`ehbp` speaks the wire (EHBP version 1), `completion` and `padding` close its holes from within the plaintext,
`replay` those in time. `server` is the worker's end, `exchange` the user's, which `client` and `httpx_adapter` fit
into HTTP clients.
"""
