"""Load every match of the lake with kloppy. Run `ingestify run` first to have some.

kloppy takes about a second for each match:  pip install "ingestify[kloppy]"
"""

from ingestify.main import get_datastore

# The lake that config.yaml describes. Nothing is downloaded here: this only reads what you have.
store = get_datastore("config.yaml")

# Narrow it down with what identifies a match, for example season_id=90 or match_id=3773386.
for dataset in store.get_dataset_collection(provider="statsbomb", stage="raw"):
    # With three_sixty=True the 360 frames are loaded too, which takes some five seconds more.
    events = store.load_with_kloppy(dataset, three_sixty=False)
    print(f"Loaded dataset with {len(events.events)} events")

    # As a table:  events.to_df(engine="polars")
