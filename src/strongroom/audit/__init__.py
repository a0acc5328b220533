"""Evidence bundles: what a broker decided, on which proof, in one file that anybody can check offline, by appraising again.

`bundle` reads and writes the file; `gather` chooses what goes in; `decisions` reads the log's leaves as an auditor does;
`verify` judges, with public keys only; `report` tells people what was found. Nothing here does I/O.
"""
