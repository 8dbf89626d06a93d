"""What leaves the process: exported files, the sessions that run them, and candidates on disk."""
