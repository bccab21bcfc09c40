"""What others have, run as their users run it. Each file imports its library at the top and is imported where used."""
