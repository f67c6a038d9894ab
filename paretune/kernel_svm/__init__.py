"""The arithmetic of support vector machines: kernel matrices, pairwise solvers, decisions."""
