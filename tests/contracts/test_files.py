"""Both FileStores keep the contract."""

from pathlib import Path

from ingestify.adapters.files.local import LocalFileStore
from ingestify.adapters.files.memory import MemoryFileStore
from ingestify.testing.contracts.files import FileStoreContract


class TestLocalFileStore(FileStoreContract):
    def opened(self, tmp_path):
        return LocalFileStore.at(tmp_path / "lake")

    def count_staged(self, store):
        staging = Path(store.root, ".ingestify", "staging")
        return len([path for path in staging.glob("*/*") if path.is_file()])


class TestMemoryFileStore(FileStoreContract):
    def opened(self, tmp_path):
        return MemoryFileStore.empty()

    def count_staged(self, store):
        return len(store.staged)
