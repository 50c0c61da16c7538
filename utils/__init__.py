"""Everything around the network: files, exposures, checkpoints, losses, metrics, the training engine, reports."""
