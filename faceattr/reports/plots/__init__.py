"""Pictures of the reports, drawn by matplotlib."""
