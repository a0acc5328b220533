"""The sealed channel: requests and answers that only the proved worker can read, over anybody's proxies.

`v2` and `heads` speak the wire of version 2, `ehbp` that of version 1 (EHBP); `completion` and `padding` close the holes of the
latter from within the plaintext, `replay` those in time. `server` and `server_v2` are the worker's ends, `exchange` and
`exchange_v2` the user's, which `client` and `httpx_adapter` fit into HTTP clients; `ohttp` speaks the wire of oblivious relays, with
`ohttp_server` at the worker's end, and `exchange_relayed`, `relayed` and `relayed_httpx` at the user's.
"""
