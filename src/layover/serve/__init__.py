"""Serve: a page that shows a study while it runs. It reads the store and changes nothing."""
