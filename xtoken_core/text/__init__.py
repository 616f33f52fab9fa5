"""What is read off a text itself: windows, words, scripts, and what documents have in common."""
