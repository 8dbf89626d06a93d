"""The claims of three papers, judged by the numbers of a run. No torch."""
