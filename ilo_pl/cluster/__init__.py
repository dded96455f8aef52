"""Runs over many machines by an engine that places, retries and streams: Ray Data."""
