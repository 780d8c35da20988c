"""The flow of a Run, one verb a module: discover, plan, fetch, commit, in a pool of workers."""
