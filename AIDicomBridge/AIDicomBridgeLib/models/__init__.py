"""Model cards, their catalogue, weights, and the networks and rules that can be loaded."""
