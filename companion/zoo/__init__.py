"""What makes the shipped weights: recipes, training runs, experiments, checkpoints. It imports the science."""
