"""Plain frozen results, which know neither models nor drawing."""
