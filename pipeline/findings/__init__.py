"""extract_findings: what the answers mean, as rows, changes and sums over zones."""
