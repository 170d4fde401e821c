"""The models: their shapes, checkpoints, encode and the one decode; ``architecture`` alone is free of torch."""
