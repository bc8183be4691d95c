"""modelkeep: Prefect flows that train a Keras model, prove that it is good, ship it and keep it alive."""

__version__ = "0.1.0"
