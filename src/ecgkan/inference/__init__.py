"""Classifying recordings: recording and model in, annotated beats, files and figures out."""
