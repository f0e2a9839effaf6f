"""What a run is judged by: report.json, report.html and pictures."""
