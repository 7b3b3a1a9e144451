"""Training: data, recipes, distillation, and a training loop for one laptop or many GPUs."""
