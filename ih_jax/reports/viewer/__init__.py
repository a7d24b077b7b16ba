"""The page that shows a run: measured, packed and written as one HTML file."""
