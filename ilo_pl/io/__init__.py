"""Files in and out: images, run folders, tables, videos, measurements."""
