"""What a run is configured with: typed keys, the YAML groups, ``key=value``."""
