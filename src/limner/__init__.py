"""limner: train, measure and explore generative models of faces."""
