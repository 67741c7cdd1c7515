"""Level 1: the small layers that backbones, heads and decoders are built from."""
