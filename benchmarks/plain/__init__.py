"""Plain renderings of the published algorithms, written to be compared with: straightforward, and not slowed down."""
