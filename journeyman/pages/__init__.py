"""What reports and data cards are shown with: tables, charts and pages that open without a network."""
