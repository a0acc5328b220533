"""From verdict to grant: challenges, keys, leases, decisions and their log, and the client of workers and owners.

Start at `broker` (the rules), `client` (who speaks to them) and `stores.port` (what they need of a database); `opening`
puts a broker together from a state directory.
"""
