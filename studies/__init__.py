"""The systems of the source documents, reproduced by the product itself: `make study NAME=f3`, `make studies`."""
