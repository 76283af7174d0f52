"""Films of a policy at play: the frames, what is drawn on them, the file."""
