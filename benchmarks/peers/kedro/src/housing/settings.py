"""Kedro's own settings, none of them changed."""
