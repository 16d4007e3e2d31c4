"""Pictures of tracks, hits and what was measured on them."""
