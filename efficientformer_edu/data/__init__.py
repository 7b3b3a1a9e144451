"""Data sets and transforms: Fashion-MNIST, image folders, COCO, mask folders and synthetic scenes."""
