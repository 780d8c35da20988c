"""A data lake of your own for match data."""
