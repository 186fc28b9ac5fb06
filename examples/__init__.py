"""Scripts to read and run. ``benchmarks.report`` draws a curve of one of them."""
