"""`bench platform`: what a machine gives, figure by figure, so that a plain and a protected one can be held side by side.

Knows: which parts there are: `probe` (what is measured, in which sizes), `memory`, `kernel`, `disk`, `network`, `gpu`, `model`,
`training` (the measuring), `environment` (what the machine says of itself), `run` (all of it, in turns), `saved` (the file), `compare`,
`plot`. Does not know: the command line. Not covered: real networks, several GPUs, memory's latency.
"""
