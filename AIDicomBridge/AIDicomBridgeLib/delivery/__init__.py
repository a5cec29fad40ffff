"""The outbox: sending results and proving that they arrived."""
