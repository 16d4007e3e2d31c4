"""Reading and writing of tracks: every form in which they come."""
