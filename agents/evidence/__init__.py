"""Evidence: plans, run folders, and what may be concluded: statistics, tables, figures, reports, boards."""
