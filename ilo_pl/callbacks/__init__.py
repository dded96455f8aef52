"""Lightning callbacks. Import them from their modules: some need ILOInversion, which needs one of them."""
