"""A small genome with planted motifs, a small Beluga that knows them, and the script that trained it."""
