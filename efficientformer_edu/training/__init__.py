"""Train it: data, the recipe as data, distillation, and a loop that goes from a laptop to many GPUs."""
