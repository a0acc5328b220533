"""Credits that billing cannot follow: `issuer` signs what it cannot read, `till` takes each credit once (`spent`)."""
