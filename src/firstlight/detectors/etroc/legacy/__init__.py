"""What the original wrote: run directories, task reports, SQLite tables, and its commands."""
