"""The observers, one kind to a file; users import them from qcore.api.observer."""
