"""The application, its routes, and who may use them."""
