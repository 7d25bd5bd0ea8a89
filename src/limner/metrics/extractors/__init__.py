"""Networks whose features are compared, chosen by name."""
