"""One self-contained page that shows what compression did: no network, complete without script."""
