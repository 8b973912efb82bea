"""What tables say: statistics, drawings, reports."""
