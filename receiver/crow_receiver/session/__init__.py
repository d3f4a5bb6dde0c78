"""One hour of continuous footage of one camera: its state, its batches, its pattern windows, its end."""
