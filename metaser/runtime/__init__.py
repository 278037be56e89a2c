"""What everything stands on: errors, files, progress, threads, ranks, learn2learn's import."""
