"""Wrong lines, planted one at a time, and the one test file that has to notice each."""
