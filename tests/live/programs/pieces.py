"""Writes a file to its standard output in pieces of a few bytes, so that every secret is cut."""

import os
import sys

with open(sys.argv[1], "rb") as file:
    data = file.read()
for start in range(0, len(data), 7):
    os.write(1, data[start : start + 7])
