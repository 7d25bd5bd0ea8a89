"""Trained models side by side on equal terms: the verb `limner compare` and its page."""
