"""How it is done: one module per step of the workflow; plain functions, with a Prefect task as their public face."""
