"""One W&B sweep file: searched anywhere, its runs compared, the best one retrained and reported."""
