"""Load balancers before the API servers of an emulated cluster: what one has to do, and those there are."""
