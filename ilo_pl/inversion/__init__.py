"""The search: schedules, stages, Algorithm 1, and the LightningModule that drives it."""
