"""Training: the engine, its losses, and what a run leaves on disk."""
