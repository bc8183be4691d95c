"""When and where flows run: what is put on a Prefect server."""
