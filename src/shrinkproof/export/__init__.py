"""What is handed over: the files of one candidate, checked once more, and their model card."""
