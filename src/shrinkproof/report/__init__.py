"""One self-contained page that shows what compression did, without network and without script."""
