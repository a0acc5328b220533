"""The user's side: verify, then talk, and keep the receipts."""
