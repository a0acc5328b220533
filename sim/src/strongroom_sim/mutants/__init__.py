"""Changed evidence for the mutation campaign: blind changes to any byte, and aware ones that are signed again by fake chips."""
