"""The values that flow through ingestify. Frozen, checked where they enter, trusted after."""
