"""Pieces of work on a run, which an engine does in any process, and what a process keeps."""
