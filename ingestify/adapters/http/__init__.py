"""Adapters of the port `Fetcher`: one HTTP exchange."""
