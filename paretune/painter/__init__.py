"""The painter: draw a digit in the browser and see what every saved model makes of it; collect drawings as a test set."""
