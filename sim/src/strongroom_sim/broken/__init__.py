"""Evidence that fails: for each kind a module with one piece of evidence for each check, which fails that check alone."""
