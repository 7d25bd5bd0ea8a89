"""The probe: a small network trained on a labelled dataset that reads attributes, pose and identity from pictures."""
