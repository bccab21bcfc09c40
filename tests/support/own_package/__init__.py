"""Stands for a user's package: layers and losses that hogpour's folders do not know."""
