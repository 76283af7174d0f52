"""How fast each step of a run is, and where its time goes."""
