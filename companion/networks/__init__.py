"""Plain networks: they map tensors to tensors and know nothing of probability."""
