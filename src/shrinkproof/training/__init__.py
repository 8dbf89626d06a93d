"""Training for recovery: how images reach the network, and the loop."""
