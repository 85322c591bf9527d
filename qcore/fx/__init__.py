"""Graph mode, as small passes over torch.fx graphs: trace, fuse, observe, convert, fold, lower."""
