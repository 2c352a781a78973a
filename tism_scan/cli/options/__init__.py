"""Options that several commands share, each with the request that they fill."""
