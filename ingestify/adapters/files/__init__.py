"""FileStores: where the bytes of Files are kept, on a local disk or in memory."""
