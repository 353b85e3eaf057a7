"""The library under the scripts: two wings, measuring and judging, that meet in `records`."""
