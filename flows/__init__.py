"""What runs: one module per flow, each a contents page of tasks, and the command line."""
