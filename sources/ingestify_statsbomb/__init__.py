"""StatsBomb for ingestify: the open data on GitHub."""

from ingestify_statsbomb.open_data import StatsBombOpenData

__all__ = ["StatsBombOpenData"]
