"""What everything stands on: errors, files, progress, threads, processes, learn2learn's import."""
