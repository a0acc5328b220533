"""Where a broker keeps its state: `port` says what is needed, each other module is one way to give it."""
