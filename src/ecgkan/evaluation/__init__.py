"""Scoring models: figures of merit with intervals, tables, figures, and the reference's results beside ours."""
