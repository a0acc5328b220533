"""One folder per kind of TEE; in each: parse, verify, collect, measure. Kinds do not know each other."""
